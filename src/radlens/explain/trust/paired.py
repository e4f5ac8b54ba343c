"""A map's own figure against all that it must beat, on the same images: the rule by which a check passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from radlens.core.patient_means import LEAST, patient_means
from radlens.core.undefined import mean_of_defined

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """A figure and what it must beat, for N images (rows) and M maps (columns): (N, M), NaN where undefined."""

    rival: str
    own: Array
    theirs: Array


@dataclass(frozen=True)
class Answer:
    """What a comparison says of one map: figures as in the columns of evidence, `rival_name` in words."""

    value: float
    rival: float
    difference: float
    low: float
    high: float
    images: int
    patients: int
    passed: bool | None
    rival_name: str
    no_interval: str | None

    def interval(self) -> str:
        """The difference with its interval, or why there is none; for a sentence."""
        if self.no_interval is not None and self.passed is not None:
            return f"difference {self.difference:.2f} in each of {self.patients} patients"
        if self.no_interval is not None:
            return f"difference {self.difference:.2f}; {self.no_interval}"
        return f"difference {self.difference:.2f}, {self.low:.2f} to {self.high:.2f}, {self.patients} patients"

    def row(self, reason: str) -> dict[str, object]:
        """Columns of evidence."""
        names = ("value", "rival", "difference", "low", "high", "images", "patients", "passed")
        return {name: getattr(self, name) for name in names} | {"reason": reason}


def answers(
    comparison: Comparison, patients: Sequence[str], *, margin: float = 0.0, higher: bool = True, seed: int = 0
) -> list[Answer]:
    """One answer a column, from the images where both figures are defined.

    difference: own - theirs (theirs - own where `higher` is False), so that positive is good. passed: True where the
    95 % interval over patients lies above -margin, False where it lies at or below; differences that are the same in
    every patient have no interval, and answer by that value. None: an interval that holds -margin, or fewer than 10
    patients.
    """
    defined = ~(np.isnan(comparison.own) | np.isnan(comparison.theirs))
    own = np.where(defined, comparison.own, np.nan)
    theirs = np.where(defined, comparison.theirs, np.nan)
    means = patient_means(own - theirs if higher else theirs - own, patients, seed=seed)
    value, rival = mean_of_defined(own, axis=0), mean_of_defined(theirs, axis=0)
    found = []
    for at, why in enumerate(means.reason):
        difference, low, high = (float(one[at]) for one in (means.value, means.low, means.high))
        passed: bool | None = None
        if why is None:
            passed = True if low > -margin else False if high <= -margin else None
        elif means.patients[at] >= LEAST:
            passed = difference > -margin
        counts = (int(means.images[at]), int(means.patients[at]))
        figures = (float(value[at]), float(rival[at]), difference, low, high, *counts)
        found.append(Answer(*figures, passed, comparison.rival, why))
    return found


def decisive(several: Sequence[Answer]) -> Answer:
    """The answer on which all hang: a failed one, else an open one, else a passed one; of equals the least difference.

    So a map passes against several rivals only when it passes against each.
    """
    order = {False: 0, None: 1, True: 2}

    def rank(one: Answer) -> tuple[int, float]:
        return order[one.passed], -np.inf if np.isnan(one.difference) else one.difference

    return min(several, key=rank)
