"""Metrics of how an image's labels are ordered by score: LRAP, coverage error, ranking loss.

Each looks at the assessed labels of an image only, and leaves out images without any. Ties count against the ranking.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from radlens.core.parts import MetricInput, defined
from radlens.core.registry import register
from radlens.core.undefined import mean_of_defined


@dataclass(frozen=True)
class _Rows:
    """Images with an assessed label, label by label so that each label's row lies together; all arrays (L, N)."""

    scores: npt.NDArray[np.float64]
    positive: npt.NDArray[np.bool_]
    negative: npt.NDArray[np.bool_]


def _rows(inputs: MetricInput) -> _Rows:
    keep = ~np.isnan(inputs.targets).all(axis=1)
    targets = np.ascontiguousarray(inputs.targets[keep].T)
    return _Rows(np.ascontiguousarray(inputs.scores[keep].T), targets == 1, targets == 0)


@register("metrics", "lrap")
@defined(
    "overall",
    "higher",
    (0.0, 1.0),
    "Label ranking average precision: for each positive label of an image, the share of positives among the labels "
    "scored at least as high; averaged over its positive labels, then over images. An image whose assessed labels are "
    "all positive or all negative counts as 1.",
    "scikit-learn label_ranking_average_precision_score",
)
def lrap(inputs: MetricInput) -> float:
    """Mean over images; NaN where no image has an assessed label."""
    rows = _rows(inputs)
    total = np.zeros(rows.scores.shape[1])
    for scores, positive in zip(rows.scores, rows.positive, strict=True):
        at_least = rows.scores >= scores
        right = (at_least & rows.positive).sum(axis=0)
        rank = right + (at_least & rows.negative).sum(axis=0)
        total += np.where(positive, right / np.maximum(rank, 1), 0.0)
    positives, negatives = rows.positive.sum(axis=0), rows.negative.sum(axis=0)
    trivial = (positives == 0) | (negatives == 0)
    return float(mean_of_defined(np.where(trivial, 1.0, total / np.maximum(positives, 1))))


@register("metrics", "coverage-error")
@defined(
    "overall",
    "lower",
    (0.0, float("inf")),
    "How many of the best-scored labels must be taken to hold all positive ones, on average over images; the number of "
    "positive labels is the best possible. An image without a positive label counts as 0.",
    "scikit-learn coverage_error",
)
def coverage_error(inputs: MetricInput) -> float:
    """Mean over images, at most L; NaN where no image has an assessed label."""
    rows = _rows(inputs)
    lowest = np.where(rows.positive, rows.scores, np.inf).min(axis=0, initial=np.inf)
    taken = ((rows.scores >= lowest) & (rows.positive | rows.negative)).sum(axis=0)
    return float(mean_of_defined(taken.astype(np.float64)))


@register("metrics", "ranking-loss")
@defined(
    "overall",
    "lower",
    (0.0, 1.0),
    "Share of an image's pairs of a positive and a negative label that are ordered wrongly, ties counting as wrong; "
    "averaged over images. An image whose assessed labels are all positive or all negative counts as 0.",
    "scikit-learn label_ranking_loss",
)
def ranking_loss(inputs: MetricInput) -> float:
    """Mean over images; NaN where no image has an assessed label."""
    rows = _rows(inputs)
    wrong = np.zeros(rows.scores.shape[1])
    for scores, positive in zip(rows.scores, rows.positive, strict=True):
        wrong += np.where(positive, ((rows.scores >= scores) & rows.negative).sum(axis=0), 0)
    pairs = rows.positive.sum(axis=0) * rows.negative.sum(axis=0)
    return float(mean_of_defined(wrong / np.maximum(pairs, 1)))
