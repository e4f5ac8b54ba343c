"""Calibration curves: from a label's raw logit to its probability, and back for a threshold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from radlens.evaluate.calibration.logistic import Line, fit_line
from radlens.evaluate.log_odds import to_logits, to_probabilities

Array = npt.NDArray[np.float64]
Way = Literal["identity", "temperature", "platt", "shared-slope", "isotonic"]


@dataclass(frozen=True)
class Straight:
    """sigmoid(slope * logit + intercept), slope > 0. held: the slope stands at the least allowed."""

    slope: float = 1.0
    intercept: float = 0.0
    held: bool = False

    def apply(self, logits: Array) -> Array:
        """(N,) logits -> (N,) probabilities."""
        return to_probabilities(self.slope * logits + self.intercept)

    def raw_threshold(self, threshold: float) -> float:
        """The threshold on the raw probability that decides as `threshold` does on the calibrated one."""
        return float(to_probabilities((float(to_logits(threshold)) - self.intercept) / self.slope))


@dataclass(frozen=True)
class Steps:
    """Linear between knots: logits (K,) ascending, probabilities (K,) not descending; constant beyond them."""

    logits: Array
    probabilities: Array

    def apply(self, logits: Array) -> Array:
        """(N,) logits -> (N,) probabilities; ties wherever the curve is flat."""
        return np.interp(logits, self.logits, self.probabilities)

    def raw_threshold(self, threshold: float) -> float:
        """The least raw probability whose calibrated one is at least `threshold`; 0 and 1 where all or none is."""
        at = int(np.searchsorted(self.probabilities, threshold, "left"))
        if at == 0 or at == len(self.probabilities):
            return float(at > 0)
        low, high = self.probabilities[at - 1], self.probabilities[at]
        logit = self.logits[at - 1] + (threshold - low) / (high - low) * (self.logits[at] - self.logits[at - 1])
        return float(to_probabilities(logit))


Curve = Straight | Steps


def fit_curves(logits: Array, targets: npt.NDArray[np.float32], ways: Sequence[Way]) -> tuple[Curve, ...]:
    """One curve a label, label l fitted in the way ways[l]; logits, targets (N, L), NaN target = not assessed.

    `temperature`: one slope, no intercept (Guo et al., ICML 2017). `platt`: slope and intercept of its own, on Platt's
    softened targets (Platt 1999). `shared-slope`: one slope fitted on all labels that have both classes, an intercept
    each. `isotonic`: a monotone step curve (Zadrozny and Elkan 2002), kept half an image away from 0 and 1.
    A label of which a class is missing here (a fold of cross-fitting) gets the shared slope and an intercept as if half
    an image of each class had been added.
    """
    t = targets.astype(np.float64)
    both = (targets == 1).any(axis=0) & (targets == 0).any(axis=0)
    fitted = np.array([way != "identity" for way in ways], np.bool_)
    temperature = shared = Line(1.0, np.zeros(0))
    if "temperature" in ways and (both & fitted).any():
        temperature = fit_line(logits[:, fitted], t[:, fitted], intercepts=False)
    missing = fitted & ~both & np.array([way != "temperature" for way in ways], np.bool_)
    if ("shared-slope" in ways or missing.any()) and both.any():
        shared = fit_line(logits[:, both], t[:, both])
    curves: list[Curve] = []
    for label, way in enumerate(ways):
        column, truth = logits[:, [label]], t[:, [label]]
        if way == "identity":
            curves.append(Straight())
        elif way == "temperature":
            curves.append(Straight(temperature.slope, 0.0, temperature.held))
        elif way == "shared-slope" or not both[label]:
            soft = truth if both[label] else _half_an_image(truth)
            curves.append(_straight(fit_line(column, soft, slope=shared.slope), shared.held))
        elif way == "platt":
            curves.append(_straight(fit_line(column, _platt_targets(truth))))
        else:
            curves.append(_isotonic(column[:, 0], truth[:, 0]))
    return tuple(curves)


def _straight(line: Line, held: bool = False) -> Straight:
    return Straight(line.slope, float(line.intercepts[0]), held or line.held)


def _platt_targets(truth: Array) -> Array:
    positives, negatives = int((truth == 1).sum()), int((truth == 0).sum())
    soft = np.where(truth == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    return np.where(np.isnan(truth), np.nan, soft)


def _half_an_image(truth: Array) -> Array:
    count = int((~np.isnan(truth)).sum())
    return truth * (1 - 1 / (count + 1)) + 0.5 / (count + 1)


def _isotonic(logits: Array, truth: Array) -> Steps:
    # only asked for by name, and its library takes a second to import
    from sklearn.isotonic import IsotonicRegression

    known = ~np.isnan(truth)
    nearest = 0.5 / (int(known.sum()) + 1)
    model = IsotonicRegression(y_min=nearest, y_max=1 - nearest).fit(logits[known], truth[known])
    return Steps(np.asarray(model.X_thresholds_, np.float64), np.asarray(model.y_thresholds_, np.float64))
