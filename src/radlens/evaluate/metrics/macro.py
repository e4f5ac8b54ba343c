"""Macro means: the unweighted mean of a label metric over the labels for which it is defined."""

from __future__ import annotations

import numpy as np

from radlens.core.parts import MetricInput, defined
from radlens.core.registry import register
from radlens.core.undefined import mean_of_defined, quotient
from radlens.evaluate.metrics import decision, discrimination, probability


@register("metrics", "macro-f1")
@defined(
    "overall",
    "higher",
    (0.0, 1.0),
    "Mean of F1 over the labels with at least one positive image in the split (their number: labels_counted).",
    "scikit-learn f1_score(average='macro') over those labels",
)
def macro_f1(inputs: MetricInput) -> float:
    """Mean F1 over labels with a positive image; NaN where there is none."""
    return float(mean_of_defined(decision.f1(inputs)))


@register("metrics", "macro-f1-always-positive")
@defined(
    "overall",
    "none",
    (0.0, 1.0),
    "Mean of f1_always_positive over the labels with at least one positive image: what macro F1 must beat.",
    "arithmetic; METHODS section 2",
)
def macro_f1_always_positive(inputs: MetricInput) -> float:
    """Mean of 2p / (1 + p) over labels with a positive image; NaN where there is none."""
    return float(mean_of_defined(decision.f1_always_positive(inputs)))


@register("metrics", "macro-f1-oracle")
@defined(
    "overall",
    "none",
    (0.0, 1.0),
    "Mean of f1_oracle over the labels with at least one positive image. Not a result: its distance to macro F1 is the "
    "oracle gap.",
    "maximum over the scikit-learn precision_recall_curve, label by label",
)
def macro_f1_oracle(inputs: MetricInput) -> float:
    """Mean over labels of the best F1 that a threshold tuned on this split reaches; NaN where there is none."""
    return float(mean_of_defined(decision.f1_oracle(inputs)))


@register("metrics", "macro-auroc")
@defined(
    "overall",
    "higher",
    (0.0, 1.0),
    "Mean of AUROC over the labels with both positive and negative images (their number: macro_auroc_labels_counted).",
    "scikit-learn roc_auc_score(average='macro') over those labels",
)
def macro_auroc(inputs: MetricInput) -> float:
    """Mean AUROC over labels with both classes; NaN where there is none."""
    return float(mean_of_defined(discrimination.auroc(inputs)))


@register("metrics", "macro-average-precision")
@defined(
    "overall",
    "higher",
    (0.0, 1.0),
    "Mean of average precision over the labels with at least one positive image (their number: labels_counted).",
    "scikit-learn average_precision_score(average='macro') over those labels",
)
def macro_average_precision(inputs: MetricInput) -> float:
    """Mean average precision over labels with a positive image; NaN where there is none."""
    return float(mean_of_defined(discrimination.average_precision(inputs)))


@register("metrics", "macro-average-precision-baseline")
@defined(
    "overall",
    "none",
    (0.0, 1.0),
    "Mean prevalence over the labels with at least one positive image: about what macro average precision is for "
    "scores that know nothing.",
    "arithmetic",
)
def macro_average_precision_baseline(inputs: MetricInput) -> float:
    """Mean share of positives over labels with a positive image; NaN where there is none."""
    positives, negatives = (inputs.targets == 1).sum(axis=0), (inputs.targets == 0).sum(axis=0)
    return float(mean_of_defined(np.where(positives > 0, quotient(positives, positives + negatives), np.nan)))


@register("metrics", "macro-brier")
@defined(
    "overall",
    "lower",
    (0.0, 1.0),
    "Mean of the Brier score over the labels with assessed images.",
    "mean of scikit-learn brier_score_loss over those labels",
)
def macro_brier(inputs: MetricInput) -> float:
    """Mean Brier score over labels with assessed images; NaN where there is none."""
    return float(mean_of_defined(probability.brier(inputs)))


@register("metrics", "macro-log-loss")
@defined(
    "overall",
    "lower",
    (0.0, float("inf")),
    "Mean of log-loss over the labels with assessed images.",
    "mean of scikit-learn log_loss over those labels",
)
def macro_log_loss(inputs: MetricInput) -> float:
    """Mean log-loss over labels with assessed images; NaN where there is none."""
    return float(mean_of_defined(probability.log_loss(inputs)))
