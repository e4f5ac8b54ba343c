"""Expected calibration error in bins of equal mass, beside what a calibrated model of the same size would show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from radlens.evaluate.calibration.reliability import BINS, LEAST_POSITIVES, equal_mass_bins
from radlens.evaluate.patient_numbers import Patients, patient_numbers

Array = npt.NDArray[np.float64]
DRAWS = 200


@dataclass(frozen=True)
class CalibrationError:
    """Of one label: the error, the null's 2.5%, 50% and 97.5% quantiles, and the p value against it.

    clustering: how alike the images of a patient are beyond their probabilities, 0 to 1, as the null assumes. words:
    the sentence for a reader. NaN where not estimable.
    """

    assessed: int
    patients: int
    positives: int
    bins: int
    error: float
    null_low: float
    null_median: float
    null_high: float
    p_value: float
    clustering: float
    words: str


def calibration_error(
    probabilities: Array,
    targets: npt.NDArray[np.float32],
    groups: Patients,
    seed: int = 0,
    bins: int = BINS,
    draws: int = DRAWS,
) -> CalibrationError:
    """Sum over equal-mass bins of share of images x |mean probability - share of positives|, and its null.

    probabilities (N,); targets (N,) 1, 0 or NaN; groups: N patients. Null: targets drawn from the probabilities
    themselves, so that they are calibrated by construction; images of a patient share their draw as often as the
    residuals of patients with several images are alike. p value: share of draws with as great an error, the split
    itself counted in. Below 10 positives not estimable. Memory does not grow with `draws`.
    Naeini et al., AAAI 2015; equal mass: Nixon et al. 2019; the resampled null: Broecker and Smith 2007.
    """
    known = ~np.isnan(targets)
    order = np.argsort(np.asarray(probabilities, np.float64)[known], kind="stable")
    y, p = targets[known][order].astype(np.float64), np.asarray(probabilities, np.float64)[known][order]
    patient = patient_numbers(patient_numbers(groups)[known])[order]
    patients, positives = int(patient.max()) + 1 if len(y) else 0, int(y.sum())
    at = equal_mass_bins(p, bins)
    used = int(at.max()) + 1 if len(y) else 0
    nan = float("nan")
    if positives < LEAST_POSITIVES:
        words = f"not estimable: {positives} positives, {LEAST_POSITIVES} are needed"
        return CalibrationError(len(y), patients, positives, used, nan, nan, nan, nan, nan, nan, words)
    first = np.searchsorted(at, np.arange(used))
    # images lie in order of probability, so that a bin is a run of them
    expected = np.add.reduceat(p, first)

    def error(drawn: Array) -> float:
        return float(np.abs(np.add.reduceat(drawn, first) - expected).sum()) / len(p)

    found, alike = error(y), _clustering(y, at, patient)
    random = np.random.default_rng(seed)
    null = np.empty(draws)
    for draw in range(draws):
        chance = random.random(len(p))
        if alike > 0:
            shared = random.random(patients)[patient]
            chance = np.where(random.random(len(p)) < np.sqrt(alike), shared, chance)
        null[draw] = error((chance < p).astype(np.float64))
    low, median, high = (float(value) for value in np.quantile(null, [0.025, 0.5, 0.975]))
    p_value = float((1 + (null >= found).sum()) / (draws + 1))
    words = f"ECE {_short(found)}, a calibrated model of this n shows {_short(low)} to {_short(high)}"
    return CalibrationError(len(y), patients, positives, used, found, low, median, high, p_value, alike, words)


def calibration_error_table(
    labels: Sequence[str],
    probabilities: Array,
    targets: npt.NDArray[np.float32],
    groups: Patients,
    seed: int = 0,
    bins: int = BINS,
    draws: int = DRAWS,
) -> pl.DataFrame:
    """A row a label: `label` and the fields of `CalibrationError`; probabilities, targets (N, L)."""
    patients = patient_numbers(groups)
    rows = [
        (label, *astuple(calibration_error(probabilities[:, i], targets[:, i], patients, seed + i, bins, draws)))
        for i, label in enumerate(labels)
    ]
    columns = ["label", *CalibrationError.__dataclass_fields__]
    return pl.DataFrame(rows, schema=columns, orient="row", infer_schema_length=None)


def _clustering(y: Array, at: npt.NDArray[np.int64], patient: npt.NDArray[np.intp]) -> float:
    """Products of residuals over pairs of a patient's images, as a share of what equal targets would give; 0 to 1.

    Residuals from the share of positives in the bin: a miscalibrated model must not look like alike images.
    """
    share = (np.bincount(at, y) / np.bincount(at))[at]
    spread = np.sqrt(share * (1 - share))
    residual = y - share
    pairs = float((np.bincount(patient, residual) ** 2).sum() - (residual**2).sum())
    most = float((np.bincount(patient, spread) ** 2).sum() - (spread**2).sum())
    return min(max(pairs / most, 0.0), 1.0) if most > 1e-9 else 0.0


def _short(value: float) -> str:
    """Three places below .1, without the zero before the point: .041, .23."""
    return f"{value:.3f}".removeprefix("0") if value < 0.1 else f"{value:.2f}".removeprefix("0")
