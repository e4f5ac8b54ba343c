"""Whether a map's strength tells images with a finding from images without it: AUROC with intervals over patients."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from radlens.core.interval_ends import bca_ends
from radlens.core.patient_means import LEAST, REPLICATES
from radlens.core.patient_weights import Weights, block_size, bootstrap_weights, jackknife_weights
from radlens.core.undefined import quotient

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Ranking:
    """AUROC of M columns: value, low, high (M,), the ends NaN where `reason` says why."""

    value: Array
    low: Array
    high: Array
    reason: tuple[str | None, ...]


def strength_auroc(
    strengths: npt.ArrayLike,
    present: npt.NDArray[np.bool_],
    patients: npt.NDArray[np.str_],
    *,
    seed: int = 0,
    replicates: int = REPLICATES,
) -> Ranking:
    """Chance that a map of an image with the finding is stronger than one without it, ties a half; in [0, 1].

    strengths (N, M); present, patients (N,). Patients are resampled with all their images: an interval (BCa, 95 %)
    needs 10 of them with the finding and 10 without. NaN where there is no image of either kind. Memory: 8 P^2 bytes
    for P patients. Source: Mann and Whitney, Annals of Mathematical Statistics 18 (1947) 50-60.
    """
    columns = np.asarray(strengths, np.float64)
    names, index = np.unique(patients, return_inverse=True)
    member = np.zeros((len(index), len(names)))
    member[np.arange(len(index)), index] = 1
    own, others = member[present], member[~present]
    every = [np.ones((len(names), 1), np.float32)]
    resampled = list(bootstrap_weights(len(names), replicates, seed, block_size(len(names))))
    left_out = list(jackknife_weights(len(names), seed, block_size(len(names))))
    value, drawn, without = (np.empty((count, columns.shape[1])) for count in (1, replicates, _count(left_out)))
    for m, column in enumerate(columns.T):
        stronger = np.sign(column[present][:, None] - column[~present][None, :]) / 2 + 0.5
        # entry (p, q): pairs that patient p's images win over those of patient q
        wins = own.T @ stronger @ others
        for found, blocks in ((value, every), (drawn, resampled), (without, left_out)):
            found[:, m] = _under(wins, own.sum(axis=0), others.sum(axis=0), blocks)
    low, high = bca_ends(value[0], drawn, without)
    counted = [int((side.sum(axis=0) > 0).sum()) for side in (own, others)]
    reason = tuple(_reason(counted[0], counted[1], replicate) for replicate in drawn.T)
    known = np.array([why is None for why in reason], bool)
    return Ranking(value[0], np.where(known, low, np.nan), np.where(known, high, np.nan), reason)


def _count(blocks: Sequence[Weights]) -> int:
    return sum(block.shape[1] for block in blocks)


def _under(wins: Array, own: Array, others: Array, blocks: Iterable[Weights]) -> Array:
    """(B,) AUROC with patients weighted."""
    found = []
    for block in blocks:
        weights = block.T.astype(np.float64)
        won = ((weights @ wins) * weights).sum(axis=1)
        found.append(quotient(won, (weights @ own) * (weights @ others)))
    return np.concatenate(found)


def _reason(present: int, absent: int, replicates: Array) -> str | None:
    if not present or not absent:
        return f"undefined: no image with{'out' if present else ''} the finding"
    if min(present, absent) < LEAST:
        return (
            f"not estimable: {present} patients with the finding and {absent} without, an interval needs {LEAST} each"
        )
    known = replicates[~np.isnan(replicates)]
    if known.max() == known.min():
        return "not estimable: the same value in every replicate, so that resampling cannot tell how far it may be off"
    return None
