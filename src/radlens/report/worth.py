"""What the figures are worth: power, rare labels, groups and their gaps, calibration, guarantees."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from radlens.report.columns import MISSING, Column, show
from radlens.report.contents import Row, RunContents, number
from radlens.report.tables import Cell, Head, Table, TableRow, cell, setting_heads


@dataclass(frozen=True)
class Worth:
    """Tables of the section; a table without rows is left out of the page."""

    power: Table
    bands: Table
    groups: Table
    calibration: Table
    guarantees: Table


def worth(run: RunContents, columns: Mapping[str, Column], colours: Mapping[str, str]) -> Worth:
    """All of the section, from the run's tables."""
    return Worth(
        _power(run, colours),
        _bands(run, columns, colours),
        _groups(run, columns, colours),
        _words(run, colours, "calibration_error", lambda row: row.get("probabilities") == "as they are"),
        _words(run, colours, "conformal", lambda row: True),
    )


def _power(run: RunContents, colours: Mapping[str, str]) -> Table:
    """A row a label, a cell a setting: the F1 that chance allows it, and the least difference that could be seen."""
    found: dict[str, dict[str, Row]] = {}
    for row in run.tables["power"]:
        found.setdefault(row["label"], {})[row.get("setting", "")] = row
    rows = []
    for label, of in found.items():
        cells = [Cell(next(iter(of.values())).get("test_positives", MISSING))]
        for setting in run.settings:
            row = of.get(setting, {})
            difference = number(row.get("difference"))
            ends = [_two_digits(number(row.get(key))) for key in ("f1_low", "f1_high")]
            seen = f"sees {_two_digits(difference)}" if math.isfinite(difference) else "sees none"
            text = f"{ends[0]}–{ends[1]}, {seen}" if MISSING not in ends else MISSING
            assumed = row.get("rates") == "assumed"
            star = " *" if assumed and text != MISSING else ""
            cells.append(Cell(f"{text}{star}", kind="few" if assumed else "", title=row.get("statement", "")))
        rows.append(TableRow(label, tuple(cells)))
    heads = (Head("Positive, test"), *setting_heads(run.settings, colours))
    return Table("Label", heads, tuple(rows))


def _two_digits(value: float) -> str:
    """A share in two digits without its leading zero."""
    return f"{value:.2f}".removeprefix("0") if math.isfinite(value) else MISSING


def _bands(run: RunContents, columns: Mapping[str, Column], colours: Mapping[str, str]) -> Table:
    """Means over labels that were common, less common and rare in training, each with its interval over patients."""
    rows: dict[str, dict[str, Row]] = {}
    bands: dict[str, str] = {}
    for row in run.tables["frequency"]:
        name = f"{row['band']} ({row['train_positives']} training positives)"
        rows.setdefault(name, {})[row["setting"]] = row
        bands[name] = row["band"]
    made = []
    for name, of in rows.items():
        labels = next((row["labels"] for row in of.values()), "")
        cells = [Cell(labels)]
        for key in ("f1", "auroc"):
            for setting in run.settings:
                row = of.get(setting, {})
                known = run.intervals.get((setting, "band", bands[name], key), {})
                counted = f"mean over {row.get(f'{key}_labels_counted') or '0'} labels"
                if not known:
                    cells.append(cell(number(row.get(key)), columns[key], title=counted))
                    continue
                told = known | {"reason": "; ".join(filter(None, (counted, known.get("reason"))))}
                cells.append(_with_interval(told | {"mean": row.get(key, "")}, "mean", "low", "high", columns[key]))
        made.append(TableRow(name, tuple(cells)))
    heads = (Head("Labels"), *setting_heads(run.settings, colours), *setting_heads(run.settings, colours))
    groups = (Head("", 1), Head("F1 ↑", len(run.settings)), Head("AUROC ↑", len(run.settings)))
    return Table("Labels by how common they are", heads, tuple(made), groups)


def _groups(run: RunContents, columns: Mapping[str, Column], colours: Mapping[str, str]) -> Table:
    """Macro AUROC of every group, and its gap to all other images."""
    column = columns["macro_auroc"]
    found: dict[tuple[str, str], dict[str, Row]] = {}
    for row in run.tables["subgroups"]:
        if row.get("metric") == "macro_auroc":
            found.setdefault((row["column"], row["group"]), {})[row["setting"]] = row
    rows = []
    last = ""
    for (name, group), of in found.items():
        if name != last:
            rows.append(TableRow(name))
            last = name
        cells = [Cell(next((row["images"] for row in of.values()), ""))]
        for low, value, high in (("low", "value", "high"), ("gap_low", "gap", "gap_high")):
            cells += [_with_interval(of.get(setting, {}), value, low, high, column) for setting in run.settings]
        rows.append(TableRow(group, tuple(cells)))
    heads = (Head("Images"), *setting_heads(run.settings, colours), *setting_heads(run.settings, colours))
    groups = (Head("", 1), Head("Macro AUROC ↑", len(run.settings)), Head("Gap to all others", len(run.settings)))
    return Table("Group", heads, tuple(rows), groups)


def _with_interval(row: Row, value: str, low: str, high: str, column: Column) -> Cell:
    ends = number(row.get(low)), number(row.get(high))
    text = f"{show(ends[0], column.kind)} to {show(ends[1], column.kind)}" if all(map(math.isfinite, ends)) else ""
    kind = "" if text else "few"
    return Cell(show(number(row.get(value)), column.kind), kind=kind, title=row.get("reason") or "", interval=text)


def _words(run: RunContents, colours: Mapping[str, str], table: str, wanted: Callable[[Row], bool]) -> Table:
    found: dict[str, dict[str, str]] = {}
    for row in run.tables[table]:
        if wanted(row):
            found.setdefault(row["label"], {})[row["setting"]] = row.get("words") or MISSING
    rows = [
        TableRow(label, tuple(Cell(of.get(setting, MISSING), kind="words") for setting in run.settings))
        for label, of in found.items()
    ]
    heads = tuple(Head(setting, colour=colours[setting], kind="words") for setting in run.settings)
    return Table("Label", heads, tuple(rows))
