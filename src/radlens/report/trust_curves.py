"""The curves behind two checks: logits as patches are removed, and likeness as weights are re-drawn."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from radlens.report.contents import Row, RunContents, number
from radlens.report.map_kinds import ALL, in_order, map_words

WIDTH, HEIGHT = 264, 168
_LEFT, _RIGHT, _TOP, _BOTTOM = 38, 8, 12, 30
_APART, _KEY = 12.5, 128.0
_ORDERS = {"random": ("random order", "#7a8694", "5 3"), "prior": ("label’s mean region", "#17202b", "1.5 3")}
_CAPTIONS = {
    "deletion": (
        "Blurring patches, those first that the map marks most.",
        "A map that tells what the model uses falls below random order and below the label’s mean region.",
        "share of patches blurred",
    ),
    "insertion": (
        "Showing patches again, those first that the map marks most.",
        "A map that tells what the model uses rises above random order and above the label’s mean region.",
        "share of patches shown",
    ),
    "road": (
        "Filling patches in from their surroundings, those first that the map marks most.",
        "A map that tells what the model uses falls below random order and below the label’s mean region.",
        "share of patches filled in",
    ),
}
_FINE = 0.2
_OTHERS = "other patients"
Place = tuple[float, float]
_Series = tuple[str, str, str, list[Place]]
"""Name, colour, dashes and points of a line."""


@dataclass(frozen=True)
class Line:
    """points: of an SVG polyline; whiskers: (x, low, high) of intervals; key: (x, y) of its name in the free corner."""

    name: str
    points: str
    colour: str
    dash: str
    key: tuple[str, str]
    whiskers: tuple[tuple[str, str, str], ...] = ()


@dataclass(frozen=True)
class Panel:
    """One setting. ticks: (y, text) of the axis; marks: (x, text) below it."""

    setting: str
    lines: tuple[Line, ...]
    ticks: tuple[tuple[str, str], ...]
    marks: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Curves:
    """A figure of one message: title, what to see in it, the axes' names, and a panel a setting."""

    key: str
    title: str
    message: str
    across: str
    up: str
    panels: tuple[Panel, ...]


def trust_curves(run: RunContents, colours: Mapping[str, str], method: str, layer: str) -> tuple[Curves, ...]:
    """Figures for all labels together of one method and layer; empty where the run has no curves of them."""
    found = [_faithfulness(run, colours, method, layer, check) for check in _CAPTIONS]
    return tuple(curves for curves in (*found, _randomisation(run, colours, method, layer)) if curves.panels)


def _faithfulness(run: RunContents, colours: Mapping[str, str], method: str, layer: str, check: str) -> Curves:
    table = [row for row in run.tables["faithfulness_curves"] if row.get("label") == ALL and row.get("check") == check]
    at = _drawn_layer(table, method, layer)
    panels = []
    for setting in in_order(table, "setting"):
        own = [row for row in table if row["setting"] == setting]
        series: list[_Series] = [
            (words, colour, dash, _points(row for row in own if row["order"] == order))
            for order, (words, colour, dash) in _ORDERS.items()
        ]
        drawn = [row for row in own if row["order"] == "map" and (row["method"], row["layer"]) == (method, at)]
        series.append(("map", colours.get(setting, "#777"), "", _points(drawn)))
        if drawn:
            panels.append(_panel(setting, [one for one in series if one[3]]))
    title, message, across = _CAPTIONS[check]
    return Curves(check, title, f"{message} Drawn: {map_words(method, layer)}.", across, "logit", tuple(panels))


def _drawn_layer(table: Sequence[Row], method: str, layer: str) -> str:
    """The layer itself; for a method without depth the first that its curves were stored under."""
    named = in_order((row for row in table if row.get("method") == method), "layer")
    return layer if layer in named or not named else named[0]


def _points(rows: Iterable[Row]) -> list[Place]:
    found = [(number(row.get("share")), number(row.get("logit"))) for row in rows]
    return sorted(point for point in found if all(map(math.isfinite, point)))


def _panel(setting: str, series: Sequence[_Series]) -> Panel:
    values = [y for *_, points in series for _, y in points]
    low, high = _padded(min(values), max(values))
    placed = [[(_across(x), _down(y, low, high)) for x, y in points] for *_, points in series]
    keys = _free_corner(placed)
    lines = [
        Line(name, _path(points), colour, dash, key)
        for (name, colour, dash, _), points, key in zip(series, placed, keys, strict=True)
    ]
    ticks = tuple((f"{_down(y, low, high):.1f}", _short(y, high - low)) for y in (max(values), min(values)))
    return Panel(setting, tuple(lines), ticks, tuple((f"{_across(x):.1f}", f"{100 * x:.0f}%") for x in (0.0, 0.5, 1.0)))


def _randomisation(run: RunContents, colours: Mapping[str, str], method: str, layer: str) -> Curves:
    table = [r for r in run.tables["randomisation_curves"] if r.get("label") == ALL and r.get("method") == method]
    at = _drawn_layer(table, method, layer)
    table = [row for row in table if row.get("layer") == at and math.isfinite(number(row.get("similarity")))]
    panels = []
    values = [number(row.get(key)) for row in table for key in ("similarity", "low", "high")]
    low, high = _padded(min((v for v in values if math.isfinite(v)), default=0.0), 1.0)
    for setting in in_order(table, "setting"):
        own = [row for row in table if row["setting"] == setting]
        stages = [row for row in own if row.get("stage") != _OTHERS]
        others = next((number(row["similarity"]) for row in own if row.get("stage") == _OTHERS), math.nan)
        if not stages:
            continue
        places = [_across(step / len(stages)) for step in range(len(stages) + 1)]
        heights = [1.0, *(number(row["similarity"]) for row in stages)]
        own_line = [(x, _down(y, low, high)) for x, y in zip(places, heights, strict=True)]
        flat = [(_across(share), _down(others, low, high)) for share in (0.0, 1.0)] if others == others else []
        keys = _free_corner([line for line in (own_line, flat) if line])
        whiskers = tuple(
            (f"{x:.1f}", f"{_down(number(row['low']), low, high):.1f}", f"{_down(number(row['high']), low, high):.1f}")
            for x, row in zip(places[1:], stages, strict=True)
            if math.isfinite(number(row.get("low"))) and math.isfinite(number(row.get("high")))
        )
        lines = [Line("its own map", _path(own_line), colours.get(setting, "#777"), "", keys[0], whiskers)]
        if flat:
            lines.append(Line("another patient’s", _path(flat), "#7a8694", "5 3", keys[1]))
        marks = [(f"{x:.1f}", _stage(row)) for x, row in zip(places[1:], stages, strict=True)]
        ticks = tuple((f"{_down(y, low, high):.1f}", _short(y, high - low)) for y in (1.0, 0.0))
        panels.append(Panel(setting, tuple(lines), ticks, ((f"{places[0]:.1f}", "none"), *marks)))
    message = (
        "A map that shows the model must lose its likeness to itself, down to that between two patients. "
        f"Whiskers: 95 % intervals over patients. Drawn: {map_words(method, layer)}."
    )
    title = "Re-drawing the weights, from the head down."
    return Curves("randomisation", title, message, "weights re-drawn", "rank correlation", tuple(panels))


def _stage(row: Row) -> str:
    blocks = number(row.get("blocks"))
    return "all" if math.isnan(blocks) else "head" if blocks == 0 else f"+{blocks:.0f}"


def _padded(low: float, high: float) -> tuple[float, float]:
    margin = 0.06 * (high - low) or 0.5
    return low - margin, high + margin


def _across(share: float) -> float:
    return _LEFT + share * (WIDTH - _LEFT - _RIGHT)


def _down(value: float, low: float, high: float) -> float:
    return _TOP + (high - value) / (high - low) * (HEIGHT - _TOP - _BOTTOM)


def _path(points: Sequence[Place]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _free_corner(lines: Sequence[Sequence[Place]]) -> list[tuple[str, str]]:
    """Where the names of the lines stand, one below the other: in the corner through which the least of them runs."""
    tall = _APART * len(lines)
    left, right, top, bottom = _LEFT + 4, WIDTH - _RIGHT - _KEY, _TOP + 6, HEIGHT - _BOTTOM - tall - 3

    def crowded(corner: Place) -> int:
        x, y = corner
        return sum(
            x - 4 <= ax + (bx - ax) * step / 40 <= x + _KEY and y - 4 <= ay + (by - ay) * step / 40 <= y + tall + 2
            for line in lines
            for (ax, ay), (bx, by) in pairwise(line)
            for step in range(40)
        )

    x, y = min(((right, top), (right, bottom), (left, top), (left, bottom)), key=crowded)
    return [(f"{x:.1f}", f"{y + _APART * (place + 0.5):.1f}") for place in range(len(lines))]


def _short(value: float, span: float) -> str:
    return f"{value:.{2 if span >= _FINE else 3}f}".replace("-", "−")
