"""Audit a file of published tables and print what it finds."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from radlens.evaluate.audit.findings import RANKS, Finding
from radlens.evaluate.audit.published import PublishedTables
from radlens.evaluate.audit.reading import EXAMPLE, read_published
from radlens.evaluate.audit.rules import audit, without_rule

_WIDTH = 100
_HEADINGS = {
    "contradiction": ("Contradictions", "the figures cannot all be right, or refute what is said of them", "bold red"),
    "suspicious": ("Suspicious", "possible, but something else explains it", "bold yellow"),
    "note": ("Notes", "read the tables with these in mind", "bold cyan"),
}


def audit_file(path: Path | None, console: Console) -> list[Finding]:
    """Print and return the findings of an audit file, or of the example (None): the tables of the BiomedCLIP paper.

    Raises `DataError` for a file that cannot be read, with row and column.
    """
    tables = read_published(path or EXAMPLE)
    findings = audit(tables)
    name = str(path) if path else "the example: Tables 1 to 3 and text of Sadman et al., BIOKDD 2025"
    if console.is_terminal:
        _print(name, tables, findings, console, min(console.width, _WIDTH))
        return findings
    # a pipe has no width of its own: rich would fold everything at 80 columns
    text = io.StringIO()
    plain = Console(file=text, width=_WIDTH, color_system=None, legacy_windows=False)
    _print(name, tables, findings, plain, _WIDTH)
    lines = "\n".join(line.rstrip() for line in text.getvalue().splitlines())
    console.print(Text(lines), soft_wrap=True, highlight=False)
    return findings


def _print(name: str, tables: PublishedTables, findings: Sequence[Finding], console: Console, width: int) -> None:
    console.print(Text(f"Audit of {name}"), width=width, highlight=False)
    console.print(Text(_read(tables)), width=width, highlight=False)
    number = 0
    for rank in RANKS:
        chosen = [finding for finding in findings if finding.rank == rank]
        if not chosen:
            continue
        title, meaning, style = _HEADINGS[rank]
        console.print(Text.assemble("\n", (f"{title}: {len(chosen)}", style), f"  ({meaning})"), width=width)
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(justify="right", width=2)
        grid.add_column()
        for finding in chosen:
            number += 1
            sentence = finding.text[0].upper() + finding.text[1:]
            grid.add_row(str(number), Text.assemble(sentence, "\n", ("; ".join(finding.places), "dim")))
        console.print(Padding(grid, (0, 0, 0, 0)), width=width, highlight=False)
    if not findings:
        console.print("\nNothing found: the figures agree with each other as far as they are printed.", width=width)


def _read(tables: PublishedTables) -> str:
    figures = sum(entry.number is not None for entry in tables.entries)
    counts = (
        (figures, "figure"),
        (len(tables.claims), "statement"),
        (len(tables.settings), "setting"),
        (len(tables.labels), "label"),
        (len(tables.domains), "domain"),
    )
    said = ", ".join(f"{count} {word}{'s' if count != 1 else ''}" for count, word in counts if count)
    left = without_rule(tables)
    more = f" No rule knows {', '.join(left)}; looked at only for two values of one quantity." if left else ""
    return f"Read: {said}.{more}"
