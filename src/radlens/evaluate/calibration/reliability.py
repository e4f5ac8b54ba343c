"""Reliability curves: what share is positive among images of like probability, with intervals over patients."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from radlens.evaluate.patient_numbers import Patients, patient_numbers

Array = npt.NDArray[np.float64]
BINS = 10
LEAST_POSITIVES = 10
SCHEMA: dict[str, Any] = {
    "label": pl.String,
    "bin": pl.Int64,
    "images": pl.Int64,
    "patients": pl.Int64,
    "positives": pl.Int64,
    "mean_probability": pl.Float64,
    "observed": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
}


def equal_mass_bins(probabilities: Array, bins: int = BINS) -> npt.NDArray[np.int64]:
    """(N,) bin of each image, 0 the lowest; bins hold as equal numbers as ties allow, ties share one, none is empty."""
    _, place, counts = np.unique(probabilities, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts + 1) / 2
    at = np.floor(middle / max(len(probabilities), 1) * bins)
    dense: npt.NDArray[np.int64] = np.unique(at, return_inverse=True)[1].astype(np.int64)[place]
    return dense


def wilson(share: float, size: float) -> tuple[float, float]:
    """95% interval of a share seen in `size` independent draws (may be a fraction); NaN where size is 0.

    Wilson, Journal of the American Statistical Association 1927.
    """
    if not size > 0:
        return float("nan"), float("nan")
    z = NormalDist().inv_cdf(0.975)
    middle = (share + z**2 / (2 * size)) / (1 + z**2 / size)
    reach = z / (1 + z**2 / size) * np.sqrt(share * (1 - share) / size + z**2 / (4 * size**2))
    return max(0.0, float(middle - reach)), min(1.0, float(middle + reach))


def effective_size(y: Array, patient: npt.NDArray[np.intp]) -> float:
    """How many independent images the images of these patients are worth for the share of positives, at most N.

    y (N,) 0 or 1; patient (N,) numbers. N over the design effect of clusters; where all targets are alike, and so tell
    nothing of it, the number of patients. Korn and Graubard, Survey Methodology 1998; Dean and Pagano 2015.
    """
    _, cluster = np.unique(patient, return_inverse=True)
    patients = int(cluster.max()) + 1 if len(y) else 0
    share = float(y.mean()) if len(y) else 0.0
    if patients == len(y) or patients < 2 or share in (0.0, 1.0):
        return float(patients)
    pulls = np.bincount(cluster, y - share)
    variance = patients / (patients - 1) * float((pulls**2).sum()) / len(y) ** 2
    return min(float(len(y)), share * (1 - share) / variance) if variance > 0 else float(patients)


def reliability_curve(
    label: str, probabilities: Array, targets: npt.NDArray[np.float32], groups: Patients, bins: int = BINS
) -> pl.DataFrame:
    """Points of one label: a row a bin of equal mass, columns of `SCHEMA`.

    probabilities (N,); targets (N,) 1, 0 or NaN; groups: N patients. low, high: Wilson's 95% interval for the number of
    independent images that the bin is worth; NaN for a label with fewer than 10 positives or a bin of one patient.
    """
    known = ~np.isnan(targets)
    y, p = targets[known].astype(np.float64), np.asarray(probabilities, np.float64)[known]
    patient = patient_numbers(groups)[known]
    enough = y.sum() >= LEAST_POSITIVES
    at = equal_mass_bins(p, bins)
    rows: list[dict[str, Any]] = []
    for number in range(int(at.max()) + 1 if len(at) else 0):
        inside = at == number
        patients = len(np.unique(patient[inside]))
        size = effective_size(y[inside], patient[inside]) if enough and patients > 1 else 0.0
        low, high = wilson(float(y[inside].mean()), size)
        rows.append(
            {
                "label": label,
                "bin": number,
                "images": int(inside.sum()),
                "patients": patients,
                "positives": int(y[inside].sum()),
                "mean_probability": float(p[inside].mean()),
                "observed": float(y[inside].mean()),
                "low": low,
                "high": high,
            }
        )
    return pl.DataFrame(rows, schema=SCHEMA)


def reliability_table(
    labels: Sequence[str],
    probabilities: Array,
    targets: npt.NDArray[np.float32],
    groups: Patients,
    bins: int = BINS,
) -> pl.DataFrame:
    """The points of all labels, one below the other; probabilities, targets (N, L)."""
    patients = patient_numbers(groups)
    curves = [
        reliability_curve(label, probabilities[:, i], targets[:, i], patients, bins) for i, label in enumerate(labels)
    ]
    return pl.concat(curves) if curves else pl.DataFrame(schema=SCHEMA)
