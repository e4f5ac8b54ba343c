"""Fine-tune a ViT-B/16, batch 24: seconds a step, peak memory, time waiting for images; radlens against a bare loop.

    python benchmarks/fine_tune.py [--steps 3] [--batch 24] [--edge 1024] [--only float32 ...]

Random weights, 14 labels, radiographs of 1024 x 1024 (`--edge`) in memory. Every line is a process of its own, whose
peak memory is read from the kernel (it holds the encoder twice: as released, and the copy that is trained). `ratio`
compares a step with that of a bare PyTorch loop (forward, masked loss, backward, AdamW) over batches that were made
beforehand; the two are timed in turn in one process: bare, radlens, bare. On a processor the preparation of the next
images shares the cores with the training; `--edge 224` leaves next to nothing of it, so that what remains is the
training's own.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from encode import make_encoder
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from radlens.core.parts import AdaptationTask, Setting, TrainingPlace
from radlens.core.spec import build_part
from radlens.core.vocabulary import load_vocabulary

MODES: dict[str, tuple[str, dict[str, Any]]] = {
    "float32": ("fine-tune", {}),
    "float32, checkpointing": ("fine-tune", {"activation_checkpointing": True}),
    "float32, accumulate 4": ("fine-tune", {"accumulate": 4}),
    "bf16": ("fine-tune", {"precision": "bf16"}),
    "bf16, checkpointing": ("fine-tune", {"precision": "bf16", "activation_checkpointing": True}),
    "last 2 blocks": ("fine-tune", {"last_k_blocks": 2}),
    "LoRA": ("lora", {}),
    "LoRA, bf16": ("lora", {"precision": "bf16"}),
}
COMPARED = ("float32", "bf16")


class Films:
    """As many radiographs as asked for, all of the same noise but for a shift."""

    edge = 1024

    def __init__(self, count: int) -> None:
        self.image_ids = [str(row) for row in range(count)]
        self.noise = np.random.default_rng(0).integers(0, 256, (self.edge, self.edge)).astype(np.uint8)

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getitem__(self, row: int) -> npt.NDArray[np.uint8]:
        return np.roll(self.noise, 7 * row, axis=0)


def make_task(images: int, folder: Path, at_step: Any) -> AdaptationTask:
    generator, vocabulary = np.random.default_rng(0), load_vocabulary("chexpert-14")
    films = {"train": Films(images), "val": Films(1)}
    return AdaptationTask(
        vocabulary=vocabulary,
        embeddings={split: generator.normal(size=(len(f), 512)).astype(np.float32) for split, f in films.items()},
        targets={split: generator.integers(0, 2, (len(f), 14)).astype(np.float32) for split, f in films.items()},
        encode_texts=lambda texts: np.zeros((len(texts), 512), np.float32),
        logit_scale=1.0,
        seed=0,
        progress=at_step,
        encoder=make_encoder(),
        images=films,
        place=TrainingPlace(folder, device="cpu"),
    )


def radlens_steps(setting: str, options: dict[str, Any], steps: int, batch: int) -> tuple[list[float], float]:
    """Seconds of each step but the first, from end to end; share of the time that was spent waiting for images."""
    ends: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        task = make_task((steps + 1) * batch, Path(folder), lambda done, total: ends.append(time.perf_counter()))
        task.targets["val"][:] = 1
        asked = {"epochs": 2, "patience": None, "batch_size": batch} | options
        part: Setting = build_part("settings", setting, asked)
        card = part.fit(task).card
    # the last call fills the bar
    return list(np.diff(ends[:-1])), float(card["data_wait_share"])


def bare_steps(precision: str, steps: int, batch: int) -> list[float]:
    """Seconds of each step but the first."""
    task = make_task(batch, Path(), None)
    assert task.encoder is not None
    films = task.images["train"]
    pixels = torch.from_numpy(np.stack([task.encoder.transform(films[row]) for row in range(batch)]))
    targets = torch.from_numpy(task.targets["train"])
    tower, head = task.encoder.image_module.requires_grad_(True).train(), nn.Linear(512, 14)
    optimiser = torch.optim.AdamW([*tower.parameters(), *head.parameters()], lr=1e-5, weight_decay=1e-2, fused=True)
    seconds = []
    for _ in range(steps + 1):
        begun = time.perf_counter()
        optimiser.zero_grad()
        with torch.autocast("cpu", torch.bfloat16) if precision == "bf16" else nullcontext():
            logits = head(tower(pixels)).float()
        known = ~targets.isnan()
        binary_cross_entropy_with_logits(logits[known], targets[known]).backward()
        optimiser.step()
        seconds.append(time.perf_counter() - begun)
    return seconds[1:]


def measure(mode: str, steps: int, batch: int, compare: bool) -> dict[str, Any]:
    setting, options = MODES[mode]
    if not compare:
        seconds, waited = radlens_steps(setting, options, steps, batch)
        return {"seconds": statistics.median(seconds), "waited": waited}
    bare = bare_steps(mode, steps, batch)
    ours, waited = radlens_steps(setting, options, steps, batch)
    bare += bare_steps(mode, steps, batch)
    return {"seconds": statistics.median(ours), "bare": statistics.median(bare), "waited": waited}


def in_a_process_of_its_own(mode: str, steps: int, batch: int, compare: bool) -> tuple[dict[str, Any], float]:
    """What `measure` found, and the peak resident memory in GiB."""
    sizes = ["--steps", str(steps), "--batch", str(batch), "--edge", str(Films.edge)]
    command = [sys.executable, __file__, "--inside", mode, *sizes]
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen([*command, *(["--compare"] if compare else [])], stdout=out)
        _, status, usage = os.wait4(process.pid, 0)
        if status != 0:
            raise SystemExit(f"{mode} failed")
        out.seek(0)
        found = json.loads(out.read().splitlines()[-1])
    return found, usage.ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--edge", type=int, default=Films.edge)
    parser.add_argument("--only", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--inside", choices=MODES, help=argparse.SUPPRESS)
    parser.add_argument("--compare", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    Films.edge = asked.edge
    if asked.inside:
        print(json.dumps(measure(asked.inside, asked.steps, asked.batch, asked.compare)))
        return
    print(f"{'':24} {'s a step':>9} {'peak GiB':>9} {'waiting':>8}")
    for mode in asked.only:
        found, memory = in_a_process_of_its_own(mode, asked.steps, asked.batch, False)
        print(f"{mode:24} {found['seconds']:9.2f} {memory:9.2f} {found['waited']:8.1%}", flush=True)
    for mode in (mode for mode in COMPARED if mode in asked.only):
        found, _ = in_a_process_of_its_own(mode, asked.steps, asked.batch, True)
        ratio = found["seconds"] / found["bare"]
        told = f"radlens {found['seconds']:.2f} s, bare loop {found['bare']:.2f} s a step"
        print(f"{mode}: {told}: ratio {ratio:.3f} (aim 1.05)", flush=True)
    print(f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}")


if __name__ == "__main__":
    main()
