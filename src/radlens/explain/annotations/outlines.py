"""Outlines of what annotation tools draw beside polygons: turned boxes and ellipses."""

from __future__ import annotations

import math

from radlens.core.regions import Polygon

# the outline of so many corners encloses 0.2 % less than its ellipse
_CORNERS = 64


def ellipse(x: float, y: float, across: float, down: float, degrees: float = 0.0) -> Polygon:
    """An ellipse around (x, y) with half axes `across` and `down`, turned clockwise, as a polygon of 64 corners."""
    steps = (2 * math.pi * step / _CORNERS for step in range(_CORNERS))
    corners = [(x + across * math.cos(angle), y + down * math.sin(angle)) for angle in steps]
    return Polygon(turned(corners, (x, y), degrees))


def rectangle(x: float, y: float, width: float, height: float, about: tuple[float, float], degrees: float) -> Polygon:
    """A box (left, top, width, height) turned clockwise by degrees about a place."""
    corners = [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]
    return Polygon(turned(corners, about, degrees))


def turned(
    corners: list[tuple[float, float]], about: tuple[float, float], degrees: float
) -> tuple[tuple[float, float], ...]:
    """Corners turned clockwise (as seen with y downwards) by degrees about a place."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    steps = ((x - about[0], y - about[1]) for x, y in corners)
    return tuple((about[0] + cosine * x - sine * y, about[1] + sine * x + cosine * y) for x, y in steps)
