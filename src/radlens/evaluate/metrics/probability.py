"""Metrics of the probabilities themselves: Brier score, its skill over the prevalence, and log-loss."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from radlens.core.parts import MetricInput, defined
from radlens.core.registry import register
from radlens.core.undefined import quotient

Array = npt.NDArray[np.float64]
_LEAST = float(np.finfo(np.float64).eps)


@register("metrics", "brier")
@defined(
    "label",
    "lower",
    (0.0, 1.0),
    "Mean squared difference of probability and target. A rare label has a small one whatever the model says: read "
    "brier_skill beside it. Undefined without assessed images.",
    "Brier, Monthly Weather Review 1950; scikit-learn brier_score_loss, but undefined is NaN",
)
def brier(inputs: MetricInput) -> Array:
    """Mean of (probability - target)^2 over assessed images, (L,); NaN where there is none."""
    assessed = ~np.isnan(inputs.targets)
    squares = np.where(assessed, inputs.scores - inputs.targets, 0.0) ** 2
    return quotient(squares.sum(axis=0), assessed.sum(axis=0))


@register("metrics", "brier-skill")
@defined(
    "label",
    "higher",
    (float("-inf"), 1.0),
    "1 - Brier score / p(1 - p), with p the prevalence in the split: 0 is saying the prevalence of every image, below "
    "0 is worse than that. Undefined without both positive and negative images.",
    "arithmetic; Brier score of the constant p",
)
def brier_skill(inputs: MetricInput) -> Array:
    """1 - Brier / (p (1 - p)), (L,); NaN where one class is missing."""
    positives, negatives = (inputs.targets == 1).sum(axis=0), (inputs.targets == 0).sum(axis=0)
    share = quotient(positives, positives + negatives)
    return 1 - quotient(brier(inputs), share * (1 - share))


@register("metrics", "log-loss")
@defined(
    "label",
    "lower",
    (0.0, float("inf")),
    "Mean of -log of the probability given to what is true, natural logarithm; probabilities are kept 2.2e-16 away "
    "from 0 and 1. Undefined without assessed images.",
    "scikit-learn log_loss, but undefined is NaN",
)
def log_loss(inputs: MetricInput) -> Array:
    """Mean cross-entropy over assessed images, (L,); NaN where there is none."""
    assessed = ~np.isnan(inputs.targets)
    of_truth = np.where(inputs.targets == 1, inputs.scores, 1 - inputs.scores)
    loss = -np.log(np.clip(of_truth, _LEAST, 1 - _LEAST))
    return quotient(np.where(assessed, loss, 0.0).sum(axis=0), assessed.sum(axis=0))
