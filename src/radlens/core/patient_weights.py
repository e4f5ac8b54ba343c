"""Resamples as whole-number weights of patients: how often each patient was drawn."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Weights = npt.NDArray[np.float32]
"""(P, B): weight of each of P patients in each of B replicates; whole numbers below 2**24, so float32 is exact."""

_ONE_BY_ONE = 1000
_SETS = 200
_ENTRIES = 50_000_000


def block_size(images: int) -> int:
    """Replicates to treat at once so that memory stays flat in the number of replicates: 125 for 400,000 images."""
    return int(np.clip(_ENTRIES // max(images, 1), 16, 1000))


def bootstrap_weights(patients: int, replicates: int, seed: int, block: int) -> Iterator[Weights]:
    """Blocks (P, at most `block`) of replicates: P patients drawn with replacement out of P.

    The replicates depend on `seed` and the number of patients alone, never on `block`.
    """
    random = np.random.default_rng(seed)
    for start in range(0, replicates, block):
        count = min(block, replicates - start)
        drawn = np.empty((count, patients), np.float32)
        for row in drawn:
            row[:] = np.bincount(random.integers(0, patients, patients), minlength=patients)
        yield np.ascontiguousarray(drawn.T)


def jackknife_weights(patients: int, seed: int, block: int) -> Iterator[Weights]:
    """Blocks (P, at most `block`) of leave-out replicates: one patient at a time up to 1,000 patients.

    Beyond that, 200 random sets of patients of equal size (to one) are left out in turn: the acceleration of such a
    grouped jackknife estimates the same quantity (Shao and Tu, The Jackknife and Bootstrap, 1995, section 2.3), off by
    about 0.002, while the acceleration itself falls with the root of the number of patients.
    """
    sets = patients if patients <= _ONE_BY_ONE else _SETS
    member = np.random.default_rng(seed).permutation(patients) % sets
    for start in range(0, sets, block):
        left_out = np.arange(start, min(start + block, sets))
        yield (member[:, None] != left_out[None, :]).astype(np.float32)


def swap_weights(patients: int, permutations: int, seed: int, block: int) -> Iterator[Weights]:
    """Blocks (P, at most `block`) of 0 or 1 with equal chance: 1 where a patient's predictions change places."""
    random = np.random.default_rng(seed)
    for start in range(0, permutations, block):
        count = min(block, permutations - start)
        # a permutation at a time: of one draw of small integers the stream would depend on the block
        swaps = np.stack([random.integers(0, 2, patients, np.int8) for _ in range(count)], axis=1)
        yield swaps.astype(np.float32)
