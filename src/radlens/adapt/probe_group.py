"""A few heads that train in step: those of one rate and decay, few enough for a processor's own cache."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from radlens.adapt.logistic import BETA1, BETA2, EPSILON
from radlens.adapt.objective.batches import StepBlock, Targets, softplus
from radlens.adapt.objective.loss import Loss
from radlens.adapt.objective.stacked import StackedForms
from radlens.core.parts import Floats

WEIGHTS_TOGETHER = 1 << 16
"""Weights of a group. With the gradient and two moments they take 1 MiB, which a core's second cache holds."""
ROWS_PREPARED = 192
"""Images of a seed whose targets are looked up at once."""
VALIDATION_ROWS = 256


@dataclass(frozen=True)
class Problem:
    """What all heads share. inputs (N, D + 1) with a last column of ones; val_signs (L, V): 1 for target 0, -1 for 1.

    val_assessed (L, V), or None, and val_entries are as in `Targets`.
    """

    inputs: Tensor
    targets: Targets
    val_inputs: Tensor
    val_signs: Tensor
    val_assessed: Tensor | None
    val_entries: int
    epochs: int
    batch_size: int

    @classmethod
    def of(
        cls, train: tuple[Floats, Floats], val: tuple[Floats, Floats], losses: Iterable[Loss], epochs: int, batch: int
    ) -> Problem:
        targets, val_targets = Targets.of(train[1], list(losses)), Targets.of(val[1], [])
        known = val_targets.assessed
        return cls(
            _with_ones(train[0]),
            targets,
            _with_ones(val[0]),
            (1 - 2 * val_targets.positive).T.contiguous(),
            None if known is None else known.T.contiguous(),
            val_targets.entries,
            epochs,
            batch,
        )


@dataclass(frozen=True)
class Pace:
    """rate: at the start of the cosine; decay: decoupled; updates and epochs: how many are done."""

    rate: float
    decay: float
    epochs: int = 0
    updates: int = 0


@dataclass(frozen=True)
class SeedHeads:
    """Heads of one seed: their numbers, their losses as they are at the start; weight and moments (D + 1, H, L)."""

    generator: np.random.Generator
    heads: tuple[int, ...]
    losses: tuple[Loss, ...]
    state: tuple[Tensor, Tensor, Tensor]


def most_heads(weights: int) -> int:
    """How many of so many weights each make a group."""
    return max(1, WEIGHTS_TOGETHER // weights)


def grouped(seeds: Sequence[SeedHeads], problem: Problem, pace: Pace) -> list[ProbeGroup]:
    """Groups whose seeds have the same number of heads, and of those that focus."""
    labels = problem.targets.positive.shape[1]
    alike: dict[tuple[int, int], list[SeedHeads]] = {}
    for seed in seeds:
        focusing = sum(loss.sigmoid_form(labels).focuses for loss in seed.losses)
        alike.setdefault((len(seed.heads), focusing), []).append(seed)
    groups: list[ProbeGroup] = []
    for found in alike.values():
        most = most_heads(found[0].state[0].numel())
        groups += [ProbeGroup(found[at : at + most], problem, pace) for at in range(0, len(found), most)]
    return groups


class ProbeGroup:
    """S seeds of H heads each; weights lie as (S, D + 1, H * L), in which both products of a step are fastest."""

    def __init__(self, seeds: Sequence[SeedHeads], problem: Problem, pace: Pace) -> None:
        self.problem, self.pace, self.seeds = problem, pace, seeds
        self.heads = [seed.heads for seed in seeds]
        self._size = len(seeds), len(self.heads[0])
        self._labels = problem.targets.positive.shape[1]
        self._weight, self._first, self._second = (
            torch.stack([seed.state[kind].flatten(1) for seed in seeds]) for kind in range(3)
        )
        self._gradient = torch.empty_like(self._weight)
        count = len(problem.inputs)
        self._blocks: dict[int, tuple[StepBlock, Tensor]] = {}
        whole, rest = divmod(count, problem.batch_size)
        self._batches = [(problem.batch_size, whole)] * (whole > 0) + [(rest, 1)] * (rest > 0)
        self._losses: list[list[Loss]] = []

    def weight(self, seed: int, head: int) -> Tensor:
        """(L, D + 1), a copy."""
        here = slice(head * self._labels, (head + 1) * self._labels)
        return self._weight[seed, :, here].T.clone(memory_format=torch.contiguous_format)

    def epoch(self) -> tuple[Tensor, Tensor]:
        """Train one; (S, H) each: mean plain cross-entropy on train, an entry before its step, and then on val."""
        with torch.inference_mode():
            progress = self.pace.epochs / self.problem.epochs
            losses = [[loss.at(progress) for loss in seed.losses] for seed in self.seeds]
            forms = StackedForms(losses, self._labels)
            orders = np.stack([seed.generator.permutation(len(self.problem.inputs)) for seed in self.seeds])
            total = self._train(torch.from_numpy(orders), losses, forms)
            return total / self.problem.targets.entries, self._validate()

    def _train(self, orders: Tensor, losses: list[list[Loss]], forms: StackedForms) -> Tensor:
        problem = self.problem
        total = torch.zeros(len(self.seeds), self._weight.shape[2], dtype=torch.float64)
        rate = self.pace.rate * (1 + math.cos(math.pi * self.pace.epochs / problem.epochs)) / 2
        start = 0
        for batch, count in self._batches:
            stop = start + batch * count
            rows = orders[:, start:stop].reshape(-1, count, batch).transpose(0, 1).contiguous()
            start = stop
            block, inputs = self._buffers(batch, forms.focusing)
            for part in torch.split(rows, block.shape[0]):
                block.prepare(part, problem.targets, forms, losses)
                self._steps(part, block, inputs, rate)
                total += block.plain_losses(part, problem.targets)
        self.pace = replace(self.pace, epochs=self.pace.epochs + 1)
        return total.view(*self._size, self._labels).sum(dim=2)

    def _buffers(self, batch: int, focusing: int) -> tuple[StepBlock, Tensor]:
        if batch not in self._blocks:
            steps = max(1, min(ROWS_PREPARED, len(self.problem.inputs)) // batch)
            seeds, heads = self._size
            block = StepBlock((steps, seeds, batch, heads, self._labels), focusing)
            self._blocks[batch] = block, torch.empty(seeds * batch, self.problem.inputs.shape[1])
        return self._blocks[batch]

    def _steps(self, rows: Tensor, block: StepBlock, inputs: Tensor, rate: float) -> None:
        """rows (k, S, B)."""
        source, weight, gradient = self.problem.inputs, self._weight, self._gradient
        batches = inputs.view(*rows.shape[1:], -1)
        columns, error = batches.mT, block.error
        gather, multiply, logits, to_error = torch.index_select, torch.bmm, block.logits, block.to_error
        # torch.optim's own function spends more on its checks than a small head's update takes
        update, weights, gradients = torch._fused_adamw_, [weight], [gradient]
        first, second = [self._first], [self._second]
        done = self.pace.updates
        counts = torch.arange(done + 1, done + len(rows) + 1, dtype=torch.float32).unbind()
        decay = self.pace.decay
        for step, (chosen, number) in enumerate(zip(rows.flatten(1).unbind(), counts, strict=True)):
            gather(source, 0, chosen, out=inputs)
            multiply(batches, weight, out=logits[step])
            to_error(step)
            multiply(columns, error, out=gradient)
            update(
                weights,
                gradients,
                first,
                second,
                [],
                [number],
                lr=rate,
                beta1=BETA1,
                beta2=BETA2,
                weight_decay=decay,
                eps=EPSILON,
                amsgrad=False,
                maximize=False,
            )
        self.pace = replace(self.pace, updates=done + len(rows))

    def _validate(self) -> Tensor:
        problem, (seeds, heads) = self.problem, self._size
        total = torch.zeros(seeds, heads, dtype=torch.float64)
        for start in range(0, len(problem.val_inputs), VALIDATION_ROWS):
            here = slice(start, start + VALIDATION_ROWS)
            inputs, signs = problem.val_inputs[here].T, problem.val_signs[:, here]
            for seed, weight in enumerate(self._weight):
                against = (weight.T @ inputs).view(heads, self._labels, -1).mul_(signs)
                losses = softplus(against, torch.empty_like(against))
                if problem.val_assessed is not None:
                    losses.mul_(problem.val_assessed[:, here])
                total[seed] += losses.sum(dim=(1, 2))
        return total / problem.val_entries

    def without(self, stopped: set[int]) -> list[ProbeGroup]:
        """The groups of the heads that go on."""
        left = []
        for place, seed in enumerate(self.seeds):
            keep = [i for i, head in enumerate(seed.heads) if head not in stopped]
            if keep:
                states = (self._weight, self._first, self._second)
                kept = tuple(x[place].view(-1, len(seed.heads), self._labels)[:, keep] for x in states)
                left.append(
                    SeedHeads(
                        seed.generator,
                        tuple(seed.heads[i] for i in keep),
                        tuple(seed.losses[i] for i in keep),
                        (kept[0], kept[1], kept[2]),
                    )
                )
        return grouped(left, self.problem, self.pace)


def _with_ones(embeddings: Floats) -> Tensor:
    """(N, D) -> (N, D + 1): a last column of ones carries the bias."""
    return torch.from_numpy(np.hstack([embeddings, np.ones((len(embeddings), 1), np.float32)], dtype=np.float32))
