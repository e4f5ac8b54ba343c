"""One label's scores in order: what AUROC, average precision and the best F1 are counted from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PositiveCuts:
    """Counts at each distinct score that a positive image has, from the highest (K of them).

    No other cut can have the best F1, and recall steps nowhere else. score (K,). below (K,): the next lower score of
    any image, NaN for the lowest. gained (K,): positives at the score. true_positives, false_positives (K,): images at
    or above it. false_above (K,): negatives strictly above it. positives, negatives: in all.
    """

    score: Array
    below: Array
    gained: Array
    true_positives: Array
    false_positives: Array
    false_above: Array
    positives: int
    negatives: int


def positive_cuts(scores: Array, targets: npt.NDArray[np.float32]) -> PositiveCuts:
    """Cuts of one label: scores (N,), targets (N,) 1, 0 or NaN (left out)."""
    positive, negative = np.sort(scores[targets == 1]), np.sort(scores[targets == 0])
    score, gained = np.unique(positive, return_counts=True)
    score, gained = score[::-1], gained[::-1]
    # the first index at or above a score tells how many lie below it
    lower_negative = np.searchsorted(negative, score, "left")
    lower_positive = np.searchsorted(positive, score, "left")
    below = np.maximum(_before(negative, lower_negative), _before(positive, lower_positive))
    return PositiveCuts(
        score,
        np.where(np.isinf(below), np.nan, below),
        gained.astype(np.float64),
        np.cumsum(gained).astype(np.float64),
        (len(negative) - lower_negative).astype(np.float64),
        (len(negative) - np.searchsorted(negative, score, "right")).astype(np.float64),
        len(positive),
        len(negative),
    )


def f1_at_cuts(cuts: PositiveCuts) -> Array:
    """(K,) F1 when everything at or above each cut is called positive."""
    return 2 * cuts.true_positives / (cuts.true_positives + cuts.false_positives + cuts.positives)


def _before(ordered: Array, index: npt.NDArray[np.intp]) -> Array:
    return np.concatenate([[-np.inf], ordered])[index]
