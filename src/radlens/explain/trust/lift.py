"""Whether maps find the regions better than maps that never saw the image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from radlens.explain.pair_scores import BASELINE, CENTRE, LABEL_PRIOR, OTHER_PATIENT
from radlens.explain.trust.evidence import evidence
from radlens.explain.trust.paired import Answer, Comparison, answers, decisive
from radlens.explain.trust.targets import rows_of_labels

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
