"""A map's own figure against all that it must beat, on the same images; and so the lift against the baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from radlens.core.patient_means import LEAST, patient_means
from radlens.core.undefined import mean_of_defined
from radlens.explain.localization_table import ALL
from radlens.explain.pair_scores import BASELINE, CENTRE, LABEL_PRIOR, OTHER_PATIENT
from radlens.explain.trust.evidence import evidence

Array = npt.NDArray[np.float64]
_Map = tuple[str, str, str]
_Pair = tuple[str, str]
CHECK = "lift"
RIVALS = {
    CENTRE: "a spot at the centre",
    LABEL_PRIOR: "the label's mean region over other patients",
    OTHER_PATIENT: "the same label's map of another patient",
}
"""Baselines that the lift must beat, in words."""


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


def lift_check(pairs: pl.DataFrame, *, seed: int = 0) -> pl.DataFrame:
    """Evidence `lift`: whether a setting's maps find the regions better than each baseline does.

    pairs: one row an image-label pair and map, with columns setting, method, layer, label, image_id, patient_id and
    lift (null or NaN: undefined); rows of setting `baseline` (layer `-`) and of methods `other-patient:<method>` are
    the rivals. Each is compared on the pairs that both have; it passes when the lower end of the interval is above 0
    for all of them. The row shows the rival that decides (the nearest one). A rival that is not in the table is never
    beaten. Label `all` takes every pair with the same weight.
    """
    lifts: dict[_Map, dict[_Pair, float]] = {}
    patient_of: dict[str, str] = {}
    names = ("setting", "method", "layer", "label", "image_id", "patient_id", "lift")
    for setting, method, layer, label, image, patient, lift in pairs.select(names).iter_rows():
        lifts.setdefault((setting, method, layer), {})[label, image] = float("nan") if lift is None else lift
        patient_of[image] = patient
    own = [key for key in lifts if key[0] != BASELINE and not key[1].startswith(f"{OTHER_PATIENT}:")]
    rows: list[dict[str, object]] = []
    for setting in dict.fromkeys(key[0] for key in own):
        maps = [key for key in own if key[0] == setting]
        found = list(dict.fromkeys(pair for key in maps for pair in lifts[key]))
        for label, chosen in rows_of_labels([label for label, _ in found]).items():
            some = [found[row] for row in chosen]
            mine = _columns(lifts, maps, some)
            each = []
            for name, said in RIVALS.items():
                theirs = _columns(lifts, [_rival(name, *key) for key in maps], some)
                each.append(
                    answers(Comparison(said, mine, theirs), [patient_of[image] for _, image in some], seed=seed)
                )
            for (_, method, layer), several in zip(maps, zip(*each, strict=True), strict=True):
                key = {"setting": setting, "method": method, "layer": layer, "label": label, "check": CHECK}
                rows.append(key | _row(decisive(several)))
    return evidence(rows)


def rows_of_labels(labels: Sequence[str]) -> dict[str, list[int]]:
    """Labels of image-label pairs (N,) -> label -> its rows, and `all` -> every row."""
    found: dict[str, list[int]] = {}
    for row, label in enumerate(labels):
        found.setdefault(label, []).append(row)
    return found | ({ALL: list(range(len(labels)))} if labels else {})


def _rival(name: str, setting: str, method: str, layer: str) -> _Map:
    return (setting, f"{OTHER_PATIENT}:{method}", layer) if name == OTHER_PATIENT else (BASELINE, name, "-")


def _columns(lifts: Mapping[_Map, Mapping[_Pair, float]], maps: Sequence[_Map], pairs: Sequence[_Pair]) -> Array:
    """(pairs, maps), NaN where there is none."""
    nothing: dict[_Pair, float] = {}
    table = [[lifts.get(key, nothing).get(pair, float("nan")) for key in maps] for pair in pairs]
    return np.array(table, np.float64).reshape(len(pairs), len(maps))


def _row(answer: Answer) -> dict[str, object]:
    if answer.patients == 0:
        return answer.row(f"lift cannot be compared with {answer.rival_name}: no image has both")
    return answer.row(
        f"lift {answer.value:.2f} against {answer.rival:.2f} of {answer.rival_name} ({answer.interval()})"
    )
