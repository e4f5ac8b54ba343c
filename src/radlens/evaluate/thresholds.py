"""Decision thresholds, chosen on validation only, and shrunk where validation has few positives to choose by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from radlens.core.errors import SpecError, unknown_name
from radlens.core.undefined import quotient
from radlens.evaluate.log_odds import to_logits, to_probabilities
from radlens.evaluate.threshold_cuts import (
    best_expected_f1,
    best_f1_threshold,
    prevalence_matched_threshold,
    recall_threshold,
)

Array = npt.NDArray[np.float64]
Targets = npt.NDArray[np.float32]
Policy = Literal["validation", "fixed", "paper", "recall", "prevalence", "half-f1"]
FIXED = 0.5
RECALL = 0.9
SHRINKAGE = 10
"""Validation positives at which the tuned and the prevalence-matched threshold weigh the same."""


@dataclass(frozen=True)
class Thresholds:
    """values (L,) on probabilities; rule: how each came about, in words, L of them."""

    values: Array
    rule: tuple[str, ...]


def prevalence(targets: Targets) -> Array:
    """(N, L) targets -> (L,) share of positives among assessed images; NaN where none is assessed."""
    positives = (targets == 1).sum(axis=0)
    return quotient(positives, positives + (targets == 0).sum(axis=0))


def decide(probabilities: Array, thresholds: Array) -> npt.NDArray[np.int8]:
    """(N, L) probabilities and (L,) thresholds -> int8 (N, L): 1 where probability >= threshold."""
    return (probabilities >= thresholds).astype(np.int8)


def choose_thresholds(
    probabilities: Array,
    targets: Targets,
    train_prevalence: Array,
    policy: Policy = "validation",
    *,
    value: float | None = None,
    calibrated: npt.NDArray[np.bool_] | None = None,
) -> Thresholds:
    """One threshold a label from the validation split.

    probabilities float64 (N, L) in [0, 1]; targets (N, L) 1, 0 or NaN; train_prevalence (L,), NaN where unknown.
    policy:
    - `validation`: with n validation positives, the threshold of best F1 weighs n / (n + 10), the prevalence-matched
      threshold the rest, averaged as logits. No validation positives: prevalence-matched alone.
    - `fixed`: `value` (0.5) throughout. `paper`: 0.5 on the setting's own probability, as Sadman et al. (BIOKDD 2025)
      have it (zero-shot with that rule fixes it by itself).
    - `recall`: the highest threshold that calls at least `value` (0.9) of the validation positives; without any,
      prevalence-matched. What it delivers elsewhere is not promised: conformal thresholds are for that.
    - `prevalence`: calls as large a share of validation positive as is positive in training.
    - `half-f1`: half of the best F1 that the probabilities let one expect (Lipton et al. 2014). Right for calibrated
      probabilities only: labels not `calibrated` (L,) fall back to `validation`.
    A label not assessed on validation gets 0.5. All lie midway between two neighbouring scores but fixed ones and
    `half-f1`. An unknown policy, a value out of (0, 1], or `half-f1` without `calibrated` raise `SpecError`.
    """
    if policy not in get_args(Policy):
        raise SpecError(unknown_name("threshold policy", policy, get_args(Policy)))
    if value is not None and not 0 < value <= 1:
        raise SpecError(f"threshold policy {policy!r}: expected a value above 0 and at most 1, but found {value:g}.")
    if policy == "half-f1" and calibrated is None:
        raise SpecError("threshold policy 'half-f1' needs calibrated probabilities; calibrate, or choose 'validation'.")
    fixed = FIXED if value is None or policy == "paper" else value
    least = RECALL if value is None else value

    def one(label: int) -> tuple[float, str]:
        scores, truth, share = probabilities[:, label], targets[:, label], float(train_prevalence[label])
        known = ~np.isnan(truth)
        if policy == "fixed":
            return fixed, f"fixed at {fixed:g}"
        if policy == "paper":
            return fixed, "the paper's rule: 0.5 on the setting's own probability"
        if not known.any():
            return FIXED, "0.5: not assessed on validation"
        if policy == "recall":
            return _recall(scores[known], truth[known], share, least)
        if policy == "prevalence":
            return _matched(scores[known], share, "")
        if policy == "half-f1":
            if calibrated is not None and calibrated[label]:
                return _half_f1(scores[known])
            shrunk, words = _shrunk(scores[known], truth[known], share)
            return shrunk, f"{words}; half of the best F1 needs a calibrated label"
        return _shrunk(scores[known], truth[known], share)

    chosen = [one(label) for label in range(targets.shape[1])]
    return Thresholds(np.array([at for at, _ in chosen], np.float64), tuple(rule for _, rule in chosen))


def _matched(scores: Array, share: float, why: str) -> tuple[float, str]:
    matched = prevalence_matched_threshold(scores, share)
    if np.isnan(matched):
        return FIXED, f"0.5: {'neither validation positives nor a' if why else 'no'} training prevalence"
    return matched, f"matched to training prevalence {share:.3g}{why}"


def _recall(scores: Array, targets: Targets, share: float, least: float) -> tuple[float, str]:
    positives = int((targets == 1).sum())
    if not positives:
        return _matched(scores, share, ": no validation positives")
    found, called = recall_threshold(scores, targets, least)
    return found, f"recall at least {least:g} on validation: {called} of {positives} positives called"


def _half_f1(scores: Array) -> tuple[float, str]:
    best = best_expected_f1(scores)
    # of probabilities that are all 0, 0 would call every image positive
    value = best / 2 if best > 0 else FIXED
    return value, f"half of the best F1 ({best:.3g}) that the calibrated probabilities let one expect on validation"


def _shrunk(scores: Array, targets: Targets, share: float) -> tuple[float, str]:
    positives = int((targets == 1).sum())
    if not positives:
        return _matched(scores, share, ": no validation positives")
    matched = prevalence_matched_threshold(scores, share)
    tuned = best_f1_threshold(scores, targets)
    if np.isnan(matched):
        return tuned, f"best F1 on {positives} validation positives: no training prevalence"
    weight = positives / (positives + SHRINKAGE)
    value = tuned if tuned == matched else _between(tuned, matched, weight)
    return value, (
        f"best F1 on {positives} validation positives, weight {weight:.2f}; "
        f"matched to training prevalence {share:.3g}, weight {1 - weight:.2f}"
    )


def _between(tuned: float, matched: float, weight: float) -> float:
    first, second = to_logits([tuned, matched])
    return float(to_probabilities(weight * first + (1 - weight) * second))
