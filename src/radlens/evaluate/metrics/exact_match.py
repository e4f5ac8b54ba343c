"""Exact match: the share of images of which every label is decided rightly."""

from __future__ import annotations

from radlens.core.parts import MetricInput, defined
from radlens.core.registry import register
from radlens.core.undefined import quotient


@register("metrics", "exact-match")
@defined(
    "overall",
    "higher",
    (0.0, 1.0),
    "Share of images of which every assessed label is decided rightly; images without any assessed label are left out.",
    "scikit-learn accuracy_score on label rows (subset accuracy)",
)
def exact_match(inputs: MetricInput) -> float:
    """Share of rows right in all assessed labels; NaN where no row has an assessed label."""
    positive, negative, called = inputs.targets == 1, inputs.targets == 0, inputs.decisions == 1
    assessed = (positive | negative).any(axis=1)
    wrong = ((positive & ~called) | (negative & called)).any(axis=1)
    return float(quotient((assessed & ~wrong).sum(), assessed.sum()))
