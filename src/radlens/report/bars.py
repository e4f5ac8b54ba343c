"""F1 of every setting on every label, beside what always answering yes scores."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from radlens.report.columns import show
from radlens.report.contents import FEW, RunContents, number


@dataclass(frozen=True)
class Bar:
    """One setting's bar: its F1 (NaN = not estimable), the same as text, its width in percent, its colour."""

    setting: str
    value: float
    text: str
    width: str
    colour: str


@dataclass(frozen=True)
class BarRow:
    """All bars of a label. always: F1 of always answering yes (NaN where unknown); few: under ten test positives."""

    label: str
    positives: float
    few: bool
    always: float
    always_text: str
    always_at: str
    bars: tuple[Bar, ...]


def f1_bars(run: RunContents, colours: Mapping[str, str]) -> tuple[BarRow, ...]:
    """Labels by test positives, the most frequent first."""
    rows = []
    for label in run.labels:
        found = run.of("per_label", label=label)
        known = [number(row.get("f1_always_positive")) for row in found.values()]
        always = next((value for value in known if math.isfinite(value)), math.nan)
        bars = []
        for setting in run.settings:
            value = number(found.get(setting, {}).get("f1"))
            bars.append(Bar(setting, value, show(value, "share"), _percent(value), colours[setting]))
        positives = run.test_positives(label)
        few = not positives >= FEW
        rows.append(BarRow(label, positives, few, always, show(always, "share"), _percent(always), tuple(bars)))
    return tuple(sorted(rows, key=lambda row: -row.positives if math.isfinite(row.positives) else 1.0))


def _percent(value: float) -> str:
    return f"{100 * min(max(value, 0.0), 1.0):.2f}" if math.isfinite(value) else ""
