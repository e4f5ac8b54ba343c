"""From probabilities to logits and back."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
_LEAST, _GREATEST = 1e-300, 1 - 2.0**-53


def to_logits(probabilities: npt.ArrayLike) -> Array:
    """log(p / (1 - p)), same shape; 0 and 1, which have none, count as the nearest that can be turned back."""
    inside = np.clip(np.asarray(probabilities, np.float64), _LEAST, _GREATEST)
    logits: Array = np.log(inside) - np.log1p(-inside)
    return logits


def to_probabilities(logits: npt.ArrayLike) -> Array:
    """1 / (1 + exp(-x)), same shape, exact to rounding at both ends."""
    x = np.asarray(logits, np.float64)
    small = np.exp(-np.abs(x))
    probabilities: Array = np.where(x >= 0, 1.0, small) / (1 + small)
    return probabilities
