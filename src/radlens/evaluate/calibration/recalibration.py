"""Calibration intercept and slope: logistic recalibration of the test split, with intervals over patients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.special import stdtrit

from radlens.evaluate.calibration.reliability import LEAST_POSITIVES
from radlens.evaluate.log_odds import to_logits, to_probabilities
from radlens.evaluate.patient_numbers import Patients, patient_numbers

Array = npt.NDArray[np.float64]
_ROUNDS = 60


@dataclass(frozen=True)
class Recalibration:
    """What would mend the probabilities of one label; NaN where `note` says why.

    intercept: of sigmoid(logit + intercept), "calibration in the large"; 0 is right, above 0: probabilities are too
    low. slope: of sigmoid(slope x logit + its own intercept); 1 is right, below 1: too extreme. 95% intervals.
    """

    assessed: int
    patients: int
    positives: int
    mean_probability: float
    prevalence: float
    intercept: float = float("nan")
    intercept_low: float = float("nan")
    intercept_high: float = float("nan")
    slope: float = float("nan")
    slope_low: float = float("nan")
    slope_high: float = float("nan")
    note: str = ""


def recalibration(probabilities: Array, targets: npt.NDArray[np.float32], groups: Patients) -> Recalibration:
    """Of one label: probabilities (N,), targets (N,) 1, 0 or NaN, groups: N patients.

    Both are maximum likelihood; intervals are of Wald with the sandwich variance clustered by patient (Liang and Zeger,
    Biometrika 1986) and a t quantile for the patients of the rarer class. Not estimable: below 10 positives or
    negatives, below 10 patients of either, or classes that the scores separate. Van Calster et al., BMC Medicine 2019.
    """
    known = ~np.isnan(targets)
    y = targets[known].astype(np.float64)
    p = np.asarray(probabilities, np.float64)[known]
    patient = patient_numbers(patient_numbers(groups)[known])
    positives, negatives = int(y.sum()), int((1 - y).sum())
    bare = Recalibration(
        len(y),
        int(patient.max()) + 1 if len(y) else 0,
        positives,
        float(p.mean()) if len(y) else float("nan"),
        float(y.mean()) if len(y) else float("nan"),
    )
    rarer = min(len(np.unique(patient[y == 1])), len(np.unique(patient[y == 0])))
    if min(positives, negatives, rarer) < LEAST_POSITIVES:
        return replace(
            bare,
            note=f"not estimable: {positives} positives, {negatives} negatives, {rarer} patients of "
            f"the rarer class; at least {LEAST_POSITIVES} of each are needed",
        )
    x = to_logits(p)
    reach = float(stdtrit(rarer - 1, 0.975))
    at, spread = _fit(np.ones((len(y), 1)), x, y, patient)
    bare = replace(
        bare,
        intercept=float(at[0]),
        intercept_low=float(at[0] - reach * spread[0]),
        intercept_high=float(at[0] + reach * spread[0]),
    )
    above, below = x[y == 1], x[y == 0]
    if above.min() >= below.max() or above.max() <= below.min():
        return replace(bare, note="slope not estimable: the scores separate positives from negatives")
    at, spread = _fit(np.column_stack([np.ones(len(y)), x]), np.zeros(len(y)), y, patient)
    return replace(
        bare,
        slope=float(at[1]),
        slope_low=float(at[1] - reach * spread[1]),
        slope_high=float(at[1] + reach * spread[1]),
    )


def recalibration_table(
    labels: Sequence[str], probabilities: Array, targets: npt.NDArray[np.float32], groups: Patients
) -> pl.DataFrame:
    """A row a label: `label` and the fields of `Recalibration`; probabilities, targets (N, L)."""
    patients = patient_numbers(groups)
    rows = [recalibration(probabilities[:, i], targets[:, i], patients) for i in range(len(labels))]
    columns = ("label", *Recalibration.__dataclass_fields__)
    data = [(label, *astuple(row)) for label, row in zip(labels, rows, strict=True)]
    return pl.DataFrame(data, schema=list(columns), orient="row", infer_schema_length=None)


def _fit(design: Array, offset: Array, y: Array, patient: npt.NDArray[np.intp]) -> tuple[Array, Array]:
    """Coefficients (k,) of a logistic regression with offset, and their standard errors clustered by patient."""
    # columns of like size: the same fit, better conditioned
    scale = np.sqrt((design**2).mean(axis=0))
    scale[scale == 0] = 1.0
    columns = design / scale
    at = np.zeros(columns.shape[1])

    def loss(at: Array) -> float:
        line = offset + columns @ at
        return float((np.logaddexp(0.0, line) - y * line).sum())

    now = loss(at)
    for _ in range(_ROUNDS):
        p = to_probabilities(offset + columns @ at)
        bend = np.einsum("nj,n,nk->jk", columns, p * (1 - p), columns)
        bend += 1e-10 * np.eye(len(at))
        step = np.linalg.solve(bend, columns.T @ (p - y))
        share, then = 1.0, np.inf
        while share > 1e-8:
            then = loss(at - share * step)
            if then <= now:
                break
            share /= 2
        if then > now:
            break
        at = at - share * step
        if now - then <= 1e-13 * abs(now):
            break
        now = then
    p = to_probabilities(offset + columns @ at)
    bread = np.linalg.inv(np.einsum("nj,n,nk->jk", columns, p * (1 - p), columns) + 1e-10 * np.eye(len(at)))
    patients = int(patient.max()) + 1
    pulls = np.column_stack([np.bincount(patient, (y - p) * column, patients) for column in columns.T])
    variance = bread @ (pulls.T @ pulls) @ bread * patients / max(patients - 1, 1)
    return at / scale, np.sqrt(np.diag(variance)) / scale
