"""What the maps show where the finding is absent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from radlens.report.columns import Column
from radlens.report.contents import FEW, Row, RunContents, number
from radlens.report.interval_cells import estimated
from radlens.report.map_kinds import ALL, in_order, label_words, map_words
from radlens.report.tables import Cell, Head, Table, TableRow, cell

_SCORES = ("area_absent", "area_present", "auroc_strength", "called_positive")
_FILMS = ("images_absent", "images_present")
_ROWS = 300


def false_alarms(run: RunContents, columns: Mapping[str, Column]) -> tuple[Table, Table | None] | None:
    """The study's first method at its first layer, and all other maps (up to a few hundred rows); None without them.

    Labels with fewer than ten films on either side stand with the others, unless there is no label but these.
    """
    rows = run.tables["false_alarms"]
    if not rows:
        return None
    method = in_order(rows, "method")[0]
    layer = in_order((row for row in rows if row["method"] == method), "layer")[0]
    drawn = [row for row in rows if (row["method"], row["layer"]) == (method, layer)]
    first = [row for row in drawn if all(number(row.get(key)) >= FEW for key in _FILMS)] or drawn
    rest = [row for row in rows if row not in first]
    note = f"Drawn by {map_words(method, layer)}."
    if len(first) < len(drawn):
        note += f" Labels with fewer than {FEW} films with the finding, or without it, stand below."
    left = f"{len(rest) - _ROWS} further rows stand in tables/false_alarms.csv." if len(rest) > _ROWS else ""
    further = _table(rest[:_ROWS], columns, True, left) if rest else None
    return _table(first, columns, False, note), further


def _table(rows: Sequence[Row], columns: Mapping[str, Column], named: bool, note: str) -> Table:
    labels = in_order(rows, "label")
    order = [ALL, *(label for label in labels if label != ALL)]
    lines = []
    for row in sorted(rows, key=lambda row: order.index(row["label"])):
        words = (row["setting"], *((map_words(row["method"], row["layer"]),) if named else ()))
        counts = (cell(number(row.get(key)), columns["images"]) for key in _FILMS)
        scores = (estimated(row, key, columns[key]) for key in _SCORES)
        lines.append(TableRow(label_words(row["label"]), (*(Cell(w, kind="words") for w in words), *counts, *scores)))
    heads = (
        Head("Setting", kind="words"),
        *((Head("Map", kind="words"),) if named else ()),
        Head("absent", title="films known not to show the finding"),
        Head("present", title="films that show the finding"),
        Head("absent", title=columns["area_absent"].text),
        Head("present", title=columns["area_absent"].text),
        Head("Strength tells presence (AUROC) ↑", title=columns["auroc_strength"].text),
        Head("Absent, yet called positive ↓", title=columns["called_positive"].text),
    )
    groups = (Head("", 1 + named), Head("Films", 2), Head("Area highlighted", 2), Head("", 2))
    return Table("Label", heads, tuple(lines), groups, (note,) if note else ())
