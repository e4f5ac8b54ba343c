"""Decision thresholds, chosen on validation only, and shrunk where validation has few positives to choose by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from radlens.core.errors import SpecError, unknown_name
from radlens.evaluate.ranking import f1_at_cuts, positive_cuts
from radlens.evaluate.undefined import quotient

Array = npt.NDArray[np.float64]
Policy = Literal["validation", "fixed"]
FIXED = 0.5
SHRINKAGE = 10
"""Validation positives at which the tuned and the prevalence-matched threshold weigh the same."""


@dataclass(frozen=True)
class Thresholds:
    """values (L,) on probabilities; rule: how each came about, in words, L of them."""

    values: Array
    rule: tuple[str, ...]


def prevalence(targets: npt.NDArray[np.float32]) -> Array:
    """(N, L) targets -> (L,) share of positives among assessed images; NaN where none is assessed."""
    positives = (targets == 1).sum(axis=0)
    return quotient(positives, positives + (targets == 0).sum(axis=0))


def decide(probabilities: Array, thresholds: Array) -> npt.NDArray[np.int8]:
    """(N, L) probabilities and (L,) thresholds -> int8 (N, L): 1 where probability >= threshold."""
    return (probabilities >= thresholds).astype(np.int8)


def choose_thresholds(
    probabilities: Array, targets: npt.NDArray[np.float32], train_prevalence: Array, policy: Policy = "validation"
) -> Thresholds:
    """One threshold a label from the validation split.

    probabilities float64 (N, L) in [0, 1]; targets (N, L) 1, 0 or NaN; train_prevalence (L,), NaN where unknown.
    `fixed`: 0.5 throughout. `validation`: with n validation positives, the threshold of best F1 weighs n / (n + 10),
    the prevalence-matched threshold (it calls as large a share of validation positive as is positive in training) the
    rest, averaged as logits. No validation positives: prevalence-matched alone. Not assessed on validation: 0.5.
    Both lie midway between two neighbouring scores. An unknown policy raises `SpecError`.
    """
    labels = targets.shape[1]
    if policy == "fixed":
        return Thresholds(np.full(labels, FIXED), ("fixed at 0.5",) * labels)
    if policy != "validation":
        raise SpecError(unknown_name("threshold policy", policy, ("validation", "fixed")))
    chosen = [_choose(probabilities[:, i], targets[:, i], float(train_prevalence[i])) for i in range(labels)]
    return Thresholds(np.array([value for value, _ in chosen], np.float64), tuple(rule for _, rule in chosen))


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


def _choose(scores: Array, targets: npt.NDArray[np.float32], share: float) -> tuple[float, str]:
    assessed = ~np.isnan(targets)
    if not assessed.any():
        return FIXED, "0.5: not assessed on validation"
    positives = int((targets == 1).sum())
    matched = prevalence_matched_threshold(scores[assessed], share)
    if not positives:
        if np.isnan(matched):
            return FIXED, "0.5: neither validation positives nor a training prevalence"
        return matched, f"matched to training prevalence {share:.3g}: no validation positives"
    tuned = best_f1_threshold(scores, targets)
    if np.isnan(matched):
        return tuned, f"best F1 on {positives} validation positives: no training prevalence"
    weight = positives / (positives + SHRINKAGE)
    value = tuned if tuned == matched else _expit(weight * _logit(tuned) + (1 - weight) * _logit(matched))
    return value, (
        f"best F1 on {positives} validation positives, weight {weight:.2f}; "
        f"matched to training prevalence {share:.3g}, weight {1 - weight:.2f}"
    )


def _midway(below: float, score: float) -> float:
    """Between two scores, above the lower even where no number lies between; below the lowest: towards 0."""
    if np.isnan(below):
        return score / 2
    middle = below + (score - below) / 2
    return middle if middle > below else score


def _logit(probability: float) -> float:
    # 0 and 1 have no logit: the nearest numbers whose logit can be turned back
    inside = min(max(probability, 1e-300), 1 - 2.0**-53)
    return float(np.log(inside) - np.log1p(-inside))


def _expit(logit: float) -> float:
    return float(1 / (1 + np.exp(-logit))) if logit >= 0 else float(np.exp(logit) / (1 + np.exp(logit)))
