"""Undefined is NaN, never 0: quotients and means that say so."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def quotient(numerator: npt.ArrayLike, denominator: npt.ArrayLike) -> Array:
    """numerator / denominator elementwise, NaN where the denominator is 0 or either is NaN; shapes broadcast."""
    above, below = np.broadcast_arrays(np.asarray(numerator, np.float64), np.asarray(denominator, np.float64))
    out = np.full(above.shape, np.nan)
    np.divide(above, below, out=out, where=below != 0)
    return out


def mean_of_defined(values: npt.NDArray[np.float64], axis: int | tuple[int, ...] | None = None) -> Any:
    """Mean over the entries that are not NaN; NaN where there is none. A float when `axis` is None, else an array."""
    defined = ~np.isnan(values)
    mean = quotient(np.where(defined, values, 0.0).sum(axis=axis), defined.sum(axis=axis))
    return float(mean) if axis is None else mean
