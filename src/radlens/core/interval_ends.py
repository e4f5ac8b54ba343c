"""From replicates to the two ends of a 95 % interval: percentile, and bias-corrected and accelerated (BCa)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri

from radlens.core.undefined import mean_of_defined, quotient

Array = npt.NDArray[np.float64]
CONFIDENCE = 0.95


def percentile_ends(replicates: Array, confidence: float = CONFIDENCE) -> tuple[Array, Array]:
    """Replicates (B, M), NaN where undefined -> low (M,), high (M,): their equal-tailed quantiles; else NaN."""
    tail = np.full(replicates.shape[1], (1 - confidence) / 2)
    return _quantiles(replicates, tail), _quantiles(replicates, 1 - tail)


def bca_ends(values: Array, replicates: Array, left_out: Array, confidence: float = CONFIDENCE) -> tuple[Array, Array]:
    """BCa ends: values (M,), replicates (B, M), jackknife left_out (J, M) -> low (M,), high (M,).

    Efron, Better bootstrap confidence intervals, JASA 82 (1987) 171-185. Replicates equal to the value count half on
    either side, since most metrics here take few values. Undefined replicates and jackknife values are left aside.
    """
    defined = ~np.isnan(replicates)
    below = ((replicates < values) & defined).sum(axis=0) + ((replicates == values) & defined).sum(axis=0) / 2
    bias = ndtri(quotient(below, defined.sum(axis=0)))
    distance = mean_of_defined(left_out, axis=0) - left_out
    distance = np.where(np.isnan(distance), 0.0, distance)
    spread = (distance**2).sum(axis=0)
    acceleration = np.where(spread > 0, quotient((distance**3).sum(axis=0), 6 * spread**1.5), 0.0)
    ends = []
    for tail in ((1 - confidence) / 2, (1 + confidence) / 2):
        shifted = bias + ndtri(tail)
        # past the pole of the correction every replicate lies on one side
        stretch = 1 - acceleration * shifted
        with np.errstate(invalid="ignore", divide="ignore"):
            share = np.where(stretch > 0, ndtr(bias + shifted / stretch), float(tail > 0.5))
        ends.append(_quantiles(replicates, np.where(np.isnan(bias), np.nan, share)))
    return ends[0], ends[1]


def _quantiles(replicates: Array, shares: Array) -> Array:
    """The quantile `shares[m]` of each column's defined replicates, between neighbours by straight line."""
    ordered = np.sort(replicates, axis=0)
    defined = (~np.isnan(ordered)).sum(axis=0)
    usable = (defined > 0) & ~np.isnan(shares)
    at = np.where(usable, shares, 0.0) * np.maximum(defined - 1, 0)
    lower = np.floor(at).astype(np.intp)
    upper = np.minimum(lower + 1, np.maximum(defined - 1, 0))
    columns = np.arange(replicates.shape[1])
    low, high = ordered[lower, columns], ordered[upper, columns]
    return np.where(usable, low + (at - lower) * (high - low), np.nan)
