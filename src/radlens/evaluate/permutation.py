"""Shuffling labels between patients: the null that separability is held against, and where a value stands in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from radlens.core.undefined import quotient

Array = npt.NDArray[np.float64]
_FEW = 5
_ROUNDING = 1e-6
"""Values that differ by less than this share are taken for equal: shuffled sums are not added in the same order."""


@dataclass(frozen=True)
class NullPosition:
    """Where values (M,) stand among their permutation replicates. All (M,), NaN where undefined.

    mean: of the replicates. z = (value - mean) / standard deviation of the replicates. p = (k + 1) / (n + 1), with k of
    the n replicates at least as high as the value (one-sided; Phipson and Smyth, Stat Appl Genet Mol Biol 9, 2010, 39).
    """

    mean: Array
    z: Array
    p: Array


def null_position(values: Array, replicates: Array) -> NullPosition:
    """values (M,), replicates (P, M) with NaN where undefined.

    z and p are undefined where there are fewer than two replicates, or where they do not vary: then there was nothing
    to shuffle (one patient only, or all patients labelled alike).
    """
    defined = ~np.isnan(replicates)
    count = defined.sum(axis=0)
    kept = np.where(defined, replicates, 0.0)
    mean = quotient(kept.sum(axis=0), count)
    deviation = np.where(defined, replicates - np.where(count > 0, mean, 0.0), 0.0)
    spread = np.sqrt(quotient((deviation**2).sum(axis=0), count - 1))
    varies = (count > 1) & (spread > _ROUNDING * np.abs(mean)) & ~np.isnan(values)
    as_high = (defined & (kept >= values * (1 - _ROUNDING * np.sign(values)))).sum(axis=0)
    z = np.where(varies, quotient(values - mean, spread), np.nan)
    return NullPosition(mean, z, np.where(varies, (as_high + 1) / (count + 1), np.nan))


def patient_shuffles(groups: Sequence[str], count: int, seed: int | Sequence[int]) -> list[npt.NDArray[np.intp]]:
    """`count` orders (N,): image i takes the label row of image order[i]; whole patients change places.

    groups: the patient of each of N images. Patients change places with patients of as many images, so that rows of one
    patient stay together. Numbers of images that fewer than five patients have are pooled; there a patient's rows may
    be divided over two. Every order is a permutation: label counts never change.
    """
    _, patient = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    by_patient = np.argsort(patient, kind="stable")
    sizes = np.bincount(patient)
    first = np.cumsum(sizes) - sizes
    common = np.bincount(sizes)[sizes] >= _FEW if len(sizes) else np.zeros(0, np.bool_)
    kinds = np.where(common, sizes, 0)
    exchangeable = [np.flatnonzero(kinds == kind) for kind in np.unique(kinds)]
    random = np.random.default_rng(seed)
    orders = []
    for _ in range(count):
        order = np.empty(len(patient), np.intp)
        for inside in exchangeable:
            order[_images(inside, first, sizes, by_patient)] = _images(
                random.permutation(inside), first, sizes, by_patient
            )
        orders.append(order)
    return orders


def _images(
    patients: npt.NDArray[np.intp],
    first: npt.NDArray[np.intp],
    sizes: npt.NDArray[np.intp],
    by_patient: npt.NDArray[np.intp],
) -> npt.NDArray[np.intp]:
    """Images of these patients, one patient after the other."""
    each = sizes[patients]
    within = np.arange(each.sum()) - np.repeat(np.cumsum(each) - each, each)
    images: npt.NDArray[np.intp] = by_patient[np.repeat(first[patients], each) + within]
    return images
