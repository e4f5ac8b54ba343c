"""Conformal risk control: a threshold a label under which the expected share of missed positives is at most alpha.

The promise holds on average over calibration splits and over new patients that are exchangeable with the calibration
patients: same site, same way of sampling, and not used for training or early stopping. It needs nothing of the model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.special import betaincinv

from radlens.core.errors import DataError, SpecError
from radlens.core.undefined import quotient
from radlens.evaluate.calibration.reliability import LEAST_POSITIVES, wilson
from radlens.evaluate.patient_numbers import Patients, patient_numbers

Array = npt.NDArray[np.float64]
Targets = npt.NDArray[np.float32]
UNDECIDED = -1


@dataclass(frozen=True)
class Guarantee:
    """One label's threshold on scores (at or above it: in the set), or why there is none.

    patients: calibration patients with a positive image, the exchangeable units; positives: their positive images.
    calibration_miss_rate: mean over those patients of their share of positive images below the threshold. likely_low,
    likely_high: where the true miss rate under this one calibration split lies in nine of ten splits (exact for one
    positive image a patient and scores without ties). NaN threshold: no guarantee is possible.
    """

    alpha: float
    threshold: float
    patients: int
    positives: int
    calibration_miss_rate: float
    likely_low: float
    likely_high: float
    words: str


def least_patients(alpha: float) -> int:
    """Positive patients below which no threshold can promise a miss rate of `alpha`: ceil(1 / alpha) - 1."""
    return math.ceil(1 / alpha - 1e-9) - 1


def control_misses(scores: Array, targets: Targets, groups: Patients, alpha: float = 0.1) -> Guarantee:
    """The highest threshold of one label with E[share of a positive patient's positive images missed] <= alpha.

    scores (N,), raw or calibrated (any monotone function of them decides alike); targets (N,) 1, 0 or NaN; groups: N
    patients. A patient's loss is the share of his positive images that score below the threshold, as if one of them
    were drawn, so patients with many images count once. The threshold is the highest at which
    (sum of losses + 1) / (patients + 1) <= alpha. Angelopoulos et al., Conformal risk control, ICLR 2024, theorem 1.
    Raises `SpecError` for alpha not inside (0, 1), `DataError` for scores of positives that are not finite.
    """
    cells = targets[:, None] == 1
    return _control(np.asarray(scores, np.float64)[:, None], cells, groups, alpha, "positives", shared=False)


def control_missed_labels(probabilities: Array, targets: Targets, groups: Patients, alpha: float = 0.1) -> Guarantee:
    """One threshold for all labels with E[share of a patient's positive labels missed] <= alpha.

    probabilities (N, L), best calibrated, since one threshold serves all; targets (N, L). A patient's loss is the mean
    over his images with positive labels of the share of those that score below the threshold. A promise for label sets
    as a whole, possible where rare labels have none; a rare label may be missed always. Raises as `control_misses`.
    """
    return _control(np.asarray(probabilities, np.float64), targets == 1, groups, alpha, "positive labels", shared=True)


def prediction_sets(scores: Array, thresholds: Array) -> npt.NDArray[np.int8]:
    """(N, L) scores and (L,) thresholds -> int8 (N, L): 1 in the image's set, 0 not, -1 where there is no guarantee."""
    sets: npt.NDArray[np.int8] = np.where(np.isnan(thresholds), UNDECIDED, scores >= thresholds).astype(np.int8)
    return sets


def conformal_table(
    labels: Sequence[str],
    calibration: tuple[Array, Targets, Patients],
    test: tuple[Array, Targets, Patients],
    alpha: float = 0.1,
) -> pl.DataFrame:
    """A row a label: the guarantee from the calibration split, and what the test split shows of it.

    calibration, test: scores (N, L), targets (N, L), groups. `test_miss_rate` is the mean over test patients with a
    positive image of their share missed, with Wilson's 95% interval for so many patients; NaN below 10 of them.
    `test_specificity`: share of negative test images left out of the sets, the price of the promise.
    """
    rows = []
    of_calibration, of_test = patient_numbers(calibration[2]), patient_numbers(test[2])
    for i, label in enumerate(labels):
        made = control_misses(calibration[0][:, i], calibration[1][:, i], of_calibration, alpha)
        scores, truth = test[0][:, i], test[1][:, i]
        weights, patients = _weights(truth[:, None] == 1, of_test)
        known = not np.isnan(made.threshold)
        missed = float(weights[:, 0] @ (scores < made.threshold))
        rate = float(quotient(missed, patients)) if known else float("nan")
        low, high = wilson(rate, patients) if known and patients >= LEAST_POSITIVES else (float("nan"),) * 2
        negative = truth == 0
        spared = quotient((negative & (scores < made.threshold)).sum(), negative.sum())
        rows.append(
            {
                "label": label,
                "alpha": alpha,
                "threshold": made.threshold,
                "calibration_patients": made.patients,
                "calibration_positives": made.positives,
                "calibration_miss_rate": made.calibration_miss_rate,
                "likely_miss_rate_low": made.likely_low,
                "likely_miss_rate_high": made.likely_high,
                "test_patients": patients,
                "test_positives": int((truth == 1).sum()),
                "test_miss_rate": rate,
                "test_miss_rate_low": low,
                "test_miss_rate_high": high,
                "test_specificity": float(spared) if known else float("nan"),
                "words": made.words,
            }
        )
    return pl.DataFrame(rows, infer_schema_length=None)


def _control(
    scores: Array, cells: npt.NDArray[np.bool_], groups: Patients, alpha: float, what: str, *, shared: bool
) -> Guarantee:
    """scores, cells (N, L): which cells must not be missed; `shared`: one threshold for several labels."""
    if not 0 < alpha < 1:
        raise SpecError(f"conformal risk control: expected an alpha between 0 and 1, but found {alpha:g}.")
    wanted = scores[cells]
    if not np.isfinite(wanted).all():
        raise DataError(
            f"expected finite scores of positives, but found {int((~np.isfinite(wanted)).sum())} of {len(wanted)} that "
            "are not; look at the model's scores."
        )
    weights, patients = _weights(cells, groups)
    positives = len(wanted)
    if patients < least_patients(alpha):
        nan = float("nan")
        words = (
            f"no guarantee possible: {patients} calibration patients with {what}, "
            f"alpha {alpha:g} needs at least {least_patients(alpha)}"
        )
        return Guarantee(alpha, nan, patients, positives, nan, nan, nan, words)
    budget = alpha * (patients + 1) - 1
    order = np.argsort(wanted, kind="stable")
    ordered, lost = wanted[order], np.cumsum(weights[cells][order])
    # lost before a score: the weight of all strictly below it
    before = np.concatenate([[0.0], lost])[np.searchsorted(ordered, ordered, "left")]
    # weights are fractions: their sums stand a rounding off the whole numbers that they mean
    at = int(np.flatnonzero(before <= budget + 1e-9)[-1])
    threshold, missed = float(ordered[at]), float(before[at]) / patients
    allowed = math.floor(budget + 1e-9) + 1
    low, high = (float(betaincinv(allowed, patients + 1 - allowed, tail)) for tail in (0.05, 0.95))
    unit = "labels" if shared else "images"
    words = (
        f"on average at most {alpha:g} of a patient's positive {unit} are missed, from {patients} calibration patients "
        f"with {what}; with this calibration split the true share is likely between {low:.2f} and {high:.2f}"
    )
    return Guarantee(alpha, threshold, patients, positives, missed, low, high, words)


def _weights(cells: npt.NDArray[np.bool_], groups: Patients) -> tuple[Array, int]:
    """(N, L) weight of each cell in its patient's loss, and the number of patients with any cell.

    A patient's weights add up to 1: equally over his images with cells, and within an image over its cells.
    """
    patient = patient_numbers(groups)
    each = cells.sum(axis=1)
    images = np.bincount(patient, each > 0, int(patient.max()) + 1 if len(patient) else 0)
    share = quotient(1.0, images[patient] * each)
    return np.where(cells, share[:, None], 0.0), int((images > 0).sum())
