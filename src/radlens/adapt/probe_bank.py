"""Many linear probes on the same embeddings, trained together: losses, seeds and rates as batched problems.

Heads of one rate, decay and seed are one tensor; a step is one batched product forward and one back, the losses'
derivatives by one formula, and one fused AdamW. As many heads go together as a core's cache holds (`probe_group`). A
head's numbers do not depend on which others are trained beside it, but for the rounding of a product of another size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from radlens.adapt.logistic import Epoch
from radlens.adapt.losses import LossSpec, make_loss
from radlens.adapt.objective.loss import Loss
from radlens.adapt.probe_group import Pace, ProbeGroup, Problem, SeedHeads, grouped, most_heads
from radlens.core.errors import DataError
from radlens.core.parts import Floats, Progress, unheard

Split = tuple[Floats, Floats]


@dataclass(frozen=True)
class Variant:
    """One head: its loss, the seed of its batches, the rate at the start of its cosine, its decoupled decay."""

    loss: LossSpec = field(default_factory=LossSpec)
    seed: int = 0
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2


@dataclass(frozen=True)
class BankFit:
    """weight (L, D) and bias (L,) of the epoch with the least validation loss, and every epoch's losses.

    Both losses of an `Epoch` are plain masked binary cross-entropy, whatever the head was trained with, so that heads
    compare. failed: None, or the sentence that says in which epoch the loss ceased to be finite; weight and bias are
    then those of the best epoch before it (zero, and best.epoch 0, if there is none).
    """

    variant: Variant
    weight: Floats
    bias: Floats
    best: Epoch
    history: tuple[Epoch, ...]
    failed: str | None = None


def fit_bank(
    train: Split,
    val: Split,
    variants: Sequence[Variant],
    *,
    epochs: int,
    batch_size: int,
    patience: int,
    progress: Progress = unheard,
) -> list[BankFit]:
    """Train one head a variant, in their order, each by the protocol of `fit_logistic` with its own loss and seed.

    train, val: finite embeddings (N, D) and targets (N, L) float32, NaN = not assessed. Heads start from zero; AdamW
    with decoupled decay of all parameters, the bias too; the rate follows a cosine over `epochs`, one value an epoch;
    an epoch's order is the next permutation of `default_rng(seed)`, as in `fit_logistic`. A head stops by itself when
    `patience` epochs in a row bring no lower plain validation cross-entropy, and costs nothing from then on. A loss
    that changes on the way (LDAM) may not come to its change in a head that stops before. A head whose loss is not
    finite is given up and says so in `failed`; the others go on.
    progress counts epochs of heads. Raises `DataError` for embeddings that are not finite, and for a split without any
    assessed target.
    """
    for name, (embeddings, targets) in (("train", train), ("val", val)):
        wrong = int((~np.isfinite(embeddings).all(axis=1)).sum())
        if wrong:
            raise DataError(
                f"linear probes expected finite embeddings, found {wrong} of {len(embeddings)} in the {name} split "
                "that are not; check the model's weights, or embed in float32."
            )
        if np.isnan(targets).all():
            raise DataError(
                f"linear probes expected at least one assessed label in the {name} split, found none among its "
                f"{len(targets)} images; give the split more labelled images."
            )
    if not variants:
        return []
    made = {spec: make_loss(spec, train[1]) for spec in {v.loss for v in variants}}
    before = torch.get_num_threads()
    # products of this size take longer when they are shared among threads
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            problem = Problem.of(train, val, made.values(), epochs, batch_size)
            groups = _groups(variants, made, problem)
        return _Bank(variants, epochs, patience, progress).fit(groups)
    finally:
        torch.set_num_threads(before)


def _groups(variants: Sequence[Variant], made: dict[LossSpec, Loss], problem: Problem) -> list[ProbeGroup]:
    labels, wide = problem.targets.positive.shape[1], problem.inputs.shape[1]
    most = most_heads(labels * wide)
    alike: dict[tuple[float, float], dict[int, list[int]]] = {}
    for head, v in enumerate(variants):
        alike.setdefault((v.learning_rate, v.weight_decay), {}).setdefault(v.seed, []).append(head)
    groups = []
    for (rate, decay), by_seed in alike.items():
        seeds = []
        for seed, found in by_seed.items():
            heads = sorted(found, key=lambda head: made[variants[head].loss].sigmoid_form(labels).focuses)
            parts = -(-len(heads) // most)
            for part in range(parts):
                own = heads[len(heads) * part // parts : len(heads) * (part + 1) // parts]
                shape = wide, len(own), labels
                state = torch.zeros(shape), torch.zeros(shape), torch.zeros(shape)
                losses = tuple(made[variants[head].loss] for head in own)
                seeds.append(SeedHeads(np.random.default_rng(seed), tuple(own), losses, state))
        groups += grouped(seeds, problem, Pace(rate, decay))
    return groups


class _Bank:
    """What is known of every head, while the groups of those that still train are worked off."""

    def __init__(self, variants: Sequence[Variant], epochs: int, patience: int, progress: Progress) -> None:
        self.variants, self.epochs, self.patience, self.progress = variants, epochs, patience, progress
        self.best = [Epoch(0, math.inf, math.inf) for _ in variants]
        self.weights: dict[int, Tensor] = {}
        self.history: list[list[Epoch]] = [[] for _ in variants]
        self.failed: dict[int, str] = {}
        self.done = 0

    def fit(self, groups: Sequence[ProbeGroup]) -> list[BankFit]:
        """Groups know nothing of each other: each is worked off whole, while what it needs lies in the cache."""
        empty = groups[0].weight(0, 0).zero_()
        waiting = list(groups)
        while waiting:
            group = waiting.pop()
            waiting += self._after(group, *group.epoch())
            self.progress(self.done, len(self.variants) * self.epochs)
        return [self._fit(head, self.weights.get(head, empty).numpy()) for head in range(len(self.variants))]

    def _after(self, group: ProbeGroup, trained: Tensor, validated: Tensor) -> list[ProbeGroup]:
        """Write down an epoch of a group; what is left of it."""
        number, stopped = group.pace.epochs, set()
        for seed, heads in enumerate(group.heads):
            for place, head in enumerate(heads):
                last = Epoch(number, float(trained[seed, place]), float(validated[seed, place]))
                self.history[head].append(last)
                if not (math.isfinite(last.train_bce) and math.isfinite(last.val_bce)):
                    self.failed[head] = (
                        f"the loss is not finite in epoch {number} (train {last.train_bce}, validation "
                        f"{last.val_bce}); use a lower learning_rate, or standardise: true for embeddings of a large "
                        "scale."
                    )
                    stopped.add(head)
                elif last.val_bce < self.best[head].val_bce:
                    self.best[head], self.weights[head] = last, group.weight(seed, place)
                elif number - self.best[head].epoch >= self.patience:
                    stopped.add(head)
                self.done += 1 + (self.epochs - number) * (head in stopped)
        if number == self.epochs:
            return []
        if not stopped:
            return [group]
        with torch.inference_mode():
            return group.without(stopped)

    def _fit(self, head: int, weight: Floats) -> BankFit:
        return BankFit(
            self.variants[head],
            weight[:, :-1].copy(),
            weight[:, -1].copy(),
            self.best[head],
            tuple(self.history[head]),
            self.failed.get(head),
        )
