"""Localisation by the size of the region: small findings are where maps differ most."""

from __future__ import annotations

from dataclasses import replace

from radlens.report.columns import MISSING
from radlens.report.contents import FEW, RunContents, number
from radlens.report.interval_cells import estimated
from radlens.report.localization_rows import SCORES, Columns, gain_cell, known_of, score_heads
from radlens.report.map_kinds import ALL, NO_LAYER, in_order
from radlens.report.tables import Cell, Head, Table, TableRow, cell, too_few


def lesion_sizes(run: RunContents, columns: Columns) -> Table | None:
    """A row a size, setting and layer of the study's first method, over all labels; None where the run has none."""
    table = [
        row for row in run.tables["localization_sizes"] if row.get("label") == ALL and row["setting"] != "baseline"
    ]
    methods = in_order(table, "method")
    rows = [row for row in table if row["method"] == methods[0]]
    if not rows:
        return None
    scores = known_of(rows, SCORES)
    lines = []
    for row in rows:
        few = not number(row.get("images")) >= FEW
        cells = [estimated(row, score, columns[score]) for score in scores]
        cells.append(cell(number(row.get("lift_best_baseline")), columns["lift_best_baseline"], kind="chance"))
        cells.append(gain_cell(row, columns["lift_difference"]))
        if few:
            cells = [
                replace(one, kind=f"few {one.kind}".strip(), title=one.title or too_few("images")) for one in cells
            ]
        layer = row["layer"] if row["layer"] != NO_LAYER else MISSING
        words = (Cell(row["setting"], kind="words"), Cell(layer), cell(number(row.get("images")), columns["images"]))
        lines.append(TableRow(row["size"], (*words, *cells)))
    heads = (
        Head("Setting", kind="words"),
        Head("Layer"),
        *score_heads(columns, scores),
        Head(columns["lift_best_baseline"].heading, kind="chance", title=columns["lift_best_baseline"].text),
        Head(columns["lift_difference"].heading, title=columns["lift_difference"].text),
    )
    return Table("Region", heads, tuple(lines), (), (f"Drawn by {methods[0]}, all labels together.",))
