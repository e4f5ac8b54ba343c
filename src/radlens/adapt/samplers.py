"""Which images an epoch trains on, in which order: a pure function of seed and epoch.

Resuming needs no state of a sampler then, and several processes agree without a word between them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from radlens.core.errors import SpecError, unknown_name
from radlens.core.parts import Floats

Rows = npt.NDArray[np.int64]


def plain(targets: Floats, generator: np.random.Generator, cap: int) -> Rows:
    """Every image once, in random order."""
    return generator.permutation(len(targets))


def class_aware(targets: Floats, generator: np.random.Generator, cap: int) -> Rows:
    """The labels take turns; each turn draws one of the label's positives, no image more than `cap` times.

    A round is one turn of every label, in random order. A label goes through its positives in random order, then
    through those that are left in a new one; when all have been drawn `cap` times it has no turns any more. Images
    without positives take turns as one class more, or they would never be seen; those without any assessed target are
    not drawn. As many draws as there are images, fewer where `cap` allows no more.
    Shen, Lin and Huang, "Relay backpropagation", ECCV 2016, section 3.3; the cap is ours.
    """
    positives = targets == 1
    neither = ~positives.any(axis=1) & ~np.isnan(targets).all(axis=1)
    members = [np.flatnonzero(column) for column in (*positives.T, neither)]
    members = [rows for rows in members if len(rows)]
    drawn = [0] * len(targets)
    queues: list[list[int]] = [[] for _ in members]
    taking_turns = list(range(len(members)))
    order: list[int] = []
    while taking_turns and len(order) < len(targets):
        for turn in generator.permutation(len(taking_turns)).tolist():
            which = taking_turns[turn]
            row = _next(queues[which], members[which], drawn, cap, generator)
            if row is None:
                taking_turns[turn] = -1
                continue
            drawn[row] += 1
            order.append(row)
        taking_turns = [which for which in taking_turns if which >= 0]
    return np.array(order[: len(targets)], dtype=np.int64)


def _next(queue: list[int], members: Rows, drawn: list[int], cap: int, generator: np.random.Generator) -> int | None:
    """The class's next image that may be drawn; None when there is none."""
    while True:
        while queue:
            row = queue.pop()
            if drawn[row] < cap:
                return row
        left = [row for row in members.tolist() if drawn[row] < cap]
        if not left:
            return None
        queue.extend(generator.permutation(left).tolist())


SAMPLERS: dict[str, Callable[[Floats, np.random.Generator, int], Rows]] = {"plain": plain, "class-aware": class_aware}


def epoch_order(name: str, targets: Floats, epoch: int, seed: int, cap: int) -> Rows:
    """Rows of `targets` (N, L) that an epoch visits, int64, in order.

    epoch: any number that is not negative. cap: most draws of one image in an epoch, at least 1; `plain` draws each
    once. Raises `SpecError` for an unknown sampler or a cap below 1.
    """
    if name not in SAMPLERS:
        raise SpecError(unknown_name("sampler", name, SAMPLERS))
    if cap < 1:
        raise SpecError(f"a sampler's cap is the most draws of one image in an epoch, at least 1; found {cap}.")
    return SAMPLERS[name](targets, np.random.default_rng([seed, epoch]), cap)


def shard(order: Rows, rank: int, world: int, batch_size: int) -> list[Rows]:
    """This process's part of every global batch, one array a step.

    batch_size: images of all processes together in a step. Global batch b is order[b * batch_size :][: batch_size], the
    last one what is left; process r of `world` takes every world-th of it from the r-th on. Together the processes
    hold exactly the batches that one would have: no image is left out or doubled, all make the same number of steps,
    and their parts differ by at most one image. In a last batch of fewer images than processes the parts of the last
    processes are empty: their loss is a sum over nothing, and the mean has to be taken over the global batch.
    Raises `ValueError` for numbers that make no sense.
    """
    if not 0 <= rank < world or batch_size < 1:
        raise ValueError(f"expected 0 <= rank < world and a batch of at least 1, found {rank}, {world}, {batch_size}.")
    return [order[start : start + batch_size][rank::world] for start in range(0, len(order), batch_size)]
