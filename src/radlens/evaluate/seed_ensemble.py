"""Several trainings of one setting: their mean probability, and how far they disagree on each image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from radlens.core.errors import DataError

Array = npt.NDArray[np.float64]
_ROUNDING = 1e-14


@dataclass(frozen=True)
class Ensemble:
    """mean, spread, mutual_information float64 (N, L) and the number of members.

    spread: standard deviation over members (divisor: members - 1), NaN with one member. mutual_information: entropy of
    the mean minus mean entropy in nats, 0 to log 2: the part of the uncertainty that more training seeds would settle.
    """

    members: int
    mean: Array
    spread: Array
    mutual_information: Array


def seed_ensemble(probabilities: Sequence[Array]) -> Ensemble:
    """Of at least one array (N, L) of probabilities, same images and labels in the same order.

    One pass over the members; memory is that of four arrays. Lakshminarayanan et al., NeurIPS 2017 (mean of
    probabilities); Smith and Gal, UAI 2018 (mutual information). Raises `DataError` for none or unequal shapes.
    """
    shapes = sorted({array.shape for array in probabilities})
    if len(shapes) != 1:
        found = f"shapes {shapes}" if shapes else "none"
        raise DataError(f"expected probabilities of the same images and labels from every seed, but found {found}.")
    count = len(probabilities)
    mean, squares, entropy = np.zeros(shapes[0]), np.zeros(shapes[0]), np.zeros(shapes[0])
    for number, array in enumerate(probabilities, start=1):
        # Welford: no difference of large sums
        step = array - mean
        mean += step / number
        squares += step * (array - mean)
        entropy += _entropy(array)
    spread = np.sqrt(squares / (count - 1)) if count > 1 else np.full(shapes[0], np.nan)
    gained = _entropy(mean) - entropy / count
    # what seeds that agree seem to gain is rounding, and must not order images
    gained = np.where(gained > _ROUNDING, gained, 0.0)
    return Ensemble(count, mean, spread, gained)


def _entropy(p: Array) -> Array:
    positive, negative = np.where(p > 0, p, 1.0), np.where(p < 1, 1 - p, 1.0)
    entropy: Array = -(p * np.log(positive) + (1 - p) * np.log(negative))
    return entropy
