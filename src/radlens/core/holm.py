"""Holm's step-down correction of p-values for how many are looked at."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def holm(p: Array) -> Array:
    """Adjusted p-values (M,) in [0, 1]: the family-wise error of all that are at most one of them stays below it.

    NaN stays NaN and does not count as a test. Holm, Scandinavian Journal of Statistics 6 (1979) 65-70.
    """
    adjusted = np.full(len(p), np.nan)
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    steps = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * steps), 1.0) if len(order) else 0.0
    return adjusted
