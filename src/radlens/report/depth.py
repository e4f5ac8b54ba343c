"""Depth by setting: where the maps find the regions best, and whether depth or adaptation is shown to move them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from radlens.report.columns import MISSING, Column, show
from radlens.report.contents import Row, RunContents, number
from radlens.report.interval_cells import interval, signed_text
from radlens.report.map_kinds import ALL, NO_LAYER, in_order, label_words, layer_words
from radlens.report.tables import NOT_ESTIMABLE, Cell, Head, Table, TableRow

_SCORE = "lift"
_SHOWN = 3
Columns = Mapping[str, Column]


@dataclass(frozen=True)
class DepthMatrix:
    """One method: what depth does and what the setting does, over all labels, and label by label."""

    method: str
    sentences: tuple[str, ...]
    overall: Table
    labels: Table | None


def depth_matrices(run: RunContents, columns: Columns) -> tuple[DepthMatrix, ...]:
    """A matrix a method in the study's order; a method without depth is left out where another has it."""
    table = [row for row in run.tables["depth_matrix"] if row.get("score") == _SCORE]
    methods = in_order(table, "method")
    deep = [m for m in methods if any(row["layer"] != NO_LAYER for row in table if row["method"] == m)] or list(methods)
    return tuple(_matrix(m, [row for row in table if row["method"] == m], columns["lift"]) for m in deep)


def _matrix(method: str, rows: Sequence[Row], column: Column) -> DepthMatrix:
    settings, layers = in_order(rows, "setting"), in_order(rows, "layer")
    labels = tuple(label for label in in_order(rows, "label") if label != ALL)
    cells = {(row["label"], row["setting"], row["layer"]): row for row in rows}
    overall = [row for row in rows if row["label"] == ALL]
    heads = tuple(Head(layer_words(layer) or "no depth") for layer in layers)

    def line(label: str, setting: str) -> tuple[Cell, ...]:
        return tuple(_cell(cells.get((label, setting, layer)), column) for layer in layers)

    whole = Table("Setting", heads, tuple(TableRow(setting, line(ALL, setting)) for setting in settings))
    split = tuple(
        TableRow(label_words(label), (Cell(setting, kind="words"), *line(label, setting)))
        for label in labels
        for setting in settings
    )
    by_label = Table("Label", (Head("Setting", kind="words"), *heads), split) if split else None
    sentences = (_by_depth(overall, settings, layers, column), _by_setting(overall, settings, column))
    return DepthMatrix(method, tuple(one for one in sentences if one), whole, by_label)


def _cell(row: Row | None, column: Column) -> Cell:
    """Mean lift; filled arrows: above or below the setting's first layer; hollow: the first setting at this layer."""
    if row is None:
        return Cell(MISSING, kind="few", title="no such map")
    value = number(row.get("mean"))
    between = interval(number(row.get("mean_low")), number(row.get("mean_high")), column.kind)
    marks, told = "", []
    for which, up, down in (("layer", "▲", "▼"), ("setting", "△", "▽")):
        if _supported(row, which):
            marks += up if number(row.get(f"{which}_difference")) > 0 else down
            told.append(f"{_against(row, which)}: {_difference(row, which, column)}")
    why = row.get("mean_reason") or (NOT_ESTIMABLE if not math.isfinite(value) else "")
    text = f"{marks} {show(value, column.kind)}".strip()
    return Cell(text, kind="" if between else "few", title="; ".join(told) or why, interval=between)


def _supported(row: Row, which: str) -> bool:
    return row.get(f"{which}_supported", "").lower() == "true"


def _against(row: Row, which: str) -> str:
    reference = row.get(f"{which}_reference", "")
    return f"against {layer_words(reference) if which == 'layer' else reference}"


def _difference(row: Row, which: str, column: Column) -> str:
    value, low, high = (number(row.get(f"{which}_{key}")) for key in ("difference", "low", "high"))
    ends = interval(low, high, column.kind, signed=True)
    return signed_text(value, column.kind) + (f" ({ends})" if ends else "")


def _by_depth(rows: Sequence[Row], settings: Sequence[str], layers: Sequence[str], column: Column) -> str:
    if len(layers) < 2:
        return ""
    found = []
    for setting in settings:
        moved = [row for row in rows if row["setting"] == setting and _supported(row, "layer")]
        if moved:
            most = max(moved, key=lambda row: abs(number(row["layer_difference"])))
            further = f", at {len(moved)} of {len(layers) - 1} layers" if len(layers) > 2 else ""
            found.append(
                f"{setting}, {layer_words(most['layer'])} {_against(most, 'layer')} by "
                f"{_difference(most, 'layer', column)}{further}"
            )
    if found:
        return f"Depth moves the maps: {_few(found)}; supported, lift over all labels."
    return _unsupported(rows, "layer", "depths")


def _by_setting(rows: Sequence[Row], settings: Sequence[str], column: Column) -> str:
    if len(settings) < 2:
        return ""
    found = []
    for setting in settings[1:]:
        own = [row for row in rows if row["setting"] == setting]
        moved = [row for row in own if _supported(row, "setting")]
        if moved:
            most = max(moved, key=lambda row: abs(number(row["setting_difference"])))
            at = f" at {layer_words(most['layer'])}" if layer_words(most["layer"]) else ""
            count = f", at {len(moved)} of {len(own)} layers" if len(own) > 1 else ""
            found.append(f"{setting} {_against(most, 'setting')}{at} by {_difference(most, 'setting', column)}{count}")
    if found:
        return f"Adaptation moves the maps: {_few(found)}; supported, lift over all labels."
    return _unsupported(rows, "setting", "settings")


def _unsupported(rows: Sequence[Row], which: str, between: str) -> str:
    """No support, which is not the same as no answer."""
    answers = [row.get(f"{which}_supported", "") for row in rows if row.get(f"{which}_difference")]
    if any(answers):
        return f"No difference between {between} is supported: each may be chance."
    why = next((row[f"{which}_reason"] for row in rows if row.get(f"{which}_difference")), "")
    return f"Whether {between} differ cannot be told{f': {why}' if why else ''}."


def _few(found: Sequence[str]) -> str:
    more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return "; ".join(found[:_SHOWN]) + more
