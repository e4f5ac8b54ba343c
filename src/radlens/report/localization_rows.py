"""Rows of the table of localisation: which belong together, what they say over all labels, and their shared columns."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from radlens.report.columns import Column
from radlens.report.contents import Row, RunContents, number
from radlens.report.interval_cells import estimated
from radlens.report.map_kinds import NO_LAYER
from radlens.report.tables import Cell, Head, arrow

Columns = Mapping[str, Column]
Key = tuple[str, str, str]
"""(setting, method, layer)."""
Summary = Mapping[str, Any]
"""A row over all labels, as text or as numbers."""

SCORES = ("lift", "hit_rate", "iou", "pixel_auroc")
FURTHER = ("energy_in_region", "iou_tuned", "iou_oracle", "dice", "pixel_average_precision", "contrast_to_noise")
RIVAL, OWN, PAIRS = "lift_best_baseline", "lift_on_same_pairs", "pairs_compared"
GAIN, BEATS = "lift_difference", "beats_baseline"
IMAGES = "images with a region"
BASELINE = "baseline"
_STRANGER = "other-patient"
_COUNTS = ("images", "patients", "maps", PAIRS, "degenerate_maps", "label_invariant_maps")
_ALL = ("all", "mean", "macro", "overall", "")


@dataclass(frozen=True)
class BestLift:
    """The highest lift and what it rests on; counts and lifts are NaN where the run does not tell them.

    rival: lift of the best map that never saw the image; own: lift of the setting's maps on the same image-label
    `pairs`, the only figure that may be held against it. regions: image-label pairs in all. beats: whether own is
    above rival by more than chance, None where the run could not tell. among: kinds of heatmap it is the highest of.
    """

    setting: str
    method: str
    layer: str
    lift: float
    regions: float
    images: float
    patients: float
    own: float
    rival: float
    pairs: float
    tested: bool
    beats: bool | None
    among: int


def best_lift(run: RunContents) -> BestLift | None:
    """The highest lift over all labels, with the best baseline on the same image-label pairs; None without a table."""
    found = {key: summary(rows) for key, rows in grouped(run.tables["localization"]).items()}
    ours = {k: s for k, s in found.items() if not is_baseline(k) and math.isfinite(number(s.get("lift")))}
    if not ours:
        return None
    top = max(ours, key=lambda key: number(ours[key]["lift"]))
    own = ours[top]
    return BestLift(
        setting=top[0],
        method=top[1],
        layer="" if top[2] == NO_LAYER else top[2],
        lift=number(own.get("lift")),
        regions=number(own.get("maps")),
        images=number(own.get("images")),
        patients=number(own.get("patients")),
        own=number(own.get(OWN)),
        rival=number(own.get(RIVAL)),
        pairs=number(own.get(PAIRS)),
        tested=BEATS in own,
        beats=beats_baseline(own),
        among=len(ours),
    )


def beats_baseline(row: Summary) -> bool | None:
    """What the run says; None where it could not tell."""
    return {"true": True, "false": False}.get(str(row.get(BEATS, "")).lower())


def gain_cell(row: Summary, column: Column) -> Cell:
    """Lift less that of the best baseline on the same pairs: a tick where the interval is above 0, a cross below."""
    found = estimated(row, GAIN, column, signed=True)
    if beats_baseline(row):
        return replace(found, text=f"✓ {found.text}", kind="beats", title="above every map that never saw the image")
    if number(row.get(f"{GAIN}_high")) < 0:
        return replace(found, text=f"✗ {found.text}", kind="below", title="below a map that never saw the image")
    return found if found.title or not found.interval else replace(found, title="no more than chance may make it")


def grouped(table: Sequence[Row]) -> dict[Key, list[Row]]:
    """Rows by setting, method and layer, in order."""
    groups: dict[Key, list[Row]] = {}
    for row in table:
        groups.setdefault((row.get("setting", ""), row.get("method", ""), row.get("layer", "")), []).append(row)
    return groups


def summary(rows: Sequence[Row]) -> Summary:
    """The row over all labels, or the mean over labels where the run wrote none."""
    whole = next((row for row in rows if row.get("label", "").lower() in _ALL), None)
    if whole is not None:
        return whole
    known = {key: [v for row in rows if math.isfinite(v := number(row.get(key)))] for key in _COUNTS}
    # an image or a patient may have several labels: their sums would count it again
    found = {key: math.fsum(v) if v and key not in {"images", "patients"} else math.nan for key, v in known.items()}
    found["images"] = max(known["images"], default=math.nan)
    for key in (*SCORES, *FURTHER, RIVAL, OWN, "unreachable_share"):
        weight = PAIRS if key in {OWN, RIVAL} else "images"
        pairs = [(number(row.get(key)), number(row.get(weight, "1"))) for row in rows]
        pairs = [(value, weight) for value, weight in pairs if math.isfinite(value) and weight > 0]
        found[key] = fmean([v for v, _ in pairs], [w for _, w in pairs]) if pairs else math.nan
    return found


def score_heads(columns: Columns, scores: Sequence[str]) -> tuple[Head, ...]:
    """Headings of the images and of scores, with the better direction."""
    shown = tuple(Head(f"{columns[s].heading} {arrow(columns[s])}".strip(), title=columns[s].text) for s in scores)
    return (Head("Images", title=IMAGES), *shown)


def known_of(rows: Sequence[Summary], keys: Sequence[str]) -> tuple[str, ...]:
    """Which of the keys have a figure in any row."""
    return tuple(key for key in keys if any(math.isfinite(number(row.get(key))) for row in rows))


def is_baseline(key: Key) -> bool:
    return key[0].lower() == BASELINE or key[1].startswith(_STRANGER)
