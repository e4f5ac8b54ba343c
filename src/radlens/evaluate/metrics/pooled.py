"""Metrics over all labels that count decisions, not labels: micro F1, weighted F1, Hamming loss."""

from __future__ import annotations

import numpy as np

from radlens.core.parts import MetricInput, defined
from radlens.core.registry import register
from radlens.core.undefined import quotient
from radlens.evaluate.metrics.decision import count, f1


@register("metrics", "micro-f1")
@defined(
    "overall",
    "higher",
    (0.0, 1.0),
    "F1 of the 2 x 2 tables of all labels added up, so that common labels decide. Undefined without positive images.",
    "scikit-learn f1_score(average='micro'), but undefined is NaN",
)
def micro_f1(inputs: MetricInput) -> float:
    """2TP / (2TP + FP + FN) over all assessed cells; NaN where none is positive."""
    c = count(inputs)
    true = float(c.true_positive.sum())
    wrong = float(c.false_positive.sum() + c.false_negative.sum())
    positives = true + float(c.false_negative.sum())
    return float(quotient(2 * true, 2 * true + wrong)) if positives else float("nan")


@register("metrics", "weighted-f1")
@defined(
    "overall",
    "higher",
    (0.0, 1.0),
    "Mean of F1 over the labels, each weighted by its positive images. Undefined without positive images.",
    "scikit-learn f1_score(average='weighted'), but undefined is NaN",
)
def weighted_f1(inputs: MetricInput) -> float:
    """Sum of positives x F1 over the sum of positives; NaN where there is none."""
    positives = (inputs.targets == 1).sum(axis=0)
    return float(quotient(np.where(positives > 0, positives * f1(inputs), 0.0).sum(), positives.sum()))


@register("metrics", "hamming-loss")
@defined(
    "overall",
    "lower",
    (0.0, 1.0),
    "Share of the assessed decisions (image x label) that are wrong; saying no to everything scores the share of "
    "positives, which is small. Undefined without assessed images.",
    "scikit-learn hamming_loss, nulls left out",
)
def hamming_loss(inputs: MetricInput) -> float:
    """(FP + FN) / assessed cells; NaN where there is none."""
    c = count(inputs)
    wrong = (c.false_positive + c.false_negative).sum()
    return float(quotient(wrong, wrong + (c.true_positive + c.true_negative).sum()))
