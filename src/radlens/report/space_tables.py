"""What else is known of each embedding space: labels with the others held equal, neighbours, other spaces."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from radlens.report.columns import MISSING, Column, show
from radlens.report.contents import FEW, Row, RunContents, number
from radlens.report.embedding_space import shortened
from radlens.report.tables import Cell, Head, Table, TableRow, cell

Columns = Mapping[str, Column]
_CHANCE = 0.05


@dataclass(frozen=True)
class SpaceTables:
    """Tables of the section; one without rows is left out of the page."""

    overview: Table
    matched: Table
    neighbours: Table
    compared: Table


def space_tables(run: RunContents, columns: Columns) -> SpaceTables:
    """All of the section, of the embeddings as encoded, from the run's tables."""
    matched, near = (_as_encoded(run.tables[name]) for name in ("conditional_separability", "neighbourhood"))
    spaces = tuple(dict.fromkeys(row.get("settings", "") for row in (*near, *matched)))
    return SpaceTables(
        _overview(spaces, matched, near, columns),
        _matched(spaces, matched, columns),
        _neighbours(spaces, near, columns),
        _compared(run, spaces, columns),
    )


def with_ends(row: Row, key: str, column: Column, signed: bool = False) -> Cell:
    """A figure with its 95 % interval, or grey with the reason why it has none; low and high stand in `key`_low, _high.

    signed: with + or -, for differences.
    """
    value, *ends = (number(row.get(name)) for name in (key, f"{key}_low", f"{key}_high"))
    known = all(map(math.isfinite, ends))

    def text(figure: float) -> str:
        # a difference is smaller than what it is between
        return f"{figure:+.4f}" if signed and math.isfinite(figure) else show(figure, column.kind)

    between = " to " if signed or min((x for x in ends if math.isfinite(x)), default=0) < 0 else "–"
    interval = between.join(text(end) for end in ends) if known else ""
    return Cell(text(value), kind="" if known else "few", title=row.get("reason") or "", interval=interval)


def _as_encoded(rows: Iterable[Row]) -> list[Row]:
    return [row for row in rows if row.get("normalised", "").lower() == "false"]


def _overview(spaces: Sequence[str], matched: list[Row], near: list[Row], columns: Columns) -> Table:
    lines = []
    for space in spaces:
        of = next((row for row in near if row["settings"] == space and row["name"] == "overall"), {})
        tested = [row for row in matched if row["settings"] == space and math.isfinite(number(row.get("ratio_p")))]
        beyond = sum(number(row["ratio_p"]) <= _CHANCE for row in tested)
        mean = next((row for row in matched if row["settings"] == space and row["name"] == "overall"), {})
        cells = (
            Cell(f"{number(of.get('images')):.0f}" if math.isfinite(number(of.get("images"))) else MISSING),
            with_ends(of, "knn_purity", columns["knn_purity"]),
            cell(number(of.get("knn_purity_baseline")), columns["knn_purity"], kind="chance"),
            with_ends(of, "silhouette_positives", columns["silhouette_positives"]),
            cell(number(mean.get("ratio")), columns["separability_ratio"], title=mean.get("reason") or ""),
            Cell(f"{beyond} of {len(tested)}" if tested else MISSING, title=f"{_CHANCE * len(tested):.1f} by chance"),
        )
        lines.append(TableRow(_short(space), cells, title=space))
    heads = (
        Head("Images", title="at most 10,000 for labels held equal, 20,000 for neighbours"),
        Head("Neighbours with the label", title=columns["knn_purity"].text),
        Head("Drawn at random", kind="chance", title=columns["knn_purity_baseline"].text),
        Head("Silhouette", title=columns["silhouette_positives"].text),
        Head("Ratio, other labels held equal", title="mean over the labels; each has a null of its own below"),
        Head("Labels beyond shuffles", title=f"p at most {_CHANCE}, of the labels that can be tested; uncorrected"),
    )
    groups = (Head("", 1), Head("Mean over labels", 4), Head("", 1))
    return Table("Embeddings of", heads, tuple(lines), groups)


def _matched(spaces: Sequence[str], rows: list[Row], columns: Columns) -> Table:
    """A row a label that can be tested: its ratio beside shuffles within images alike in all other labels."""
    ratio = columns["separability_ratio"]
    lines = []
    for row in _by_label(rows, spaces, "positives"):
        plain = cell(number(row.get("ratio_unmatched")), ratio)
        counts = Cell(f"{row.get('positives_matched', '')} of {row.get('positives', '')}")
        value = number(row.get("ratio"))
        z, p = number(row.get("ratio_z")), number(row.get("ratio_p"))
        few = "few" if not number(row.get("positives_matched")) >= FEW else ""
        why = row.get("reason") or ""
        cells = [
            counts,
            plain,
            cell(value, ratio, kind=few, title=why),
            cell(number(row.get("ratio_null")), ratio, kind=f"chance {few}".strip()),
            Cell(f"{z:+.1f}" if math.isfinite(z) else MISSING, kind=few, title=why),
            Cell(f"{p:.2f}" if math.isfinite(p) else MISSING, kind=few, title=why),
        ]
        lines.append(TableRow(row["name"], (*_of_space(row, spaces), *cells)))
    heads = (
        *_space_head(spaces),
        Head("Positives compared", title="images with the label that have an image alike in every other label"),
        Head("Ratio, all images", title=columns["ratio_unmatched"].text),
        Head("Ratio, others held equal", title=columns["ratio"].text),
        Head("Shuffled labels", kind="chance", title="mean over shuffles among images alike in every other label"),
        Head("z", title="(ratio - shuffled) / standard deviation of the shuffles"),
        Head("p", title="share of shuffles with a ratio at least as high, one-sided, uncorrected"),
    )
    return Table("Label", heads, tuple(lines))


def _neighbours(spaces: Sequence[str], rows: list[Row], columns: Columns) -> Table:
    lines = []
    for row in _by_label(rows, spaces, "positives"):
        cells = (
            cell(number(row.get("positives")), columns["test_positives"]),
            with_ends(row, "knn_purity", columns["knn_purity"]),
            cell(number(row.get("knn_purity_baseline")), columns["knn_purity"], kind="chance"),
            with_ends(row, "silhouette_positives", columns["silhouette_positives"]),
        )
        lines.append(TableRow(row["name"], (*_of_space(row, spaces), *cells)))
    heads = (
        *_space_head(spaces),
        Head("Positive"),
        Head("Neighbours with the label", title=columns["knn_purity"].text),
        Head("Drawn at random", kind="chance", title=columns["knn_purity_baseline"].text),
        Head("Silhouette", title=columns["silhouette_positives"].text),
    )
    return Table("Label", heads, tuple(lines))


def _compared(run: RunContents, spaces: Sequence[str], columns: Columns) -> Table:
    """A row a pair of spaces; drifts of single labels stand in the run's table alone."""
    named = {setting: space for space in spaces for setting in space.split("; ")}
    lines = []
    for row in run.tables["spaces"]:
        if row.get("name") != "overall":
            continue
        first, second = (named.get(row.get(end, ""), row.get(end, "")) for end in ("a", "b"))
        cells = (
            Cell(_short(second), kind="words", title=second),
            Cell(row.get("images", "")),
            with_ends(row, "linear_cka_debiased", columns["linear_cka_debiased"]),
            cell(number(row.get("centroid_drift_aligned")), columns["centroid_drift_aligned"]),
        )
        lines.append(TableRow(_short(first), cells, title=first))
    heads = (
        Head("against", kind="words"),
        Head("Images"),
        Head("Alike (linear CKA)", title=columns["linear_cka_debiased"].text),
        Head("Centroids moved", title=columns["centroid_drift_aligned"].text),
    )
    return Table("Embeddings of", heads, tuple(lines))


def _by_label(rows: list[Row], spaces: Sequence[str], counted: str) -> list[Row]:
    """Rows of labels with a positive, label by label, the spaces of each in order."""
    labels = tuple(dict.fromkeys(row["name"] for row in rows if row["name"] != "overall"))
    of = {(row["name"], row["settings"]): row for row in rows if number(row.get(counted)) > 0}
    return [of[label, space] for label in labels for space in spaces if (label, space) in of]


def _of_space(row: Row, spaces: Sequence[str]) -> tuple[Cell, ...]:
    return (Cell(_short(row["settings"]), kind="words", title=row["settings"]),) if len(spaces) > 1 else ()


def _space_head(spaces: Sequence[str]) -> tuple[Head, ...]:
    return (Head("Embeddings of", kind="words"),) if len(spaces) > 1 else ()


def _short(space: str) -> str:
    return shortened(space.split("; "))
