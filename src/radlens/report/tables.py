"""A table as the page shows it: cells with their text, their mark and the reason why one is grey or empty."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from radlens.report.columns import MISSING, Column, Mark, marks, show
from radlens.report.contents import FEW, RunContents, number

NOT_ESTIMABLE = "not estimable"


@dataclass(frozen=True)
class Cell:
    """One cell. kind: a CSS class ("few", "chance", "paper", "words" or ""). interval: its 95 % interval, as text."""

    text: str
    mark: Mark = ""
    kind: str = ""
    title: str = ""
    interval: str = ""


@dataclass(frozen=True)
class Head:
    """One column heading; `span` columns wide, with a setting's colour where it stands for one."""

    text: str
    span: int = 1
    colour: str = ""
    kind: str = ""
    title: str = ""


@dataclass(frozen=True)
class TableRow:
    """One row: its name, a remark under it, its cells. A row without cells is a heading between rows."""

    name: str
    cells: tuple[Cell, ...] = ()
    remark: str = ""
    title: str = ""
    arrow: str = ""


@dataclass(frozen=True)
class Table:
    """A whole table. `groups` is an optional row of wider headings above `heads`."""

    corner: str
    heads: tuple[Head, ...]
    rows: tuple[TableRow, ...]
    groups: tuple[Head, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def starts(self) -> frozenset[int]:
        """Places of the columns that begin a group, except the first."""
        ends = accumulate(group.span for group in self.groups[:-1])
        return frozenset(ends)


def cell(value: float, column: Column, mark: Mark = "", kind: str = "", title: str = "") -> Cell:
    """A number in its digits; NaN is a dash that says why on hover."""
    text = show(value, column.kind)
    return Cell(text, mark, kind, title or (NOT_ESTIMABLE if text == MISSING else ""))


def compared(
    values: Sequence[float], column: Column, few: bool = False, of: str = "positives in the test split"
) -> list[Cell]:
    """One cell a setting, best and worst marked; with `few` (of what, names `of`) all are grey and none is marked."""
    if few:
        return [cell(value, column, kind="few", title=too_few(of)) for value in values]
    named = marks(values, column.direction, column.kind)
    return [cell(value, column, mark) for value, mark in zip(values, named, strict=True)]


def settings_compared(
    run: RunContents, values: Sequence[float], column: Column, scope: str, name: str, few: bool = False
) -> list[Cell]:
    """`compared`, each figure with its interval; where the run tested differences, best and worst are marked only where
    the best differs from the next, and the worst from the one before it."""
    cells = compared(values, column, few)
    marked = _supported(run, values, column, scope, name, cells)
    found = []
    for setting, one in zip(run.settings, marked, strict=True):
        low, high = run.interval(setting, scope, name, column.key)
        known = math.isfinite(low) and math.isfinite(high)
        text = f"{show(low, column.kind)}–{show(high, column.kind)}" if known and not few else ""
        found.append(replace(one, interval=text))
    return found


def _supported(
    run: RunContents, values: Sequence[float], column: Column, scope: str, name: str, cells: Sequence[Cell]
) -> list[Cell]:
    order = sorted(
        (place for place, value in enumerate(values) if math.isfinite(value)),
        key=lambda place: -column.direction * values[place],
    )
    if len(order) < 2:
        return list(cells)
    told = {}
    for first, second, end in ((order[0], order[1], "best"), (order[-1], order[-2], "worst")):
        told[end] = run.differs(run.settings[first], run.settings[second], scope, name, column.key)
    return [replace(one, mark="") if one.mark and told[one.mark] is False else one for one in cells]


def too_few(of: str) -> str:
    """Why a figure is grey."""
    return f"fewer than {FEW} {of}: treat as not estimable"


def arrow(column: Column) -> str:
    """An arrow for the better direction."""
    return {1: "↑", -1: "↓", 0: ""}[column.direction]


def setting_heads(settings: Sequence[str], colours: Mapping[str, str]) -> tuple[Head, ...]:
    """One heading a setting, in its colour."""
    return tuple(Head(setting, colour=colours[setting]) for setting in settings)


def agreed(run: RunContents, rows: Mapping[str, Mapping[str, str]], key: str, column: Column) -> str:
    """What all settings say of a column, or its range where they differ (a null ratio does)."""
    known = [number(rows.get(s, {}).get(key)) for s in run.settings]
    finite = sorted(value for value in known if math.isfinite(value))
    if not finite:
        return MISSING
    low, high = show(finite[0], column.kind), show(finite[-1], column.kind)
    return low if low == high else f"{low}–{high}"
