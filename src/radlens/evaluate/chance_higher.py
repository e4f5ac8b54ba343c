"""How much higher one kind scores than another, both counted image by image, with intervals over patients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from radlens.core.interval_ends import bca_ends
from radlens.core.patient_means import LEAST, REPLICATES
from radlens.core.patient_weights import bootstrap_weights, jackknife_weights
from radlens.core.undefined import quotient
from radlens.evaluate.patient_numbers import patient_numbers

Array = npt.NDArray[np.float64]
_ENTRIES = 2_000_000


@dataclass(frozen=True)
class Resampled:
    """A figure with its 95 % interval over patients (BCa); reason: why there is no interval, or no figure."""

    value: float
    low: float
    high: float
    reason: str | None


def chance_higher(
    score: Array,
    one: Array,
    other: Array,
    groups: Sequence[str],
    names: tuple[str, str],
    *,
    seed: int,
    replicates: int = REPLICATES,
) -> Resampled:
    """Chance that a draw of the first kind scores higher than one of the second, ties half: the AUROC; .5 says nothing.

    score (N,). one, other (N,): how many of either kind stand at each image (decisions of it that are wrong and right,
    say). groups: N patients, resampled with all their images. names: of the kinds, plural, for the reason. The interval
    needs 10 patients with either kind.
    """

    def area(first: Array, second: Array) -> Array:
        below = np.cumsum(second, axis=0) - second / 2
        return quotient((first * below).sum(axis=0), first.sum(axis=0) * second.sum(axis=0))

    return _resampled(area, score, one, other, groups, names, seed, replicates)


def share_beyond(
    score: Array,
    one: Array,
    other: Array,
    groups: Sequence[str],
    names: tuple[str, str],
    *,
    far: float = 0.95,
    seed: int,
    replicates: int = REPLICATES,
) -> Resampled:
    """Share of the first kind that scores higher than a share `far` of the second, ties half: 1 - far if alike.

    Arguments as of `chance_higher`; the cut is found anew in every resample, for it too rests on few patients.
    """

    def share(first: Array, second: Array) -> Array:
        below = quotient(np.cumsum(second, axis=0) - second / 2, second.sum(axis=0))
        beyond = np.where(np.isnan(below), np.nan, below >= far)
        return quotient((first * beyond).sum(axis=0), first.sum(axis=0))

    return _resampled(share, score, one, other, groups, names, seed, replicates)


def _resampled(
    figure: Callable[[Array, Array], Array],
    score: Array,
    one: Array,
    other: Array,
    groups: Sequence[str],
    names: tuple[str, str],
    seed: int,
    replicates: int,
) -> Resampled:
    """figure: counts (K, B) of either kind at K distinct scores, ascending -> (B,)."""
    patient = patient_numbers(groups)
    counts = [len(np.unique(patient[kind > 0])) for kind in (one, other)]
    if not min(counts):
        return Resampled(np.nan, np.nan, np.nan, f"undefined: no {names[int(counts[0] > 0)]}")
    order = np.argsort(score, kind="stable")
    _, starts = np.unique(score[order], return_index=True)
    patient, kinds = patient[order], np.stack([one, other])[:, order].astype(np.float64)

    def under(weights: npt.NDArray[np.float32]) -> Array:
        drawn = weights[patient].astype(np.float64)
        first, second = (np.add.reduceat(drawn * kind[:, None], starts, axis=0) for kind in kinds)
        return figure(first, second)

    patients = int(patient.max()) + 1
    value = under(np.ones((patients, 1), np.float32))
    block = int(np.clip(_ENTRIES // len(score), 16, 1000))
    if min(counts) < LEAST:
        few = " and ".join(f"{count} patients with {name}" for count, name in zip(counts, names, strict=True))
        return Resampled(float(value[0]), np.nan, np.nan, f"not estimable: {few}, an interval needs {LEAST} of each")
    drawn = np.concatenate([under(weights) for weights in bootstrap_weights(patients, replicates, seed, block)])
    left_out = np.concatenate([under(weights) for weights in jackknife_weights(patients, seed, block)])
    if np.nanmax(drawn) == np.nanmin(drawn):
        return Resampled(float(value[0]), np.nan, np.nan, "not estimable: the same value in every replicate")
    low, high = bca_ends(value, drawn[:, None], left_out[:, None])
    return Resampled(float(value[0]), float(low[0]), float(high[0]), None)
