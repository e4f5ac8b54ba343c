"""Metrics of one label's scores over all thresholds: AUROC and average precision."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from radlens.core.parts import MetricInput, defined
from radlens.core.registry import register
from radlens.evaluate.ranking import positive_cuts

Array = npt.NDArray[np.float64]


@register("metrics", "auroc")
@defined(
    "label",
    "higher",
    (0.0, 1.0),
    "Chance that a positive image scores above a negative one, ties counting half; 0.5 is chance. Undefined without "
    "both positive and negative images.",
    "scikit-learn roc_auc_score (Mann-Whitney U), but undefined is NaN",
)
def auroc(inputs: MetricInput) -> Array:
    """Area under the ROC curve, (L,); NaN where one class is missing."""
    areas = np.full(inputs.targets.shape[1], np.nan)
    for label in range(len(areas)):
        cuts = positive_cuts(inputs.scores[:, label], inputs.targets[:, label])
        if cuts.positives and cuts.negatives:
            beaten = cuts.negatives - (cuts.false_positives + cuts.false_above) / 2
            areas[label] = (cuts.gained * beaten).sum() / (cuts.positives * cuts.negatives)
    return areas


@register("metrics", "average-precision")
@defined(
    "label",
    "higher",
    (0.0, 1.0),
    "Mean of the precision at each positive image's score, without interpolation; the prevalence is chance. Undefined "
    "without positive images.",
    "scikit-learn average_precision_score, but undefined is NaN",
)
def average_precision(inputs: MetricInput) -> Array:
    """Sum over cuts of (gain in recall) x precision, (L,); NaN where no image is positive."""
    areas = np.full(inputs.targets.shape[1], np.nan)
    for label in range(len(areas)):
        cuts = positive_cuts(inputs.scores[:, label], inputs.targets[:, label])
        if cuts.positives:
            precision = cuts.true_positives / (cuts.true_positives + cuts.false_positives)
            areas[label] = (cuts.gained * precision).sum() / cuts.positives
    return areas
