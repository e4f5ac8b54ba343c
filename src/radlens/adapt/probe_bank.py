"""Many linear probes on the same embeddings, trained together: losses, seeds and rates as one batched problem.

All heads are one tensor (H, L, D + 1). Heads of one seed see the same batches, so that a step is one batched product a
seed; AdamW is one fused pass over all of them, and the gradient of every loss is closed-form. A head's numbers do not
depend on which other heads are trained beside it, but for the rounding of a product of another size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus
from torch.optim.adamw import adamw

from radlens.adapt.logistic import BETA1, BETA2, EPSILON, Epoch
from radlens.adapt.losses import LossSpec, make_loss
from radlens.adapt.objective.batches import Batches
from radlens.adapt.objective.logistic_losses import DistributionBalancedLoss
from radlens.adapt.objective.loss import Loss
from radlens.adapt.objective.stacked import StackedLosses
from radlens.core.errors import DataError
from radlens.core.parts import Floats, Progress, unheard

Split = tuple[Floats, Floats]
VALIDATION_ROWS = 8192


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
    by_seed = sorted(
        range(len(variants)), key=lambda i: (variants[i].seed, variants[i].learning_rate, variants[i].weight_decay)
    )
    made = {spec: make_loss(spec, train[1]) for spec in {v.loss for v in variants}}
    before = torch.get_num_threads()
    # handing products of this size to a second thread takes longer than the products
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            bank = _Bank(train, val, [variants[i] for i in by_seed], made, epochs, batch_size)
            placed = dict(zip(by_seed, bank.fit(patience, progress), strict=True))
    finally:
        torch.set_num_threads(before)
    return [placed[i] for i in range(len(variants))]


class _Bank:
    """The heads that still train: their tensors, compacted whenever some of them stop."""

    def __init__(
        self,
        train: Split,
        val: Split,
        variants: list[Variant],
        made: dict[LossSpec, Loss],
        epochs: int,
        batch_size: int,
    ) -> None:
        self.variants, self.made, self.epochs, self.batch_size = variants, made, epochs, batch_size
        self.inputs, self.targets = _with_ones(train[0]), torch.from_numpy(train[1])
        self.val_inputs, self.val_targets = _with_ones(val[0]), torch.from_numpy(val[1])
        shape = len(variants), train[1].shape[1], self.inputs.shape[1]
        # weight, first and second moment, best weight: what is kept of a head from step to step
        self.weight, self.first, self.second, self.best_weight = (torch.zeros(shape) for _ in range(4))
        self.alive = list(range(len(variants)))
        self.generators = {v.seed: np.random.default_rng(v.seed) for v in variants}
        self.best = [Epoch(0, math.inf, math.inf) for _ in variants]
        self.history: list[list[Epoch]] = [[] for _ in variants]
        self.fits: dict[int, BankFit] = {}
        self.updates = 0.0
        self._arrange()

    def fit(self, patience: int, progress: Progress) -> list[BankFit]:
        for epoch in range(1, self.epochs + 1):
            if not self.alive:
                break
            trained = self._train(epoch)
            validated = self._validate()
            running, improved = [], []
            for place, head in enumerate(self.alive):
                last = Epoch(epoch, trained[place], validated[place])
                self.history[head].append(last)
                if not (math.isfinite(last.train_bce) and math.isfinite(last.val_bce)):
                    self._finish(place, last)
                elif last.val_bce < self.best[head].val_bce:
                    self.best[head] = last
                    improved.append(place)
                    running.append(place)
                elif epoch - self.best[head].epoch >= patience:
                    self._finish(place)
                else:
                    running.append(place)
            self.best_weight[improved] = self.weight[improved]
            stopped = len(self.variants) - len(running)
            progress(len(running) * epoch + stopped * self.epochs, len(self.variants) * self.epochs)
            if len(running) < len(self.alive):
                self._keep(running)
        for place in range(len(self.alive)):
            self._finish(place)
        return [self.fits[head] for head in range(len(self.variants))]

    def _finish(self, place: int, last: Epoch | None = None) -> None:
        head = self.alive[place]
        weight = self.best_weight[place].numpy()
        failed = None
        if last is not None:
            failed = (
                f"the loss is not finite in epoch {last.epoch} (train {last.train_bce}, validation {last.val_bce}); "
                "use a lower learning_rate, or standardise: true for embeddings of a large scale."
            )
        self.fits[head] = BankFit(
            self.variants[head],
            weight[:, :-1].copy(),
            weight[:, -1].copy(),
            self.best[head],
            tuple(self.history[head]),
            failed,
        )

    def _keep(self, places: list[int]) -> None:
        self.alive = [self.alive[place] for place in places]
        self.weight, self.first, self.second, self.best_weight = (
            x[places] for x in (self.weight, self.first, self.second, self.best_weight)
        )
        self._arrange()

    def _arrange(self) -> None:
        """What depends on which heads are left: their seeds, stretches of one seed, stretches of one rate and decay."""
        variants = [self.variants[head] for head in self.alive]
        seeds = [v.seed for v in variants]
        self.seeds = sorted(set(seeds))
        self.seed_of = torch.tensor([self.seeds.index(s) for s in seeds], dtype=torch.long)
        self.of_seed = [(seeds.index(s), seeds.index(s) + seeds.count(s)) for s in self.seeds]
        self.even = len({stop - start for start, stop in self.of_seed}) == 1
        rates = [(v.learning_rate, v.weight_decay) for v in variants]
        cuts = [0, *(i for i in range(1, len(rates)) if rates[i] != rates[i - 1]), len(rates)]
        self.of_rate = {rate: [(a, b) for a, b in pairwise(cuts) if rates[a] == rate] for rate in set(rates)}
        # each stretch has its own counter of updates, which the optimiser raises
        self.steps = {rate: [torch.tensor(self.updates) for _ in found] for rate, found in self.of_rate.items()}

    def _train(self, epoch: int) -> list[float]:
        """One pass over the images; each head's mean plain cross-entropy over its entries, each before its step."""
        cosine = (1 + math.cos(math.pi * (epoch - 1) / self.epochs)) / 2
        losses = [self.made[self.variants[head].loss].at((epoch - 1) / self.epochs) for head in self.alive]
        stacked = StackedLosses(losses, self.batch_size)
        orders = torch.from_numpy(np.stack([self.generators[s].permutation(len(self.inputs)) for s in self.seeds]))
        balanced = list({id(x): x for x in losses if isinstance(x, DistributionBalancedLoss)}.values())
        batches = Batches.of(self.targets, orders, self.batch_size, balanced)
        own_share = self.seed_of + len(self.seeds) * torch.tensor(
            [1 + balanced.index(x) if isinstance(x, DistributionBalancedLoss) else 0 for x in losses]
        )
        assessed = batches.assessed[:, self.seed_of]
        total = torch.zeros(len(self.alive))
        heads, labels, wide = self.weight.shape
        gradient = torch.empty_like(self.weight)
        buffer = torch.empty(batches.rows[0].numel(), wide)
        for step, rows in enumerate(batches.rows):
            x = buffer[: rows.numel()]
            torch.index_select(self.inputs, 0, rows.flatten(), out=x)
            x = x.view(*rows.shape, wide)
            targets = batches.known[step].index_select(0, self.seed_of)
            share = batches.share[step].index_select(0, self.seed_of)
            logits = torch.empty(heads, labels, rows.shape[1])
            self._products(self.weight, x.mT, logits)
            own = batches.share[step].index_select(0, own_share) if balanced else share
            error = stacked.derivatives(logits, targets).mul_(own)
            self._products(error, x, gradient)
            plain = softplus(logits).addcmul_(targets, logits, value=-1)
            total.addcmul_(torch.linalg.vecdot(plain.flatten(1), share.flatten(1)), assessed[step])
            self._step(gradient, cosine)
        self.updates += len(batches.rows)
        return (total / assessed.sum(dim=0)).tolist()

    def _products(self, left: Tensor, right: Tensor, out: Tensor) -> None:
        """out (H, L, C) = left (H, L, K) @ right (S, K, C) of each head's seed."""
        if self.even:
            groups = len(self.seeds), -1
            torch.bmm(left.view(*groups, left.shape[-1]), right, out=out.view(*groups, out.shape[-1]))
            return
        for (start, stop), one in zip(self.of_seed, right, strict=True):
            torch.mm(left[start:stop].flatten(0, 1), one, out=out[start:stop].view(-1, out.shape[-1]))

    def _step(self, gradient: Tensor, cosine: float) -> None:
        for (rate, decay), stretches in self.of_rate.items():
            parts = [[x[a:b] for a, b in stretches] for x in (self.weight, gradient, self.first, self.second)]
            adamw(
                parts[0],
                parts[1],
                parts[2],
                parts[3],
                [],
                self.steps[rate, decay],
                fused=True,
                amsgrad=False,
                beta1=BETA1,
                beta2=BETA2,
                lr=rate * cosine,
                weight_decay=decay,
                eps=EPSILON,
                maximize=False,
            )

    def _validate(self) -> list[float]:
        heads, labels, wide = self.weight.shape
        total = torch.zeros(heads, dtype=torch.float64)
        flat = self.weight.view(heads * labels, wide)
        parts = (torch.split(x, VALIDATION_ROWS) for x in (self.val_inputs, self.val_targets))
        for x, targets in zip(*parts, strict=True):
            z = (flat @ x.T).view(heads, labels, len(x))
            losses = softplus(z).addcmul_(targets.T.nan_to_num(0.0), z, value=-1)
            total += losses.mul_(~targets.T.isnan()).sum(dim=(1, 2), dtype=torch.float64)
        return (total / (~self.val_targets.isnan()).sum()).tolist()


def _with_ones(embeddings: Floats) -> Tensor:
    """(N, D) -> (N, D + 1): a last column of ones carries the bias."""
    return torch.from_numpy(np.hstack([embeddings, np.ones((len(embeddings), 1), np.float32)], dtype=np.float32))
