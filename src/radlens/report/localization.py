"""Localisation scores of every setting beside the baselines that know nothing of the image."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from radlens.report.columns import MISSING, Column
from radlens.report.contents import FEW, Row, RunContents, listed, number, section
from radlens.report.tables import Cell, Head, Table, TableRow, arrow, cell, compared, too_few

_SCORES = ("hit_rate", "energy_in_region", "lift", "iou")
_RIVAL, _OWN, _PAIRS = "lift_best_baseline", "lift_on_same_pairs", "pairs_compared"
_COMPARED = (_OWN, _RIVAL, _PAIRS)
_WARNED = ("degenerate_maps", "label_invariant_maps", "unreachable_share")
_COUNTS = ("images", "patients", "maps", _PAIRS, "degenerate_maps", "label_invariant_maps")
_ALL = ("all", "mean", "macro", "overall", "")
_BASELINE = "baseline"
_STRANGER = "other-patient"
_IMAGES = "images with a region"


@dataclass(frozen=True)
class BestLift:
    """The highest lift and what it rests on; counts and lifts are NaN where the run does not tell them.

    rival: lift of the best map that never saw the image; own: lift of the setting's maps on the same image-label
    `pairs`, the only figure that may be held against it. regions: image-label pairs in all.
    """

    setting: str
    layer: str
    lift: float
    regions: float
    images: float
    patients: float
    own: float
    rival: float
    pairs: float


def localization_table(run: RunContents, columns: Mapping[str, Column]) -> Table | None:
    """A row a setting, method and layer, over all labels; the baselines of the run below, unmarked.

    Where the run wrote no row over all labels, the figure is the mean over labels, each weighing its images. Below ten
    images nobody is best or worst. Maps of another patient belong to one setting and layer each: they stand in the
    table label by label, and in the column of the best baseline here.
    """
    groups = _grouped(run.tables["localization"])
    if not groups:
        return None
    ours = [key for key in groups if not _is_baseline(key)]
    summaries = {key: _summary(rows) for key, rows in groups.items()}
    few = not min((summaries[key]["images"] for key in ours), default=math.nan) >= FEW
    marked = {
        score: dict(
            zip(ours, compared([summaries[key][score] for key in ours], columns[score], few, _IMAGES), strict=True)
        )
        for score in _SCORES
    }
    shown = [key for key in _COMPARED if any(math.isfinite(summaries[one][key]) for one in ours)]
    warned = [key for key in _WARNED if any(math.isfinite(summaries[one][key]) for one in ours)]
    grey = {_OWN: "few" if few else "", _RIVAL: "chance few" if few else "chance"}
    rows = []
    for key in ours:
        summary = summaries[key]
        cells = [Cell(key[1], kind="words"), Cell(key[2] or MISSING), cell(summary["images"], columns["images"])]
        cells += [marked[score][key] for score in _SCORES]
        cells += [cell(summary[one], columns[one], kind=grey.get(one, "")) for one in (*shown, *warned)]
        rows.append(TableRow(key[0], tuple(cells)))
    baselines = [key for key in groups if key[0].lower() == _BASELINE]
    if baselines:
        rows.append(TableRow("Baselines that never saw the image"))
    for key in baselines:
        cells = [Cell("", kind="words"), Cell(""), cell(summaries[key]["images"], columns["images"])]
        cells += [cell(summaries[key][score], columns[score], kind="chance") for score in _SCORES]
        rows.append(TableRow(_named(key[1]), (*cells, *(Cell("", kind="chance") for _ in (*shown, *warned)))))
    heads = (
        *_heads(("Method", "Layer")),
        *_score_heads(columns),
        *(
            Head(columns[key].heading, kind="chance" if key == _RIVAL else "", title=columns[key].text)
            for key in (*shown, *warned)
        ),
    )
    parts = (
        ("", 3),
        ("All pairs of image and label", len(_SCORES)),
        ("Lift, the same pairs", len(shown)),
        ("With care", len(warned)),
    )
    groups_of = tuple(Head(text, span) for text, span in parts if span)
    return Table("Setting", heads, tuple(rows), groups_of, _notes(few, baselines))


def localization_detail(run: RunContents, columns: Mapping[str, Column]) -> Table | None:
    """Every row of the run's table, label by label; grey where fewer than ten images have a region."""
    table = run.tables["localization"]
    if not table:
        return None
    rows = []
    for row in sorted(table, key=lambda row: row.get("label", "")):
        words = (row.get("setting", ""), _named(row.get("method", "")), row.get("layer") or MISSING)
        images = cell(number(row.get("images")), columns["images"])
        scores = [cell(number(row.get(score)), columns[score]) for score in _SCORES]
        cells = (*(Cell(word, kind="words") for word in words), images, *_greyed(scores, row))
        rows.append(TableRow(row.get("label", ""), cells))
    return Table("Label", (*_heads(("Setting", "Method", "Layer")), *_score_heads(columns)), tuple(rows))


def best_lift(run: RunContents) -> BestLift | None:
    """The highest lift over all labels, with the best baseline on the same image-label pairs; None without a table."""
    found = {key: _summary(rows) for key, rows in _grouped(run.tables["localization"]).items()}
    ours = {key: s for key, s in found.items() if not _is_baseline(key) and math.isfinite(s["lift"])}
    if not ours:
        return None
    top = max(ours, key=lambda key: ours[key]["lift"])
    keys = ("lift", "maps", "images", "patients", _OWN, _RIVAL, _PAIRS)
    return BestLift(top[0], top[2], *(ours[top][key] for key in keys))


def region_source(run: RunContents) -> str:
    """Where the regions come from, in the run's own words; empty where it does not say."""
    return str(section(run.facts, "annotations").get("source") or "")


def region_notes(run: RunContents) -> tuple[str, ...]:
    """How the explained images were drawn, where the regions come from, and which regions were left out."""
    notes = []
    limit = number(section(run.study, "explain").get("images"))
    if math.isfinite(limit):
        notes.append(f"At most {limit:.0f} test images were explained, by a seeded draw, rare labels first.")
    annotations = section(run.facts, "annotations")
    if region_source(run):
        notes.append(f"Regions: {region_source(run)}.")
    left_out = {reason: number(count) for reason, count in section(annotations, "left_out").items()}
    if any(count > 0 for count in left_out.values()):
        reasons = "; ".join(f"{reason}: {count:.0f}" for reason, count in left_out.items() if count > 0)
        notes.append(f"Regions left out: {reasons}.")
    notes += [f"Regions left out: {reason}." for reason in listed(annotations, "left_out")]
    return tuple(notes)


def _notes(few: bool, baselines: Sequence[tuple[str, str, str]]) -> tuple[str, ...]:
    notes = []
    if baselines:
        notes.append(
            "A baseline may be missing for a pair (a label of one patient has no mean region over others): its row "
            "below the settings counts fewer pairs than theirs. Compare the two lifts on the same pairs."
        )
    if few:
        notes.append(f"Grey: {too_few(_IMAGES)}; best and worst are not marked.")
    return tuple(notes)


def _greyed(cells: Sequence[Cell], row: Row) -> list[Cell]:
    key = row.get("setting", ""), row.get("method", ""), row.get("layer", "")
    few = not number(row.get("images")) >= FEW
    kind = " ".join(name for name, so in (("chance", _is_baseline(key)), ("few", few)) if so)
    return [replace(c, kind=kind, title=too_few(_IMAGES) if few else c.title) for c in cells]


def _named(method: str) -> str:
    return method.replace("_", " ").replace("other-patient:", "another patient’s ")


def _grouped(table: Sequence[Row]) -> dict[tuple[str, str, str], list[Row]]:
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in table:
        groups.setdefault((row.get("setting", ""), row.get("method", ""), row.get("layer", "")), []).append(row)
    return groups


def _summary(rows: Sequence[Row]) -> dict[str, float]:
    means = (*_SCORES, _RIVAL, _OWN, "unreachable_share")
    whole = next((row for row in rows if row.get("label", "").lower() in _ALL), None)
    if whole is not None:
        return {key: number(whole.get(key)) for key in (*means, *_COUNTS)}
    known = {key: [v for row in rows if math.isfinite(v := number(row.get(key)))] for key in _COUNTS}
    # an image or a patient may have several labels: their sums would count it again
    found = {key: math.fsum(v) if v and key not in {"images", "patients"} else math.nan for key, v in known.items()}
    found["images"] = max(known["images"], default=math.nan)
    for key in means:
        weight = _PAIRS if key in _COMPARED else "images"
        pairs = [(number(row.get(key)), number(row.get(weight, "1"))) for row in rows]
        pairs = [(value, weight) for value, weight in pairs if math.isfinite(value) and weight > 0]
        found[key] = fmean([v for v, _ in pairs], [w for _, w in pairs]) if pairs else math.nan
    return found


def _is_baseline(key: tuple[str, str, str]) -> bool:
    return key[0].lower() == _BASELINE or key[1].startswith(_STRANGER)


def _heads(words: Sequence[str]) -> tuple[Head, ...]:
    return tuple(Head(word, kind="words") for word in words)


def _score_heads(columns: Mapping[str, Column]) -> tuple[Head, ...]:
    scores = tuple(Head(f"{columns[s].heading} {arrow(columns[s])}", title=columns[s].text) for s in _SCORES)
    return (Head("Images", title=_IMAGES), *scores)
