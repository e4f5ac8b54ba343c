"""Probes of 8 losses x 5 seeds trained together, against one probe: in plain PyTorch, through the same bank, alone.

    python benchmarks/sweep.py [--epochs 10] [--rounds 3] [--protocol]

"One" is the probe that is usually written: sliced tensors, `nn.Linear`, autograd, `torch.optim.AdamW`. All are timed in
turn in one process on one thread over the same epochs; the least of the rounds counts,
for other work on the machine only ever adds. Processor time is of all threads together. The last lines say what is
possible: how long the products of 40 heads take at the rate of a large float32 product, measured here, and their AdamW
at that of the fused update alone.
`--protocol` also runs the paper's own length, 100 epochs with patience 10, once each.
Exit code 1 when a head of the bank does not end in the loss that `fit_logistic` ends in, or when 40 heads take
more than 3 times the plain probe.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from radlens.adapt.logistic import fit_logistic
from radlens.adapt.losses import LOSSES, LossSpec
from radlens.adapt.probe_bank import BankFit, Variant, fit_bank

Floats = npt.NDArray[np.float32]
Split = tuple[Floats, Floats]
TRAIN, VAL, DIMENSION, BATCH, RATE, DECAY = 5229, 747, 512, 24, 1e-3, 1e-2
# shares of positives as among IU-Xray's 14 labels
PREVALENCE = (0.6, 0.03, 0.11, 0.13, 0.04, 0.012, 0.008, 0.02, 0.08, 0.006, 0.04, 0.015, 0.021, 0.05)
GRID = [Variant(LossSpec(name=name), seed, RATE, DECAY) for name in LOSSES for seed in range(5)]
ONE = [Variant(LossSpec(), 0, RATE, DECAY)]
TOGETHER = "40 heads"
ALL_BCE = [Variant(LossSpec(), seed, RATE, DECAY) for seed in range(5) for _ in LOSSES]
MOST, TOLERANCE = 3.0, 1e-3


def cohort(seed: int = 0) -> tuple[Split, Split]:
    """Train and val: embeddings (N, D) with a planted direction a label, and targets (N, L) drawn from it."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(TRAIN + VAL, DIMENSION))
    directions = generator.normal(size=(len(PREVALENCE), DIMENSION)) / DIMENSION**0.5
    scores = 2 * x @ directions.T + generator.logistic(size=(len(x), len(PREVALENCE)))
    cuts = [np.quantile(scores[:, i], 1 - share) for i, share in enumerate(PREVALENCE)]
    y = (scores > np.array(cuts)).astype(np.float32)
    x = x.astype(np.float32)
    return (x[:TRAIN], y[:TRAIN]), (x[TRAIN:], y[TRAIN:])


def plain(train: Split, val: Split, epochs: int, patience: int) -> float:
    """One probe as it is usually written, without a DataLoader; its least validation cross-entropy."""
    (x, y), (val_x, val_y) = (tuple(map(torch.from_numpy, split)) for split in (train, val))
    layer = nn.Linear(DIMENSION, y.shape[1])
    optimiser = torch.optim.AdamW(layer.parameters(), lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
    best, since = math.inf, 0
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(BATCH):
            optimiser.zero_grad()
            binary_cross_entropy_with_logits(layer(x[rows]), y[rows]).backward()
            optimiser.step()
        schedule.step()
        with torch.no_grad():
            now = float(binary_cross_entropy_with_logits(layer(val_x), val_y))
        best, since = (now, 0) if now < best else (best, since + 1)
        if since >= patience:
            break
    return best


@dataclass(frozen=True)
class Contest:
    train: Split
    val: Split
    epochs: int
    patience: int

    def bank(self, variants: list[Variant], found: list[BankFit]) -> float:
        found[:] = fit_bank(
            self.train, self.val, variants, epochs=self.epochs, batch_size=BATCH, patience=self.patience
        )
        return min(fit.best.val_bce for fit in found if fit.variant == ONE[0])

    def alone(self) -> float:
        fit = fit_logistic(
            self.train,
            self.val,
            learning_rate=RATE,
            weight_decay=DECAY,
            epochs=self.epochs,
            batch_size=BATCH,
            patience=self.patience,
            generator=np.random.default_rng(0),
        )
        return fit.best.val_bce

    def run(self, rounds: int, found: list[BankFit]) -> tuple[dict[str, float], dict[str, float], float]:
        """Least seconds of each, of clock and of processor; how far bce ends from `fit_logistic`, relatively."""
        spare: list[BankFit] = []
        runs: dict[str, Callable[[], float]] = {
            TOGETHER: lambda: self.bank(GRID, found),
            "40 heads, bce": lambda: self.bank(ALL_BCE, spare),
            "one head, plain PyTorch": lambda: plain(self.train, self.val, self.epochs, self.patience),
            "one head, same bank": lambda: self.bank(ONE, spare),
            "one head, fit_logistic": self.alone,
        }
        wall, processor, losses = dict.fromkeys(runs, math.inf), dict.fromkeys(runs, math.inf), {}
        for _ in range(rounds):
            for name, run in runs.items():
                begun, used = time.perf_counter(), time.process_time()
                losses[name] = run()
                wall[name] = min(wall[name], time.perf_counter() - begun)
                processor[name] = min(processor[name], time.process_time() - used)
        print(f"\n{self.epochs} epochs, patience {self.patience}, least of {rounds} round(s)")
        print(f"  {'':26}{'seconds':>8} {'processor':>10}   40 heads take")
        for name in runs:
            ratio, of_processor = wall[TOGETHER] / wall[name], processor[TOGETHER] / processor[name]
            print(
                f"  {name:26}{wall[name]:8.2f} {processor[name]:10.2f}   {ratio:5.1f} times the seconds, "
                f"{of_processor:5.1f} times the processor's; bce on val {losses[name]:.6f}"
            )
        own = losses.pop("one head, fit_logistic")
        losses.pop("one head, plain PyTorch")
        return wall, processor, max(abs(value - own) / own for value in losses.values())


def least(run: Callable[[], object], times: int) -> float:
    """Seconds of processor."""
    found = math.inf
    for _ in range(times):
        begun = time.process_time()
        run()
        found = min(found, time.process_time() - begun)
    return found


def floor(processor: dict[str, float], epochs: int, cores: int) -> None:
    """Print what 40 heads cost a step in arithmetic alone, beside one head's measured step; all is processor time."""
    labels, steps = len(PREVALENCE), epochs * -(-TRAIN // BATCH)
    side = 1024
    left, right, out = torch.randn(side, side), torch.randn(side, side), torch.empty(side, side)
    rate = 2 * side**3 / least(lambda: torch.mm(left, right, out=out), 30)
    work = 2 * 2 * BATCH * (DIMENSION + 1) * labels * len(GRID)
    # one seed's eight heads at a time, as the bank has them
    size = labels * (DIMENSION + 1) * len(LOSSES)
    weight, gradient, first, second = (torch.rand(size) for _ in range(4))
    update = 5 * least(
        lambda: torch._fused_adamw_(
            [weight],
            [gradient],
            [first],
            [second],
            [],
            [torch.tensor(9.0)],
            lr=RATE,
            beta1=0.9,
            beta2=0.999,
            weight_decay=DECAY,
            eps=1e-8,
            amsgrad=False,
            maximize=False,
        ),
        300,
    )
    products = work / rate
    print(f"\na step of 40 heads: {work / 1e6:.1f} MFLOP at {rate / 1e9:.0f} GFLOP/s of one core")
    for name in ("one head, plain PyTorch", "one head, same bank", "one head, fit_logistic"):
        one = processor[name] / steps
        print(
            f"  {name:26} {one * 1e6:6.0f} us a step; 40 heads at least {products / one:5.1f} times that in products, "
            f"{(products + update) / one:5.1f} with AdamW, {(products + update) / one / cores:5.1f} on {cores} core(s)"
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--protocol", action="store_true", help="also 100 epochs with patience 10")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    print(f"machine: {platform.platform()}, {platform.machine()}, {cores} cores; one thread")
    print(f"torch {torch.__version__}, numpy {np.__version__}")
    print(f"{TRAIN} x {DIMENSION} embeddings, {len(PREVALENCE)} labels, batch {BATCH}; {len(GRID)} heads")
    train, val = cohort()
    found: list[BankFit] = []
    wall, processor, apart = Contest(train, val, asked.epochs, asked.epochs).run(asked.rounds, found)
    floor(processor, asked.epochs, cores)
    if asked.protocol:
        apart = max(apart, Contest(train, val, 100, 10).run(1, found)[2])
        for name in LOSSES:
            fits = [fit for fit in found if fit.variant.loss.name == name]
            ran = ", ".join(str(len(fit.history)) for fit in fits)
            best = np.mean([fit.best.val_bce for fit in fits])
            print(f"  {name:24} epochs run {ran}; mean least validation cross-entropy {best:.4f}")
    ratio = wall[TOGETHER] / wall["one head, plain PyTorch"]
    print(f"\n40 heads: {ratio:.2f} times one plain probe (at most {MOST:g})")
    print(
        f"largest relative difference of bce's validation loss to fit_logistic's: {apart:.1e} (at most {TOLERANCE:g})"
    )
    return 0 if apart <= TOLERANCE and ratio <= MOST else 1


if __name__ == "__main__":
    sys.exit(main())
