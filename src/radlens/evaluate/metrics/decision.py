"""Metrics of one label's yes or no: precision, recall, specificity, F1."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from radlens.core.parts import MetricInput, defined
from radlens.core.registry import register
from radlens.core.undefined import quotient
from radlens.evaluate.ranking import f1_at_cuts, positive_cuts

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Counts:
    """Each (L,): images of a 2 x 2 table over the assessed images."""

    true_positive: Array
    false_positive: Array
    false_negative: Array
    true_negative: Array


def count(inputs: MetricInput) -> Counts:
    """The 2 x 2 table of every label; images where a label was not assessed are left out of it."""
    positive, negative, called = inputs.targets == 1, inputs.targets == 0, inputs.decisions == 1
    cells = (positive & called, negative & called, positive & ~called, negative & ~called)
    return Counts(*(cell.sum(axis=0).astype(np.float64) for cell in cells))


@register("metrics", "precision")
@defined(
    "label",
    "higher",
    (0.0, 1.0),
    "Of the images called positive, the share that is positive. Undefined when none is called positive.",
    "scikit-learn precision_score, but undefined is NaN",
)
def precision(inputs: MetricInput) -> Array:
    """TP / (TP + FP), (L,); NaN where nothing is called positive."""
    c = count(inputs)
    return quotient(c.true_positive, c.true_positive + c.false_positive)


@register("metrics", "recall")
@defined(
    "label",
    "higher",
    (0.0, 1.0),
    "Of the positive images, the share that is called positive (sensitivity). Undefined without positive images.",
    "scikit-learn recall_score, but undefined is NaN",
)
def recall(inputs: MetricInput) -> Array:
    """TP / (TP + FN), (L,); NaN where no image is positive."""
    c = count(inputs)
    return quotient(c.true_positive, c.true_positive + c.false_negative)


@register("metrics", "specificity")
@defined(
    "label",
    "higher",
    (0.0, 1.0),
    "Of the negative images, the share that is called negative. Undefined without negative images.",
    "scikit-learn recall_score of the negative class, but undefined is NaN",
)
def specificity(inputs: MetricInput) -> Array:
    """TN / (TN + FP), (L,); NaN where no image is negative."""
    c = count(inputs)
    return quotient(c.true_negative, c.true_negative + c.false_positive)


@register("metrics", "f1")
@defined(
    "label",
    "higher",
    (0.0, 1.0),
    "Harmonic mean of precision and recall, 2TP / (2TP + FP + FN); 0 when positive images exist and none is called "
    "positive. Undefined without positive images.",
    "scikit-learn f1_score, but undefined is NaN",
)
def f1(inputs: MetricInput) -> Array:
    """2TP / (2TP + FP + FN), (L,); NaN where no image is positive."""
    c = count(inputs)
    value = quotient(2 * c.true_positive, 2 * c.true_positive + c.false_positive + c.false_negative)
    return np.where(c.true_positive + c.false_negative > 0, value, np.nan)


@register("metrics", "f1-always-positive")
@defined(
    "label",
    "none",
    (0.0, 1.0),
    "F1 of calling every assessed image positive, 2p / (1 + p) with p the prevalence in the split: what an F1 must "
    "beat to mean anything. Undefined without positive images.",
    "arithmetic; METHODS section 2",
)
def f1_always_positive(inputs: MetricInput) -> Array:
    """2p / (1 + p), (L,); NaN where no image is positive."""
    positives = (inputs.targets == 1).sum(axis=0)
    assessed = positives + (inputs.targets == 0).sum(axis=0)
    return np.where(positives > 0, quotient(2 * positives, assessed + positives), np.nan)


@register("metrics", "f1-oracle")
@defined(
    "label",
    "none",
    (0.0, 1.0),
    "The best F1 that any threshold reaches when it is tuned on the split reported. Not a result: its distance to F1 "
    "(the oracle gap) is what the choice of threshold on validation leaves open. Undefined without positive images.",
    "maximum over the scikit-learn precision_recall_curve",
)
def f1_oracle(inputs: MetricInput) -> Array:
    """Greatest F1 over all thresholds, (L,); NaN where no image is positive."""
    best = np.full(inputs.targets.shape[1], np.nan)
    for label in range(len(best)):
        cuts = positive_cuts(inputs.scores[:, label], inputs.targets[:, label])
        if cuts.positives:
            best[label] = f1_at_cuts(cuts).max()
    return best
