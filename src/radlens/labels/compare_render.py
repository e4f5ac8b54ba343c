"""A comparison of two label files as tables on a terminal, or as plain text."""

from __future__ import annotations

import io
import math
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from radlens.labels.compare import WITH_NO_FINDING, LabelComparison

_WIDTH = 120
_BECAUSE = 46


def render(comparison: LabelComparison, console: Console, disagreements: int = 5) -> None:
    """Print agreement for each label, incoherent studies and the first disagreements of each label."""
    if console.is_terminal:
        _print(comparison, console, disagreements)
        return
    # a pipe has no width of its own: rich would fold everything at 80 columns
    text = io.StringIO()
    _print(comparison, Console(file=text, width=_WIDTH, color_system=None, legacy_windows=False), disagreements)
    lines = "\n".join(line.rstrip() for line in text.getvalue().splitlines())
    console.print(Text(lines), soft_wrap=True, highlight=False)


def _print(comparison: LabelComparison, console: Console, disagreements: int) -> None:
    console.print(f"a = {escape(str(comparison.a))}\nb = {escape(str(comparison.b))}", highlight=False)
    console.print(_studies(comparison) + "\n", highlight=False)
    console.print(_agreement(comparison))
    console.print(f"\nDefinition: {comparison.definition}", highlight=False, markup=False)
    console.print(f"Incoherent ({', '.join(WITH_NO_FINDING)} aside):", highlight=False, markup=False)
    for row in comparison.incoherent.iter_rows(named=True):
        console.print(_incoherence(row), highlight=False, markup=False)
    if comparison.disagreements.height and disagreements:
        console.print(_listed(comparison, disagreements))


def _studies(comparison: LabelComparison) -> str:
    counts = comparison.studies.row(0, named=True)
    return (
        f"{counts['both']} studies in both ({counts['only_a']} in a alone, {counts['only_b']} in b alone); "
        f"not assessed: {counts['not_assessed_a']} in a, {counts['not_assessed_b']} in b; "
        f"compared: {counts['compared']}."
    )


def _agreement(comparison: LabelComparison) -> Table:
    # no lines between columns: the counts of 400,000 studies must fit
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold underline")
    table.add_column("label", no_wrap=True)
    for heading in ("n", "a: 1", "0", "-1", "blank", "b: 1", "0", "-1", "blank", "alike", "pos."):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("kappa", justify="right", no_wrap=True)
    table.add_column("95 % interval", min_width=13)
    for row in comparison.labels.iter_rows(named=True):
        counts = [row[f"{file}_{value}"] for file in "ab" for value in ("1", "0", "-1", "blank")]
        interval = f"{row['low']:.2f} to {row['high']:.2f}" if _defined(row["low"]) else row["reason"]
        table.add_row(
            row["label"],
            *(_whole(value) for value in (row["n"], *counts)),
            *(_decimal(row[name]) for name in ("share", "positive_agreement", "kappa")),
            interval.removeprefix("interval "),
        )
    return table


def _incoherence(row: dict[str, Any]) -> str:
    what = {1: "positive", -1: "uncertain"}[row["value"]]
    examples = f", such as {' and '.join(row['examples'][:2])}" if row["examples"] else ""
    return f"{row['file']}: No Finding stands beside a finding that is {what} in {row['studies']} studies{examples}."


def _listed(comparison: LabelComparison, most: int) -> Table:
    found = comparison.disagreements
    title = f"Disagreements: {found.height}, the first {most} of each label"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column("label", no_wrap=True)
    table.add_column("study", no_wrap=True, max_width=16, overflow="ellipsis")
    for heading in ("a", "b"):
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("because in a", "because in b"):
        table.add_column(heading, max_width=_BECAUSE, overflow="fold")
    last = None
    for row in found.group_by("label", maintain_order=True).head(most).iter_rows(named=True):
        label = row["label"] if row["label"] != last else ""
        last = row["label"]
        values = ("" if row[file] is None else str(row[file]) for file in "ab")
        reasons = (_shortened(row[f"because_{file}"] or "") for file in "ab")
        table.add_row(*(escape(text) for text in (label, row["study_id"], *values, *reasons)))
    return table


def _shortened(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 2 * _BECAUSE else text[: 2 * _BECAUSE - 3] + "..."


def _defined(value: float | None) -> bool:
    return value is not None and not math.isnan(value)


def _whole(value: int | None) -> str:
    return "" if value is None else str(value)


def _decimal(value: float | None) -> str:
    return f"{value:.2f}" if value is not None and _defined(value) else "-"
