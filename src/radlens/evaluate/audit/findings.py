"""What an audit finds, and in which order it is told."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import polars as pl

Rank = Literal["contradiction", "suspicious", "note"]
RANKS: tuple[Rank, ...] = ("contradiction", "suspicious", "note")


@dataclass(frozen=True)
class Finding:
    """One sentence with its figures and where they stand.

    contradiction: no data can give the printed figures together, or a statement is not what its figures say.
    suspicious: possible, but explained by something other than what it is said to show. note: read with this in mind.
    """

    rank: Rank
    rule: str
    text: str
    places: tuple[str, ...]


def ranked(findings: Iterable[Finding]) -> list[Finding]:
    """Contradictions first, then suspicious, then notes; within a rank in the order in which they were found."""
    return sorted(findings, key=lambda finding: RANKS.index(finding.rank))


def findings_table(findings: Sequence[Finding]) -> pl.DataFrame:
    """Columns rank, rule, finding, places; a row a finding."""
    return pl.DataFrame(
        [(f.rank, f.rule, f.text, "; ".join(f.places)) for f in findings],
        schema={"rank": pl.String, "rule": pl.String, "finding": pl.String, "places": pl.String},
        orient="row",
    )


def listed(parts: Sequence[str], most: int = 6) -> str:
    """Words for a list: a, b and c; beyond `most` the others are counted."""
    if len(parts) > most:
        return ", ".join(parts[:most]) + f" and {len(parts) - most} more"
    return "".join(parts) if len(parts) < 2 else ", ".join(parts[:-1]) + " and " + parts[-1]
