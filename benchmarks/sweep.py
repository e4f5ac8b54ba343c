"""Probes of 8 losses x 5 seeds trained together, against one probe: through the same bank, alone, and in plain PyTorch.

    python benchmarks/sweep.py [--epochs 10] [--rounds 3] [--protocol]

All are timed in turn in one process on one thread, over the same epochs; the least of the rounds counts, for other work
on the machine only ever adds. `--protocol` also runs the paper's own length, 100 epochs with patience 10, once each.
Exit code 1 when a head of the bank does not end in the loss that `fit_logistic` ends in.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from radlens.adapt.logistic import fit_logistic
from radlens.adapt.losses import LOSSES, LossSpec
from radlens.adapt.probe_bank import BankFit, Variant, fit_bank

Floats = npt.NDArray[np.float32]
TRAIN, VAL, DIMENSION, BATCH, RATE, DECAY = 5229, 747, 512, 24, 1e-3, 1e-2
# shares of positives as among IU-Xray's 14 labels
PREVALENCE = (0.6, 0.03, 0.11, 0.13, 0.04, 0.012, 0.008, 0.02, 0.08, 0.006, 0.04, 0.015, 0.021, 0.05)
GRID = [Variant(LossSpec(name=name), seed, RATE, DECAY) for name in LOSSES for seed in range(5)]
ONE = [Variant(LossSpec(), 0, RATE, DECAY)]
ALL_BCE = [Variant(LossSpec(), seed, RATE, DECAY) for seed in range(5) for _ in LOSSES]


def cohort(seed: int = 0) -> tuple[tuple[Floats, Floats], tuple[Floats, Floats]]:
    """Train and val: embeddings (N, D) with a planted direction a label, and targets (N, L) drawn from it."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(TRAIN + VAL, DIMENSION))
    directions = generator.normal(size=(len(PREVALENCE), DIMENSION)) / DIMENSION**0.5
    scores = 2 * x @ directions.T + generator.logistic(size=(len(x), len(PREVALENCE)))
    cuts = [np.quantile(scores[:, i], 1 - share) for i, share in enumerate(PREVALENCE)]
    y = (scores > np.array(cuts)).astype(np.float32)
    x = x.astype(np.float32)
    return (x[:TRAIN], y[:TRAIN]), (x[TRAIN:], y[TRAIN:])


def plain(train: tuple[Floats, Floats], epochs: int) -> float:
    """One probe as it is usually written, without a DataLoader: sliced tensors, nn.Linear, autograd, torch's AdamW."""
    x, y = map(torch.from_numpy, train)
    layer = nn.Linear(DIMENSION, y.shape[1])
    optimiser = torch.optim.AdamW(layer.parameters(), lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(BATCH):
            optimiser.zero_grad()
            binary_cross_entropy_with_logits(layer(x[rows]), y[rows]).backward()
            optimiser.step()
        schedule.step()
    return float("nan")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--protocol", action="store_true", help="also 100 epochs with patience 10")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print(f"machine: {platform.platform()}, {platform.machine()}, {os.cpu_count()} cores; one thread")
    print(f"torch {torch.__version__}, numpy {np.__version__}")
    print(f"{TRAIN} x {DIMENSION} embeddings, {len(PREVALENCE)} labels, batch {BATCH}; {len(GRID)} heads")
    train, val = cohort()
    found: dict[str, list[BankFit]] = {}

    def bank(name: str, variants: list[Variant], epochs: int, patience: int) -> float:
        found[name] = fit_bank(train, val, variants, epochs=epochs, batch_size=BATCH, patience=patience)
        return min(fit.best.val_bce for fit in found[name] if fit.variant == ONE[0])

    def alone(epochs: int, patience: int) -> float:
        fit = fit_logistic(
            train,
            val,
            learning_rate=RATE,
            weight_decay=DECAY,
            epochs=epochs,
            batch_size=BATCH,
            patience=patience,
            generator=np.random.default_rng(0),
        )
        return fit.best.val_bce

    def contest(epochs: int, patience: int, rounds: int) -> float:
        """Print seconds and ratios; the largest relative difference of bce's validation loss to `fit_logistic`'s."""
        runs: dict[str, Callable[[], float]] = {
            "40 heads together": lambda: bank("40", GRID, epochs, patience),
            "40 heads, all bce": lambda: bank("bce", ALL_BCE, epochs, patience),
            "one head, same bank": lambda: bank("1", ONE, epochs, patience),
            "one head, fit_logistic": lambda: alone(epochs, patience),
        }
        if patience >= epochs:
            runs["one head, plain PyTorch"] = lambda: plain(train, epochs)
        seconds: dict[str, float] = {}
        losses: dict[str, float] = {}
        for _ in range(rounds):
            for name, run in runs.items():
                begun = time.perf_counter()
                losses[name] = run()
                seconds[name] = min(seconds.get(name, float("inf")), time.perf_counter() - begun)
        print(f"\n{epochs} epochs, patience {patience}, least of {rounds} round(s)")
        for name, value in seconds.items():
            ratio = seconds["40 heads together"] / value
            print(f"  {name:24} {value:8.2f} s   40 together: {ratio:5.1f} times   bce on val {losses[name]:.6f}")
        own = losses.pop("one head, fit_logistic")
        losses.pop("one head, plain PyTorch", None)
        return max(abs(value - own) / own for value in losses.values())

    apart = contest(asked.epochs, asked.epochs, asked.rounds)
    if asked.protocol:
        apart = max(apart, contest(100, 10, 1))
        for name in LOSSES:
            fits = [fit for fit in found["40"] if fit.variant.loss.name == name]
            ran = ", ".join(str(len(fit.history)) for fit in fits)
            best = np.mean([fit.best.val_bce for fit in fits])
            print(f"  {name:24} epochs run {ran}; mean least validation cross-entropy {best:.4f}")
    print(f"\nlargest relative difference of bce's validation loss to fit_logistic's: {apart:.1e} (at most 1e-3)")
    return 0 if apart <= 1e-3 else 1


if __name__ == "__main__":
    sys.exit(main())
