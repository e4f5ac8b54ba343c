"""Means over images with intervals over patients: what a figure that is one number an image needs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from radlens.core.interval_ends import bca_ends
from radlens.core.patient_weights import Weights, block_size, bootstrap_weights, jackknife_weights
from radlens.core.undefined import quotient

Array = npt.NDArray[np.float64]

LEAST = 10
"""Patients with a defined value below which a mean has no interval."""
REPLICATES = 1000


@dataclass(frozen=True)
class PatientMeans:
    """Means of M quantities. value (M,); low, high (M,) 95 %, NaN where `reason` says why; images, patients (M,).

    replicates: (B, M), row b of every column on the same resample of patients, NaN where undefined.
    """

    value: Array
    low: Array
    high: Array
    images: npt.NDArray[np.int64]
    patients: npt.NDArray[np.int64]
    reason: tuple[str | None, ...]
    replicates: Array


def patient_means(
    values: npt.ArrayLike,
    patients: Sequence[str] | npt.NDArray[np.str_],
    *,
    seed: int = 0,
    replicates: int = REPLICATES,
) -> PatientMeans:
    """Mean over the defined values of each column, with a BCa interval by resampling patients with all their values.

    values: (N, M) or (N,), NaN = undefined, left aside; a paired difference is a column of differences. patients: (N,).
    Below 10 patients with a defined value, or where every replicate is the same, there is no interval but a reason.
    Deterministic in `seed`; columns that are asked for together share their resamples. Memory: 8 (N + P + B) M bytes.
    """
    table = np.asarray(values, np.float64)
    table = table[:, None] if table.ndim == 1 else table
    names, index = np.unique(np.asarray(patients), return_inverse=True)
    defined = ~np.isnan(table)
    sums = np.zeros((len(names), table.shape[1]))
    counts = np.zeros_like(sums)
    np.add.at(sums, index, np.where(defined, table, 0.0))
    np.add.at(counts, index, defined)
    value = quotient(sums.sum(axis=0), counts.sum(axis=0))
    block = block_size(len(names))
    drawn = _under(sums, counts, bootstrap_weights(len(names), replicates, seed, block))
    left_out = _under(sums, counts, jackknife_weights(len(names), seed, block))
    low, high = bca_ends(value, drawn, left_out)
    known = (counts > 0).sum(axis=0)
    reason = tuple(_reason(int(n), drawn[:, m]) for m, n in enumerate(known))
    without = np.array([why is not None for why in reason], bool)
    return PatientMeans(
        value,
        np.where(without, np.nan, low),
        np.where(without, np.nan, high),
        defined.sum(axis=0),
        known,
        reason,
        drawn,
    )


def _under(sums: Array, counts: Array, blocks: Iterable[Weights]) -> Array:
    turned = (weights.T.astype(np.float64) for weights in blocks)
    return np.concatenate([quotient(weights @ sums, weights @ counts) for weights in turned])


def _reason(patients: int, replicates: Array) -> str | None:
    if patients == 0:
        return "undefined: no value"
    if patients < LEAST:
        return f"not estimable: {patients} patients, an interval needs {LEAST}"
    known = replicates[~np.isnan(replicates)]
    if not len(known) or known.max() == known.min():
        return "not estimable: the same value in every replicate, so that resampling cannot tell how far it may be off"
    return None
