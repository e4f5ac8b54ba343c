"""Localisation scores of every kind of heatmap beside maps that never saw the image, and beside what could be had."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from radlens.report.columns import MISSING, Column, marks
from radlens.report.contents import FEW, Row, RunContents, number
from radlens.report.interval_cells import estimated
from radlens.report.localization_rows import (
    BASELINE,
    BEATS,
    FURTHER,
    GAIN,
    IMAGES,
    OWN,
    PAIRS,
    RIVAL,
    SCORES,
    Columns,
    Key,
    Summary,
    beats_baseline,
    gain_cell,
    grouped,
    is_baseline,
    known_of,
    score_heads,
    summary,
)
from radlens.report.map_kinds import NO_LAYER, in_order
from radlens.report.tables import Cell, Head, Table, TableRow, cell, too_few

_COMPARED = (OWN, RIVAL, GAIN, PAIRS)
_WARNED = ("degenerate_maps", "label_invariant_maps", "unreachable_share")
_REACHED = {"oracle": "the region itself, on the patch grid", "second-reader": "a second reader’s region"}
_MANY, _TOP, _ROWS = 12, 3, 400


@dataclass(frozen=True)
class Localization:
    """best: the table to read first; every: all rows, where `best` leaves some out; labels: row by row of the run.

    tested: the run has intervals, and says which maps beat the baselines by more than chance.
    """

    best: Table
    every: Table | None
    labels: Table
    tested: bool


def localization(run: RunContents, columns: Columns) -> Localization | None:
    """A row a setting, method and layer, over all labels; below, unmarked, maps that never saw the image and what could
    be reached.

    Where the run wrote no row over all labels, the figure is the mean over labels, each weighing its images. The
    highest lift is marked only where it is above the best baseline by more than chance (in a run without that test:
    where there are ten images). Maps of another patient stand label by label, and in the column of the best baseline.
    """
    groups = grouped(run.tables["localization"])
    if not groups:
        return None
    summaries = {key: summary(rows) for key, rows in groups.items()}
    ours = [key for key in groups if not is_baseline(key)]
    leading = _leading(ours, summaries)
    labels = _labels(run.tables["localization"], leading, columns)
    tested = any(BEATS in row for row in summaries.values())
    every = _table(ours, summaries, columns, ())
    if len(leading) == len(ours):
        return Localization(every, None, labels, tested)
    chosen = (
        f"The {_TOP} highest lifts of each setting, of {len(ours)} kinds of heatmap; they were chosen on these very "
        "images, which flatters them.",
    )
    return Localization(_table(leading, summaries, columns, chosen), every, labels, tested)


def _leading(ours: Sequence[Key], summaries: Mapping[Key, Summary]) -> list[Key]:
    """All of few rows; of many the highest lifts of each setting."""
    if len(ours) <= _MANY:
        return list(ours)
    kept: set[Key] = set()
    for setting in dict.fromkeys(key[0] for key in ours):
        own = [key for key in ours if key[0] == setting and math.isfinite(number(summaries[key].get("lift")))]
        kept |= set(sorted(own, key=lambda key: -number(summaries[key]["lift"]))[:_TOP])
    return [key for key in ours if key in kept]


def _table(ours: Sequence[Key], summaries: Mapping[Key, Summary], columns: Columns, notes: tuple[str, ...]) -> Table:
    rows_of = [summaries[key] for key in ours]
    few = not min((number(row.get("images")) for row in rows_of), default=math.nan) >= FEW
    scores = known_of(rows_of, SCORES)
    shown = known_of(rows_of, _COMPARED)
    if GAIN in shown and all(number(row.get(PAIRS)) == number(row.get("maps")) for row in rows_of):
        # every pair has every baseline: the lift there is the lift
        shown = tuple(key for key in shown if key in {RIVAL, GAIN})
    warned = tuple(key for key in _WARNED if any(number(row.get(key)) > 0 for row in rows_of))
    best = _marked(rows_of, columns, few)
    lines = []
    for place, key in enumerate(ours):
        row = summaries[key]
        cells = [Cell(key[1], kind="words"), Cell(_layer(key[2])), cell(number(row.get("images")), columns["images"])]
        cells += [_scored(row, score, columns, few) for score in scores]
        if place in best and "lift" in scores:
            at = 3 + scores.index("lift")
            cells[at] = replace(cells[at], mark="best")
        cells += [_compared(row, one, columns, few) for one in shown]
        cells += [cell(number(row.get(one)), columns[one]) for one in warned]
        lines.append(TableRow(key[0], tuple(cells)))
    others = [key for key in summaries if key[0].lower() == BASELINE]
    blind = [key for key in others if key[1] not in _REACHED]
    for title, keys in (
        ("Maps that never saw the image", blind),
        ("What could be reached", [key for key in others if key[1] in _REACHED]),
    ):
        lines += [TableRow(title)] if keys else []
        for key in keys:
            row = summaries[key]
            cells = [Cell("", kind="words"), Cell(""), cell(number(row.get("images")), columns["images"])]
            cells += [replace(_scored(row, score, columns, False), kind="chance") for score in scores]
            cells += [Cell("", kind="chance") for _ in (*shown, *warned)]
            lines.append(TableRow(_REACHED.get(key[1], _named(key[1])), tuple(cells)))
    heads = (
        Head("Method", kind="words"),
        Head("Layer"),
        *score_heads(columns, scores),
        *(_head(columns[key], key == RIVAL) for key in (*shown, *warned)),
    )
    parts = (
        ("", 3),
        ("All pairs of image and label", len(scores)),
        ("Lift, the same pairs" if PAIRS in shown else "Lift against maps below", len(shown)),
        ("With care", len(warned)),
    )
    groups = tuple(Head(text, span) for text, span in parts if span)
    return Table("Setting", heads, tuple(lines), groups, (*notes, *_notes(few, blind, PAIRS in shown)))


def _marked(rows: Sequence[Summary], columns: Columns, few: bool) -> frozenset[int]:
    """Places of the highest lift: where it beats the best baseline by more than chance, if the run tested that."""
    named = marks([number(row.get("lift")) for row in rows], columns["lift"].direction, columns["lift"].kind)
    tested = any(BEATS in row for row in rows)
    top = (place for place, mark in enumerate(named) if mark == "best")
    return frozenset(place for place in top if (beats_baseline(rows[place]) if tested else not few))


def _scored(row: Summary, score: str, columns: Columns, few: bool) -> Cell:
    found = estimated(row, score, columns[score])
    return replace(found, kind="few", title=found.title or too_few(IMAGES)) if few else found


def _compared(row: Summary, key: str, columns: Columns, few: bool) -> Cell:
    if key == GAIN:
        return gain_cell(row, columns[key])
    grey = "few" if few and key != PAIRS else ""
    return cell(number(row.get(key)), columns[key], kind=f"chance {grey}".strip() if key == RIVAL else grey)


def _labels(table: Sequence[Row], kept: Sequence[Key], columns: Columns) -> Table:
    """Every row of the run's table, label by label; of a very long one the rows of the leading maps alone."""
    short = len(table) > _ROWS
    rows = [row for row in table if not short or _key(row) in kept or row.get("setting") == BASELINE]
    scores = known_of(rows, tuple(key for key in (*SCORES, *FURTHER) if key in columns))
    order = {label: place for place, label in enumerate(in_order(rows, "label"))}
    lines = []
    for row in sorted(rows, key=lambda row: order.get(row.get("label", ""), -1)):
        words = (row.get("setting", ""), _named(row.get("method", "")), _layer(row.get("layer", "")))
        kind = "chance" if is_baseline(_key(row)) else ""
        cells = [_scored(row, score, columns, not number(row.get("images")) >= FEW) for score in scores]
        cells = [replace(one, kind=f"{kind} {one.kind}".strip()) for one in cells]
        images = cell(number(row.get("images")), columns["images"])
        lines.append(TableRow(row.get("label", ""), (*(Cell(word, kind="words") for word in words), images, *cells)))
    heads = (*(Head(word, kind="words") for word in ("Setting", "Method", "Layer")), *score_heads(columns, scores))
    left = "The rows of the maps above; all others stand in tables/localization.csv."
    return Table("Label", heads, tuple(lines), (), (left,) if short else ())


def _notes(few: bool, baselines: Sequence[Key], pairs: bool) -> tuple[str, ...]:
    notes = []
    if baselines and pairs:
        notes.append(
            "A baseline may be missing for a pair (a label of one patient has no mean region over others): its row "
            "below the settings counts fewer pairs than theirs. Compare the two lifts on the same pairs."
        )
    if few:
        notes.append(f"Grey: {too_few(IMAGES)}; best and worst are not marked.")
    return tuple(notes)


def _head(column: Column, chance: bool) -> Head:
    return Head(column.heading, kind="chance" if chance else "", title=column.text)


def _key(row: Row) -> Key:
    return row.get("setting", ""), row.get("method", ""), row.get("layer", "")


def _layer(layer: str) -> str:
    return layer if layer not in {"", NO_LAYER} else MISSING


def _named(method: str) -> str:
    return method.replace("_", " ").replace("other-patient:", "another patient’s ")
