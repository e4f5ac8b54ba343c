"""Selective prediction: how the error falls when the least certain images are handed back to a reader."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from radlens.core.errors import SpecError
from radlens.core.undefined import quotient
from radlens.evaluate.log_odds import to_logits

Array = npt.NDArray[np.float64]
COVERAGES = (1.0, 0.9, 0.8, 0.5)
LEAST_ERRORS = 10


@dataclass(frozen=True)
class RiskCoverage:
    """coverage (K,): share of images kept, ascending, a point at each distinct confidence; risk (K,): mean loss of
    those kept. area: AURC, the mean risk over all numbers of images kept. area_oracle: of the best possible order.
    overall: the risk at coverage 1, which is also what an order that knows nothing has everywhere on average. NaN and
    empty without images.
    """

    coverage: Array
    risk: Array
    area: float
    area_oracle: float
    overall: float


def certainty(probabilities: Array, thresholds: Array) -> Array:
    """(N, L) distance of a probability to its label's threshold on the logit scale: 0 is undecided."""
    return np.abs(to_logits(probabilities) - to_logits(thresholds))


def risk_coverage(confidence: Array, loss: Array) -> RiskCoverage:
    """The curve of images kept from the most confident on; confidence, loss (N,); NaN loss = left out.

    Among images of equal confidence the order is random, and the area is its expectation.
    Geifman and El-Yaniv, NeurIPS 2017; AURC and its oracle: Geifman et al., ICLR 2019.
    """
    known = ~np.isnan(loss)
    c, lost = confidence[known], loss[known].astype(np.float64)
    if not len(lost):
        return RiskCoverage(np.zeros(0), np.zeros(0), float("nan"), float("nan"), float("nan"))
    kept = np.arange(1, len(lost) + 1)
    levels, place, counts = np.unique(-c, return_inverse=True, return_counts=True)
    mean_at = np.bincount(place, lost, len(levels)) / counts
    risks = np.cumsum(np.repeat(mean_at, counts)) / kept
    ends = np.cumsum(counts)
    best = np.cumsum(np.sort(lost)) / kept
    return RiskCoverage(ends / len(lost), risks[ends - 1], float(risks.mean()), float(best.mean()), float(lost.mean()))


def abstention_threshold(confidence: Array, coverage: float) -> float:
    """The confidence at or above which images are kept so that at least `coverage` of these (N,) are: for validation.

    The highest such threshold. NaN without images; coverage not in (0, 1] raises `SpecError`.
    """
    if not 0 < coverage <= 1:
        raise SpecError(f"expected a coverage above 0 and at most 1, but found {coverage:g}.")
    if not len(confidence):
        return float("nan")
    kept = int(np.ceil(coverage * len(confidence) - 1e-9))
    return float(np.partition(confidence, len(confidence) - kept)[len(confidence) - kept])


def selective_table(
    labels: Sequence[str],
    validation: tuple[Array, npt.NDArray[np.float32]],
    test: tuple[Array, npt.NDArray[np.float32]],
    thresholds: Array,
    coverages: Sequence[float] = COVERAGES,
) -> pl.DataFrame:
    """A row a label and coverage: abstention chosen on validation, told on test; loss is a wrong decision.

    validation, test: probabilities (N, L), targets (N, L). thresholds (L,) on probabilities. Columns: label, coverage
    (asked for), confidence (at or above which an image is kept), test_coverage and test_risk (reached), sensitivity
    (share of positives kept that are called), positives_kept, then for the whole curve aurc, aurc_oracle, overall_risk,
    errors, note ("not estimable" below 10 errors on test: aurc, risks NaN).
    """
    rows = []
    sure_val, sure_test = certainty(validation[0], thresholds), certainty(test[0], thresholds)
    for i, label in enumerate(labels):
        truth = test[1][:, i]
        wrong = np.where(np.isnan(truth), np.nan, (test[0][:, i] >= thresholds[i]) != (truth == 1))
        assessed, errors = ~np.isnan(truth), int(np.nansum(wrong))
        enough = errors >= LEAST_ERRORS
        curve = risk_coverage(sure_test[:, i], wrong)
        for coverage in coverages:
            least = abstention_threshold(sure_val[~np.isnan(validation[1][:, i]), i], coverage)
            # all are kept at coverage 1, also those less certain than any on validation
            kept = assessed & ((sure_test[:, i] >= least) | (coverage == 1))
            positive = kept & (truth == 1)
            risk = float(quotient(np.where(kept, wrong, 0.0).sum(), kept.sum()))
            rows.append(
                {
                    "label": label,
                    "coverage": coverage,
                    "confidence": 0.0 if coverage == 1 else least,
                    "test_coverage": float(quotient(kept.sum(), assessed.sum())),
                    "test_risk": risk if enough else float("nan"),
                    "sensitivity": float(quotient((positive & (wrong == 0)).sum(), positive.sum())),
                    "positives_kept": int(positive.sum()),
                    "aurc": curve.area if enough else float("nan"),
                    "aurc_oracle": curve.area_oracle if enough else float("nan"),
                    "overall_risk": curve.overall if enough else float("nan"),
                    "errors": errors,
                    "note": "" if enough else f"not estimable: {errors} errors, {LEAST_ERRORS} are needed",
                }
            )
    return pl.DataFrame(rows, infer_schema_length=None)
