"""A miniature CLIP in the layout of transformers, random weights, written by transformers itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

START, END = "<|startoftext|>", "<|endoftext|>"
LETTERS = "abcdefghijklmnopqrstuvwxyz.,-/:()0123456789"
MERGED = ("t h", "th e</w>", "l u", "lu n", "lun g</w>", "h e", "he a", "hea r", "hear t</w>", "n o</w>")


def make_tokenizer() -> CLIPTokenizer:
    """Byte pairs as CLIP's: single letters, a few words, and the two special tokens at the end."""
    merged = [tuple(pair.split()) for pair in MERGED]
    tokens = ["!", "!</w>", *LETTERS, *(f"{letter}</w>" for letter in LETTERS), *("".join(pair) for pair in merged)]
    vocabulary = {token: index for index, token in enumerate([*dict.fromkeys(tokens), START, END])}
    return CLIPTokenizer(vocab=vocabulary, merges=merged, model_max_length=40)


def build(folder: Path, *, seed: int = 0, pixels: int = 64, **changes: Any) -> CLIPModel:
    """Write a folder (4 blocks of width 32, patches of 16 pixels, 16 dimensions); transformers' own model of it.

    changes: to the text tower's configuration.
    """
    tokenizer = make_tokenizer()
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4}
    vision = sizes | {"num_hidden_layers": 4, "image_size": pixels, "patch_size": 16}
    text = sizes | {"num_hidden_layers": 2, "vocab_size": len(tokenizer), "max_position_embeddings": 40}
    text |= {"bos_token_id": len(tokenizer) - 2, "eos_token_id": len(tokenizer) - 1, "pad_token_id": 1} | changes
    config = CLIPConfig(vision_config=vision, text_config=text, projection_dim=16)
    model = CLIPModel(config).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name == "logit_scale":
                weight.fill_(3.0)
            elif weight.ndim > 1:
                weight.copy_(torch.randn(weight.shape, generator=generator) * weight.shape[-1] ** -0.5)
            else:
                weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": pixels}, crop_size=pixels).save_pretrained(folder)
    return model
