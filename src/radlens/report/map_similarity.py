"""Do settings share their maps: how alike two maps of one film are, beside how alike those of two patients are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from radlens.report.columns import Column, show
from radlens.report.contents import Row, RunContents, number
from radlens.report.interval_cells import estimated, interval
from radlens.report.map_kinds import ALL, in_order, layer_words, map_words
from radlens.report.tables import Cell, Head, Table, TableRow, cell

_ALIKE = 0.8
"""Rank correlation from which on two maps mark nearly the same patches."""
_SENTENCES = 3


@dataclass(frozen=True)
class MapSimilarity:
    """settings: the study's first method; further: other methods, depths and methods against each other."""

    method: str
    sentences: tuple[str, ...]
    settings: Table | None
    further: Table | None


def map_similarity(run: RunContents, columns: Mapping[str, Column]) -> MapSimilarity | None:
    """Over all labels; None where the run compared no maps."""
    rows = [r for r in run.tables["map_similarity"] if r.get("label") == ALL and number(r.get("images")) > 0]
    if not rows:
        return None
    first = in_order(rows, "method_a")[0]
    own = [row for row in rows if row["kind"] == "settings" and row["method_a"] == first]
    rest = [row for row in rows if row not in own]
    return MapSimilarity(first, _sentences(own), _table(own, columns, False), _table(rest, columns, True))


def _sentences(rows: Sequence[Row]) -> tuple[str, ...]:
    """The first setting against each other one, at the first layer."""
    if not rows:
        return ()
    layer, before = rows[0]["layer_a"], rows[0]["setting_a"]
    found = []
    for row in rows:
        if row["layer_a"] != layer or row["setting_a"] != before:
            continue
        value, low, high, others = (
            number(row.get(f"spearman{end}")) for end in ("", "_low", "_high", "_other_patient")
        )
        if not math.isfinite(value):
            continue
        who, whose = row["setting_b"], f"the maps of {before}"
        if not math.isfinite(low):
            verb = f"{who} against {whose}"
        elif value >= _ALIKE and low > others:
            verb = f"{who} keeps {whose}"
        elif low > others:
            verb = f"{who} keeps {whose} in part"
        else:
            verb = f"{who} has maps of its own, no more like those of {before} than one patient’s are like another’s"
        ends = interval(low, high, "share").replace("–", " to ")
        told = f" ({ends})" if ends else f" (no interval: {row['reason']})" if row.get("reason") else ""
        against = f", against {show(others, 'share')} between patients" if math.isfinite(others) else ""
        at = f", {layer_words(layer)}" if layer_words(layer) else ""
        found.append(f"{verb}: rank correlation {show(value, 'share')}{told}{against} ({row['method_a']}{at}).")
    return tuple(found[:_SENTENCES])


def _table(rows: Sequence[Row], columns: Mapping[str, Column], named: bool) -> Table | None:
    if not rows:
        return None
    lines = []
    for row in rows:
        words, others = (
            (row[f"setting_{side}"], map_words(row[f"method_{side}"] if named else "", row[f"layer_{side}"]))
            for side in ("a", "b")
        )
        figures = [
            one
            for key in ("spearman", "ssim")
            for one in (
                estimated(row, key, columns[key]),
                cell(number(row.get(f"{key}_other_patient")), columns[key], kind="chance"),
            )
        ]
        first, second = _pair(words, others)
        lines.append(TableRow(first, (Cell(second, kind="words"), Cell(row.get("images", "")), *figures)))
    heads = (
        Head("against", kind="words"),
        Head("Images"),
        Head("Same film", title=columns["spearman"].text),
        Head("Between patients", kind="chance"),
        Head("Same film", title=columns["ssim"].text),
        Head("Between patients", kind="chance"),
    )
    groups = (Head("", 2), Head(columns["spearman"].heading, 2), Head(columns["ssim"].heading, 2))
    return Table("Maps of", heads, tuple(lines), groups)


def _pair(one: tuple[str, str], other: tuple[str, str]) -> tuple[str, str]:
    """Both sides in words; what they have in common stands with the first alone."""
    if one[0] == other[0]:
        return f"{one[0]}: {one[1]}", other[1]
    if one[1] == other[1]:
        return f"{one[0]}, {one[1]}" if one[1] else one[0], other[0]
    return ": ".join(one), ": ".join(other)
