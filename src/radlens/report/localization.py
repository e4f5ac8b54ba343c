"""Localisation scores of every setting beside the baselines that know nothing of the image."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from radlens.report.columns import MISSING, Column, show
from radlens.report.contents import Row, RunContents, number
from radlens.report.tables import Cell, Head, Table, TableRow, arrow, cell, compared

_SCORES = ("hit_rate", "energy_in_region", "lift", "iou")
_ALL = ("all", "mean", "macro", "overall", "")
_BASELINE = "baseline"
_STRANGER = "other-patient"
_RIVAL = "lift_best_baseline"


def localization_table(run: RunContents, columns: Mapping[str, Column]) -> Table | None:
    """A row a setting, method and layer, over all labels; the baselines of the run below, unmarked.

    Where the run wrote no row over all labels, the figure is the mean over labels, each weighing its images. Maps of
    another patient belong to one setting and layer each: they stand in the table label by label, and in the column of
    the best baseline here.
    """
    groups = _grouped(run.tables["localization"])
    if not groups:
        return None
    ours = [key for key in groups if not _is_baseline(key)]
    summaries = {key: _summary(rows) for key, rows in groups.items()}
    marked = {
        score: dict(zip(ours, compared([summaries[key][score] for key in ours], columns[score]), strict=True))
        for score in _SCORES
    }
    rivals = any(math.isfinite(summaries[key][_RIVAL]) for key in ours)
    rows = []
    for key in ours:
        cells = [Cell(key[1], kind="words"), Cell(key[2] or MISSING), *_counts(summaries[key], columns)]
        cells += [marked[score][key] for score in _SCORES]
        if rivals:
            cells.append(cell(summaries[key][_RIVAL], columns["lift"], kind="chance"))
        rows.append(TableRow(key[0], tuple(cells)))
    baselines = [key for key in groups if key[0].lower() == _BASELINE]
    if baselines:
        rows.append(TableRow("Baselines that never saw the image"))
    for key in baselines:
        cells = [Cell("", kind="words"), Cell(""), *_counts(summaries[key], columns)]
        cells += [cell(summaries[key][score], columns[score], kind="chance") for score in _SCORES]
        rows.append(TableRow(_named(key[1]), (*cells, *([Cell("", kind="chance")] if rivals else []))))
    heads = (*_heads(("Method", "Layer")), *_score_heads(columns))
    meaning = "the highest lift among the centre, the label's mean region and the same map of another patient"
    last = (Head("Best baseline’s lift", kind="chance", title=meaning),) if rivals else ()
    return Table("Setting", (*heads, *last), tuple(rows))


def localization_detail(run: RunContents, columns: Mapping[str, Column]) -> Table | None:
    """Every row of the run's table, label by label."""
    table = run.tables["localization"]
    if not table:
        return None
    rows = []
    for row in sorted(table, key=lambda row: row.get("label", "")):
        words = (row.get("setting", ""), _named(row.get("method", "")), row.get("layer") or MISSING)
        scores = [cell(number(row.get(score)), columns[score]) for score in _SCORES]
        counts = _counts({key: number(row.get(key)) for key in ("images", "patients")}, columns)
        rows.append(
            TableRow(row.get("label", ""), (*(Cell(w, kind="words") for w in words), *counts, *_scored(scores, row)))
        )
    return Table("Label", (*_heads(("Setting", "Method", "Layer")), *_score_heads(columns)), tuple(rows))


def best_lift(run: RunContents) -> tuple[str, str, float, float] | None:
    """Setting, layer and lift of the highest lift, and the lift of the best baseline there (NaN without one)."""
    found = {key: _summary(rows) for key, rows in _grouped(run.tables["localization"]).items()}
    ours = {key: s["lift"] for key, s in found.items() if not _is_baseline(key) and math.isfinite(s["lift"])}
    if not ours:
        return None
    top = max(ours, key=lambda key: ours[key])
    rivals = [s["lift"] for key, s in found.items() if key[0].lower() == _BASELINE]
    known = [value for value in (*rivals, found[top][_RIVAL]) if math.isfinite(value)]
    return top[0], top[2], ours[top], max(known, default=math.nan)


def _scored(cells: Sequence[Cell], row: Row) -> list[Cell]:
    key = row.get("setting", ""), row.get("method", ""), row.get("layer", "")
    return [replace(c, kind="chance") for c in cells] if _is_baseline(key) else list(cells)


def _named(method: str) -> str:
    return method.replace("_", " ").replace("other-patient:", "another patient’s ")


def _grouped(table: Sequence[Row]) -> dict[tuple[str, str, str], list[Row]]:
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in table:
        groups.setdefault((row.get("setting", ""), row.get("method", ""), row.get("layer", "")), []).append(row)
    return groups


def _summary(rows: Sequence[Row]) -> dict[str, float]:
    whole = next((row for row in rows if row.get("label", "").lower() in _ALL), None)
    if whole is not None:
        return {key: number(whole.get(key)) for key in (*_SCORES, _RIVAL, "images", "patients")}
    weights = [max(number(row.get("images")), 0.0) if row.get("images") else 1.0 for row in rows]
    found = {"images": math.fsum(w for w in weights if w == w), "patients": math.nan}
    for score in (*_SCORES, _RIVAL):
        pairs = [(number(row.get(score)), w) for row, w in zip(rows, weights, strict=True)]
        pairs = [(value, w) for value, w in pairs if math.isfinite(value) and w > 0]
        found[score] = fmean([v for v, _ in pairs], [w for _, w in pairs]) if pairs else math.nan
    return found


def _is_baseline(key: tuple[str, str, str]) -> bool:
    return key[0].lower() == _BASELINE or key[1].startswith(_STRANGER)


def _counts(values: Mapping[str, float], columns: Mapping[str, Column]) -> tuple[Cell, ...]:
    return (Cell(show(values["images"], columns["images"].kind)),)


def _heads(words: Sequence[str]) -> tuple[Head, ...]:
    return tuple(Head(word, kind="words") for word in words)


def _score_heads(columns: Mapping[str, Column]) -> tuple[Head, ...]:
    scores = tuple(Head(f"{columns[s].heading} {arrow(columns[s])}", title=columns[s].text) for s in _SCORES)
    return (Head("Images", title="images with a region"), *scores)
