"""One threshold from one label's scores: best F1, prevalence-matched, fixed recall, half of the best F1."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from radlens.evaluate.ranking import f1_at_cuts, positive_cuts

Array = npt.NDArray[np.float64]


def best_f1_threshold(scores: Array, targets: npt.NDArray[np.float32]) -> float:
    """The threshold of greatest F1 for scores (N,), targets (N,); the highest of several; NaN without positives."""
    cuts = positive_cuts(scores, targets)
    if not cuts.positives:
        return float("nan")
    best = int(np.argmax(f1_at_cuts(cuts)))
    return _midway(float(cuts.below[best]), float(cuts.score[best]))


def prevalence_matched_threshold(scores: Array, share: float) -> float:
    """The threshold that calls as nearly as can be `share` of scores (N,) positive; at least one, unless share is 0.

    NaN without scores or where `share` is NaN.
    """
    if len(scores) == 0 or np.isnan(share):
        return float("nan")
    distinct, counts = np.unique(scores, return_counts=True)
    if share <= 0:
        return _midway(float(distinct[-1]), 1.0)
    called = np.cumsum(counts[::-1])[::-1]
    # of two cuts as near, the one that calls fewer positive
    nearest = len(distinct) - 1 - int(np.argmin(np.abs(called[::-1] - share * len(scores))))
    return _midway(float(distinct[nearest - 1]) if nearest else float("nan"), float(distinct[nearest]))


def recall_threshold(scores: Array, targets: npt.NDArray[np.float32], least: float) -> tuple[float, int]:
    """The highest threshold whose recall on scores (N,), targets (N,) is at least `least`, in (0, 1].

    Returns it and how many positives it calls; NaN and 0 without positives.
    """
    cuts = positive_cuts(scores, targets)
    if not cuts.positives:
        return float("nan"), 0
    # 0.9 x 10 must not become 9.000000000000002 positives
    enough = int(np.argmax(cuts.true_positives >= least * cuts.positives - 1e-9))
    value = _midway(float(cuts.below[enough]), float(cuts.score[enough]))
    return value, int(cuts.true_positives[enough])


def best_expected_f1(probabilities: Array) -> float:
    """The best F1 that calibrated probabilities (N,) let one expect; half of it is the threshold that reaches it.

    The greatest 2 S(t) / (n(t) + S), with n(t) images at or above t, S(t) the sum of their probabilities and S that
    of all: expected true positives over expected sizes. Needs no targets. NaN without images, 0 where all are 0.
    Lipton, Elkan and Naryanaswamy, ECML 2014, theorem 1: the cut of best F1 lies at F*/2.
    """
    if len(probabilities) == 0:
        return float("nan")
    ordered = np.sort(probabilities)[::-1]
    called = np.arange(1, len(ordered) + 1)
    total = float(ordered.sum())
    return float((2 * np.cumsum(ordered) / (called + total)).max()) if total > 0 else 0.0


def _midway(below: float, score: float) -> float:
    """Between two scores, above the lower even where no number lies between; below the lowest: towards 0."""
    if np.isnan(below):
        return score / 2
    middle = below + (score - below) / 2
    return middle if middle > below else score
