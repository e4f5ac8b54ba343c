"""A figure beside its 95 % interval, or grey with the reason why it has none."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from radlens.report.columns import MISSING, Column, Kind, show
from radlens.report.contents import number
from radlens.report.tables import NOT_ESTIMABLE, Cell


def estimated(
    row: Mapping[str, Any], key: str, column: Column, *, reason: str = "reason", signed: bool = False
) -> Cell:
    """`row[key]` with `key`_low and `key`_high; a row that has no such columns at all is from a run without intervals,
    and its figure is not grey. signed: with + or -, for differences."""
    value, low, high = (number(row.get(name)) for name in (key, f"{key}_low", f"{key}_high"))
    between = interval(low, high, column.kind, signed)
    text = signed_text(value, column.kind) if signed else show(value, column.kind)
    if text == MISSING:
        return Cell(text, kind="few", title=_why(row, key, reason) or NOT_ESTIMABLE)
    grey = f"{key}_low" in row and not between
    return Cell(text, kind="few" if grey else "", title=_why(row, key, reason) if grey else "", interval=between)


def interval(low: float, high: float, kind: Kind, signed: bool = False) -> str:
    """Both ends as text; empty unless both are finite."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return ""
    ends = [signed_text(end, kind) if signed else show(end, kind) for end in (low, high)]
    return (" to " if signed or low < 0 else "–").join(ends)


def signed_text(value: float, kind: Kind) -> str:
    """A difference in the digits of its column, with its sign; a real minus, as wide as a plus."""
    text = show(abs(value), kind)
    return text if text == MISSING else f"{'−' if value < 0 else '+'}{text}"


def _why(row: Mapping[str, Any], key: str, reason: str) -> str:
    """The reason for this very figure, where the row tells several apart ("hit_rate, lift: not estimable ...; ...")."""
    told = str(row.get(f"{key}_{reason}") or row.get(reason) or "")
    for part in told.split("; "):
        names, colon, why = part.partition(": ")
        if colon and key in names.split(", "):
            return why
    return told
