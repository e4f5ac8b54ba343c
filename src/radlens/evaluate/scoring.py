"""Every registered metric at once: a new file in `metrics/` is a new column in the tables."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from radlens.core import registry
from radlens.core.errors import SpecError
from radlens.core.parts import Definition, Metric, MetricInput

Scope = Literal["overall", "label"]


def registered_metrics(scope: Scope) -> dict[str, Metric]:
    """Column -> metric of that scope, alphabetically; a metric without definition raises `SpecError`."""
    return {column: metric for column, metric in _all().items() if metric.definition.scope == scope}


def score(inputs: MetricInput, scope: Scope) -> dict[str, Any]:
    """Column -> a float (`overall`) or float64 (L,) (`label`). A metric of another shape raises `SpecError`."""
    shape = () if scope == "overall" else (inputs.targets.shape[1],)
    found: dict[str, Any] = {}
    for column, metric in registered_metrics(scope).items():
        value = np.asarray(metric(inputs), np.float64)
        if value.shape != shape:
            raise SpecError(
                f"metric {column!r} of scope {scope!r} must return shape {shape}, but returned {value.shape}; "
                "mend the metric or its scope."
            )
        found[column] = value if shape else float(value)
    return found


def metric_definitions() -> list[dict[str, Any]]:
    """What each column means, for the report: column, scope, text, direction, bounds, source.

    First the registered metrics, then separability, then what stands beside them in the tables.
    """
    from radlens.evaluate.separability import DEFINITIONS

    metrics = {column: metric.definition for column, metric in _all().items()}
    return [_entry(column, definition) for column, definition in (metrics | DEFINITIONS | _BESIDE).items()]


def _all() -> dict[str, Metric]:
    found: dict[str, Metric] = {}
    for name, part in registry.parts("metrics").items():
        metric = part.load()
        if not isinstance(getattr(metric, "definition", None), Definition):
            raise SpecError(f"metric {name!r} has no definition; put @defined(...) below @register in {part.module}.")
        found[name.replace("-", "_")] = metric
    return found


def _entry(column: str, definition: Definition) -> dict[str, Any]:
    return {
        "column": column,
        "scope": definition.scope,
        "text": definition.text,
        "direction": definition.direction,
        "bounds": definition.bounds,
        "source": definition.source,
    }


_MANY = float("inf")
_BESIDE = {
    "labels_counted": Definition(
        "overall",
        "none",
        (0.0, _MANY),
        "Labels with a positive image in the split: those that macro F1 and macro average precision average.",
        "count",
    ),
    "macro_auroc_labels_counted": Definition(
        "overall",
        "none",
        (0.0, _MANY),
        "Labels with both positive and negative images in the split: those that macro AUROC averages.",
        "count",
    ),
    "prevalence": Definition(
        "label", "none", (0.0, 1.0), "Share of positives among the assessed test images.", "count"
    ),
    "threshold": Definition(
        "label",
        "none",
        (0.0, 1.0),
        "An image is called positive when its probability is at least this; chosen on validation by threshold_rule: "
        "best F1, shrunk towards the threshold that matches the training prevalence when positives are few.",
        "METHODS section 4",
    ),
    "train_seconds": Definition("overall", "lower", (0.0, _MANY), "Wall-clock seconds of training.", "measured"),
}
