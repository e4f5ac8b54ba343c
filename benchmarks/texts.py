"""Encode prompts with a BERT-base text tower: padded as far as the longest needs, against padded to the whole context.

    python benchmarks/texts.py [--rounds 3]

Random weights, the size of BiomedCLIP's text tower; the prompts are chexpert-14's. Timed in turn in one run.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time

import torch
from transformers import BertConfig, BertModel

from radlens.core.vocabulary import load_vocabulary
from radlens.models.tokenizer import trim_padding

CONTEXT, PAD = 256, 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    tower = BertModel(BertConfig(), add_pooling_layer=False).eval()
    prompts = [t for label in load_vocabulary("chexpert-14").labels for t in (*label.positive, *label.negative)]
    ids = torch.full((len(prompts), CONTEXT), PAD)
    for row, prompt in enumerate(prompts):
        # a word is one token of its own, or two where it is long; which ones does not matter to the clock
        length = 2 + sum(1 + (len(word) > 7) for word in prompt.split())
        ids[row, :length] = torch.randint(1000, 28000, (length,))

    def encode(padded: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return tower(input_ids=padded, attention_mask=(padded != PAD).long()).last_hidden_state[:, 0]

    seconds: dict[str, list[float]] = {"whole context": [], "trimmed": []}
    found = {}
    for _ in range(arguments.rounds):
        for name, padded in (("whole context", ids), ("trimmed", trim_padding(ids, PAD))):
            start = time.perf_counter()
            found[name] = encode(padded)
            seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    for name, value in medians.items():
        print(f"{name:14} {value:7.2f} s for {len(prompts)} prompts")
    difference = (found["trimmed"] - found["whole context"]).abs().max() / found["whole context"].abs().max()
    print(f"ratio          {medians['whole context'] / medians['trimmed']:7.1f}")
    print(f"largest relative difference {difference:.1e}")
    print(f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}")


if __name__ == "__main__":
    main()
