"""Images to batches: which rows each process trains on in each step, decoded ahead of the computation in threads.

Pillow decodes and resizes without the interpreter's lock, so that threads do what worker processes do, without their
start, their copies of the memory, and their own random state.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from radlens.adapt.samplers import shard
from radlens.adapt.training.augmentation import Augmentation
from radlens.core.errors import DataError, ImageError
from radlens.core.parts import Floats, ImageSource
from radlens.core.transform import ImageTransform

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class MicroBatch:
    """What one process runs forward and backward at once: its part of one step.

    step: number of the step in its epoch, from 0. rows: of the split; never empty. draws: how often each was drawn
    before in this epoch. real: how many of them count; the others are there so that all processes do the same number
    of passes. assessed: known targets of the whole step,
    over all processes. last: whether the step ends with it.
    """

    step: int
    rows: Rows
    draws: Rows
    real: int
    assessed: int
    last: bool


def steps_of(order: Rows, batch_size: int) -> list[Rows]:
    """An epoch's rows, divided into steps of `batch_size`; the last may be smaller."""
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def divide(order: Rows, known: Rows, batch_size: int, rank: int, world: int, accumulate: int) -> list[MicroBatch]:
    """The micro-batches of one process in one epoch.

    order: rows in the order of the epoch, of all processes. known: (N,) number of assessed targets of each row. Every
    step's rows are dealt out to the processes and cut into `accumulate` pieces, so that a step's sum over all pieces
    of all processes is over its rows, each once.
    """
    found, draws = [], _draws(order)
    places = np.arange(len(order))
    mine = shard(places, rank, world, batch_size)
    for step, (all_of_it, part) in enumerate(zip(steps_of(places, batch_size), mine, strict=True)):
        assessed = int(known[order[all_of_it]].sum())
        for number, piece in enumerate(np.array_split(part, accumulate), start=1):
            shown = piece if len(piece) else all_of_it[:1]
            last = number == accumulate
            found.append(MicroBatch(step, order[shown], draws[shown], len(piece), assessed, last))
    return found


def _draws(order: Rows) -> Rows:
    """(N,) how often the row at each place stood before it."""
    seen: dict[int, int] = {}
    found = np.zeros(len(order), np.int64)
    for place, row in enumerate(order.tolist()):
        found[place] = seen.get(row, 0)
        seen[row] = found[place] + 1
    return found


class Batch(TypedDict):
    """pixels (B, 3, H, W), targets (B, L) with NaN for unknown, and what `MicroBatch` says."""

    pixels: Tensor
    targets: Tensor
    rows: Tensor
    step: int
    assessed: int
    last: bool


@dataclass(frozen=True)
class Images:
    """One split: decoded, changed at random, and made the model's input.

    The random numbers of an image follow from (seed, epoch, row, how often it was drawn) alone: not from threads,
    processes or a restart.
    """

    source: ImageSource
    targets: Floats
    transform: ImageTransform
    augmentation: Augmentation | None = None
    seed: int = 0

    def prepare(self, row: int, epoch: int, draw: int = 0) -> Floats:
        """float32 (3, H, W). An image that cannot be decoded raises `DataError` naming its id."""
        try:
            pixels = self.source[row]
        except ImageError as error:
            raise DataError(
                f"training needs every image, but image {self.source.image_ids[row]!r} cannot be decoded: "
                f"{error.path}: {error.reason}"
            ) from error
        if self.augmentation is not None:
            generator = np.random.default_rng([self.seed, epoch, row, draw])
            pixels = self.augmentation(pixels, self.transform.size, generator)
        return self.transform(pixels)


class Stream:
    """The batches of one epoch (or of what is left of it), made in threads while the last one is computed on.

    waited: seconds that the computation waited for images, so far.
    """

    def __init__(self, images: Images, plan: Sequence[MicroBatch], epoch: int, workers: int, pin: bool) -> None:
        self.images, self.plan, self.epoch, self.pin = images, plan, epoch, pin
        self.workers = max(1, workers)
        self.waited = 0.0

    def __len__(self) -> int:
        return len(self.plan)

    def __iter__(self) -> Iterator[Batch]:
        """Nothing is decoded before the first batch is asked for."""
        rows = iter([(int(r), int(d)) for m in self.plan for r, d in zip(m.rows, m.draws, strict=True)])
        # two batches ahead: one being made while one waits
        depth = 2 * max((len(micro.rows) for micro in self.plan), default=0) + self.workers
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="radlens-decode")
        ahead: deque[Future[Floats]] = deque()

        def look_ahead() -> None:
            for row, draw in rows:
                ahead.append(pool.submit(self.images.prepare, row, self.epoch, draw))
                if len(ahead) >= depth:
                    return

        try:
            for micro in self.plan:
                begun = time.perf_counter()
                look_ahead()
                made = np.stack([ahead.popleft().result() for _ in micro.rows])
                batch = self._batch(made, micro)
                look_ahead()
                self.waited += time.perf_counter() - begun
                yield batch
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _batch(self, made: Floats, micro: MicroBatch) -> Batch:
        targets = self.images.targets[micro.rows].copy()
        targets[micro.real :] = np.nan
        pixels = torch.from_numpy(made)
        return Batch(
            pixels=pixels.pin_memory() if self.pin else pixels,
            targets=torch.from_numpy(targets),
            rows=torch.from_numpy(micro.rows[: micro.real].copy()),
            step=micro.step,
            assessed=micro.assessed,
            last=micro.last,
        )


def validation_plan(count: int, batch_size: int, rank: int, world: int) -> list[MicroBatch]:
    """Every row once among all processes, all with the same number of batches."""
    each = max(1, batch_size // world)
    plan = []
    for step, rows in enumerate(steps_of(np.arange(count), each * world)):
        mine = rows[rank::world]
        shown = mine if len(mine) else rows[:1]
        plan.append(MicroBatch(step, shown, np.zeros_like(shown), len(mine), 0, True))
    return plan


Order = Callable[[int], Rows]
"""Epoch, from 1 -> rows in their order."""
