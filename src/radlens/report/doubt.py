"""Doubt that a study can measure: test images unlike those of training, and seeds that disagree."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from radlens.report.columns import MISSING, Column, show
from radlens.report.contents import Row, RunContents, number
from radlens.report.space_tables import with_ends
from radlens.report.tables import Cell, Head, Table, TableRow

Columns = Mapping[str, Column]
_METHODS = {"mahalanobis": "Mahalanobis", "knn": "nearest"}
_SEEDS = ("macro_f1", "macro_auroc", "macro_average_precision", "exact_match", "macro_brier", "macro_log_loss")
_DOUBTS = {
    "disagreement": "Disagreement between seeds",
    "disagreement_error_auroc": "Disagreement tells errors (AUROC)",
    "margin_error_auroc": "Nearness to the threshold tells errors (AUROC)",
}


@dataclass(frozen=True)
class Doubt:
    """Tables of the section; one without rows is left out of the page."""

    distances: Table
    seeds: Table


def doubt(run: RunContents, columns: Columns) -> Doubt:
    """Both tables from the run's own."""
    return Doubt(_distances(run, columns), _seeds(run, columns))


def _distances(run: RunContents, columns: Columns) -> Table:
    """A row a setting and method; of settings that share a space only what their errors say differs."""
    lines = []
    for row in run.tables["distance_to_train"]:
        wrong, right = number(row.get("wrong")), number(row.get("right"))
        errors = row | {"reason": row.get("error_reason", "")}
        cells = (
            Cell(_METHODS.get(row.get("method", ""), row.get("method", "")), kind="words"),
            with_ends(row, "farther", columns["farther"]),
            with_ends(row, "beyond", columns["beyond"]),
            Cell(f"{wrong:.0f} of {wrong + right:.0f}" if math.isfinite(wrong + right) else MISSING),
            with_ends(errors, "error_auroc", columns["error_auroc"]),
        )
        lines.append(TableRow(row.get("setting", ""), cells))
    heads = (
        Head("Distance", kind="words"),
        Head("Farther than validation", title=columns["farther"].text),
        Head("Beyond 95% of validation", title=columns["beyond"].text),
        Head("Wrong decisions"),
        Head("Tells errors (AUROC)", title=columns["error_auroc"].text),
    )
    return Table("Setting", heads, tuple(lines))


def _seeds(run: RunContents, columns: Columns) -> Table:
    """A block a setting with several seeds: figures of the single seeds, of their mean, and what the mean gains."""
    found: dict[str, list[Row]] = {}
    for row in run.tables["seed_ensemble"]:
        found.setdefault(row.get("setting", ""), []).append(row)
    lines = []
    for setting, rows in found.items():
        members = next((row.get("members", "") for row in rows), "")
        lines.append(TableRow(f"{setting}, {members} seeds"))
        by_metric = {row.get("metric", ""): row for row in rows}
        shown = (metric for metric in (*_SEEDS, *_DOUBTS) if metric in by_metric)
        lines += [_figure(metric, by_metric[metric], columns) for metric in shown]
    heads = (
        Head("Single seeds, mean"),
        Head("least to greatest"),
        Head("Mean probability", title=columns["ensemble"].text),
        Head("Gain", title=columns["gain"].text),
    )
    return Table("Figure", heads, tuple(lines))


def _figure(metric: str, row: Row, columns: Columns) -> TableRow:
    column = columns.get(metric, Column(metric, metric, "share"))
    least, greatest = number(row.get("single_least")), number(row.get("single_greatest"))
    known = math.isfinite(least) and math.isfinite(greatest)
    own = row | {"ensemble_low": row.get("low", ""), "ensemble_high": row.get("high", "")}
    none = metric in _DOUBTS
    gain = Cell("") if not math.isfinite(number(row.get("gain"))) else with_ends(row, "gain", column, signed=True)
    cells = (
        Cell("") if none else Cell(show(number(row.get("single_mean")), column.kind)),
        Cell(f"{show(least, column.kind)} to {show(greatest, column.kind)}" if known else ""),
        with_ends(own, "ensemble", column),
        gain,
    )
    heading = _DOUBTS.get(metric, column.heading)
    arrow = {1: "↑", -1: "↓"}.get(column.direction, "") if not none else ""
    return TableRow(heading, cells, title=column.text, arrow=arrow)
