"""What a metric is: a pure function with its definition."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class MetricInput:
    """What a metric may look at. scores float64 (N, L); targets float32 (N, L) 1/0/NaN; decisions int8 (N, L) 1/0."""

    scores: npt.NDArray[np.float64]
    targets: npt.NDArray[np.float32]
    decisions: npt.NDArray[np.int8]


@dataclass(frozen=True)
class Definition:
    """What a metric's number means.

    scope `overall`: one number for all labels together; `label`: one number a label, an array (L,).
    direction: which way is better (`none`: neither). bounds: least and greatest value.
    """

    scope: Literal["overall", "label"]
    direction: Literal["higher", "lower", "none"]
    bounds: tuple[float, float]
    text: str
    source: str


class Metric(Protocol):
    """A pure function with its definition; one or a few in a file of `evaluate/metrics/`. Undefined is NaN, never 0.

    Its column in the tables is its registered name with `-` as `_`.
    """

    definition: Definition

    def __call__(self, inputs: MetricInput) -> Any:
        """A float (scope `overall`) or float64 (L,) (scope `label`)."""
        ...


def defined(
    scope: Literal["overall", "label"],
    direction: Literal["higher", "lower", "none"],
    bounds: tuple[float, float],
    text: str,
    source: str,
) -> Callable[[Callable[[MetricInput], Any]], Metric]:
    """Attach a definition to a metric function; stands below `@register("metrics", NAME)`."""

    def attach(function: Callable[[MetricInput], Any]) -> Metric:
        function.definition = Definition(scope, direction, bounds, text, source)  # type: ignore[attr-defined]
        return function  # type: ignore[return-value]

    return attach
