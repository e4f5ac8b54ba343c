"""Fit a calibration on the validation split: a method for each label, chosen by how many patients can tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import polars as pl

from radlens.core.errors import DataError, SpecError, unknown_name
from radlens.core.parts import MetricInput
from radlens.evaluate.calibration.curves import Curve, Straight, Way, fit_curves
from radlens.evaluate.calibration.folds import patient_folds
from radlens.evaluate.log_odds import to_probabilities
from radlens.evaluate.metrics.probability import log_loss
from radlens.evaluate.patient_numbers import Patients, patient_numbers

Array = npt.NDArray[np.float64]
Targets = npt.NDArray[np.float32]
Method = Literal["auto", "temperature", "platt", "shared-slope", "isotonic"]
ENOUGH = 20
"""Patients of the rarer class from which a label gets a slope of its own."""
FOLDS = 5


@dataclass(frozen=True)
class Calibration:
    """One curve a label, and why.

    ways (L): identity, temperature, platt, shared-slope or isotonic; reasons (L): in words. patients (L,): validation
    patients of the rarer class. cross_fitted float64 (N, L): calibrated probability of each validation image from a fit
    that has not seen its patient; what calibration is judged by and thresholds may be chosen on.
    """

    ways: tuple[Way, ...]
    reasons: tuple[str, ...]
    curves: tuple[Curve, ...]
    patients: npt.NDArray[np.int64]
    cross_fitted: Array

    @property
    def calibrated(self) -> npt.NDArray[np.bool_]:
        """(L,) whether a label was calibrated at all."""
        return np.array([way != "identity" for way in self.ways], np.bool_)

    def apply(self, logits: npt.NDArray[np.floating]) -> Array:
        """Raw logits (M, L) -> calibrated probabilities float64 (M, L); monotone in the logit of a label."""
        return _apply(self.curves, np.asarray(logits, np.float64))

    def raw_thresholds(self, thresholds: Array) -> Array:
        """Thresholds (L,) on calibrated probabilities -> those on raw probabilities that decide the same."""
        pairs = zip(self.curves, thresholds, strict=True)
        return np.array([curve.raw_threshold(float(threshold)) for curve, threshold in pairs], np.float64)

    def table(self, labels: Sequence[str], logits: npt.NDArray[np.floating], targets: Targets) -> pl.DataFrame:
        """A row a label: method, slope, intercept, patients, log-loss on validation before and after, and the reason.

        logits, targets (N, L): those it was fitted on; `after` is of the cross-fitted probabilities.
        """
        nobody = np.zeros(targets.shape, np.int8)
        before = log_loss(MetricInput(to_probabilities(logits), targets, nobody))
        after = log_loss(MetricInput(self.cross_fitted, targets, nobody))
        lines = [curve if isinstance(curve, Straight) else Straight(np.nan, np.nan) for curve in self.curves]
        return pl.DataFrame(
            {
                "label": list(labels),
                "method": list(self.ways),
                "slope": [line.slope for line in lines],
                "intercept": [line.intercept for line in lines],
                "patients_of_rarer_class": self.patients,
                "log_loss_raw": before,
                "log_loss_cross_fitted": after,
                "reason": list(self.reasons),
            }
        )


def fit_calibration(
    logits: npt.NDArray[np.floating],
    targets: Targets,
    groups: Patients,
    method: Method = "auto",
    seed: int = 0,
) -> Calibration:
    """Calibrate every label on the validation split.

    logits (N, L), finite (from probabilities: `to_logits`); targets (N, L) 1, 0 or NaN; groups: N patients.
    `auto`: Platt scaling for labels with at least 20 patients of the rarer class, one slope shared by all labels with
    an intercept for each below; isotonic regression only when asked for, since it overfits below some thousand images
    (Niculescu-Mizil and Caruana, ICML 2005). A label without positives or without negatives, or a split of one patient,
    stays as it is, with the reason. Raises `DataError` for logits that are not finite, `SpecError` for a method.
    """
    if method not in get_args(Method):
        raise SpecError(unknown_name("calibration method", method, get_args(Method)))
    x = _finite(logits)
    if x.shape != targets.shape or len(groups) != len(x):
        raise ValueError(f"logits {x.shape}, targets {targets.shape} and {len(groups)} groups do not fit together.")
    patient = patient_numbers(groups)
    patients = int(patient.max()) + 1 if len(patient) else 0
    positive = _patients_with(targets == 1, patient)
    negative = _patients_with(targets == 0, patient)
    chosen = [_choose(method, int(p), int(n), patients) for p, n in zip(positive, negative, strict=True)]
    ways = [way for way, _ in chosen]
    curves = fit_curves(x, targets, ways)
    held = [isinstance(curve, Straight) and curve.held for curve in curves]
    reasons = [
        f"{words}; slope at its least: scores do not rank positives above negatives" if flat else words
        for (_, words), flat in zip(chosen, held, strict=True)
    ]
    crossed = np.empty(x.shape)
    folds = min(FOLDS, patients)
    fold = patient_folds(patient, targets, max(folds, 1), seed)
    for left_out in range(folds):
        out = fold == left_out
        # a split of one patient has nothing to learn from, and all its labels stay as they are
        crossed[out] = _apply(fit_curves(x[~out], targets[~out], ways), x[out])
    return Calibration(tuple(ways), tuple(reasons), curves, np.minimum(positive, negative), crossed)


def _choose(method: Method, positive: int, negative: int, patients: int) -> tuple[Way, str]:
    if patients < 2:
        return "identity", "left as it is: validation has fewer than two patients"
    if not positive or not negative:
        return "identity", f"left as it is: no {'positives' if not positive else 'negatives'} on validation"
    rarer = min(positive, negative)
    having = f"{rarer} validation patients with {'positives' if positive <= negative else 'negatives'}"
    few = rarer < ENOUGH
    if method == "auto":
        if few:
            return "shared-slope", f"slope shared by all labels, intercept of its own: {having}, below {ENOUGH}"
        return "platt", f"Platt scaling: {having}"
    if method == "temperature":
        return method, "one temperature for all labels, as asked for"
    warning = f"; below {ENOUGH} it is uncertain" if few and method != "shared-slope" else ""
    return method, f"{method} as asked for: {having}{warning}"


def _apply(curves: Sequence[Curve], logits: Array) -> Array:
    out = np.empty(logits.shape)
    for label, curve in enumerate(curves):
        out[:, label] = curve.apply(logits[:, label])
    return out


def _patients_with(cells: npt.NDArray[np.bool_], patient: npt.NDArray[np.intp]) -> npt.NDArray[np.int64]:
    """(L,) patients with at least one such cell."""
    return np.array([len(np.unique(patient[column])) for column in cells.T], np.int64)


def _finite(logits: npt.NDArray[np.floating]) -> Array:
    x = np.asarray(logits, np.float64)
    bad = np.argwhere(~np.isfinite(x))
    if len(bad):
        row, label = bad[0]
        raise DataError(
            f"expected finite logits, but found {x[row, label]} in row {row} of label {label} ({len(bad)} in all); "
            "look at the model's scores of that image."
        )
    return x
