"""Shapes as masks, against a slow loop and matplotlib; what a reader looked for and did not find."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.path import Path as Outline

from radlens.core.regions import Annotations, Box, Point, Polygon, Region

PLACES = st.one_of(st.floats(-3, 15, width=32), st.integers(-6, 30).map(lambda n: n / 2))
CORNERS = st.lists(st.tuples(PLACES, PLACES), min_size=3, max_size=7)


def slow_mask(points: list[tuple[float, float]], height: int, width: int) -> np.ndarray:
    """Even-odd rule, pixel by pixel: crossings of a ray to the left of the pixel's centre."""
    mask = np.zeros((height, width), bool)
    for row in range(height):
        for column in range(width):
            x, y, crossings = column + 0.5, row + 0.5, 0
            for (ax, ay), (bx, by) in zip(points, [*points[1:], points[0]], strict=True):
                if (ay <= y) != (by <= y) and ax + (y - ay) / (by - ay) * (bx - ax) <= x:
                    crossings += 1
            mask[row, column] = crossings % 2
    return mask


@settings(max_examples=150, deadline=None)
@given(CORNERS, st.integers(1, 13), st.integers(1, 13))
def test_polygon_against_a_loop(points: list[tuple[float, float]], height: int, width: int) -> None:
    assert np.array_equal(Polygon(tuple(points)).mask(height, width), slow_mask(points, height, width))


@settings(max_examples=100, deadline=None)
@given(PLACES, PLACES, st.integers(0, 20), st.integers(0, 20), st.booleans())
def test_an_upright_rectangle_is_the_box(x: float, y: float, across: int, down: int, backwards: bool) -> None:
    width, height = across / 2, down / 2
    corners = ((x, y), (x + width, y), (x + width, y + height), (x, y + height))
    polygon = Polygon(corners[::-1] if backwards else corners)
    assert np.array_equal(polygon.mask(12, 11), Box(x, y, width, height).mask(12, 11))


def test_polygon_against_matplotlib_away_from_the_outline() -> None:
    generator = np.random.default_rng(0)
    for _ in range(20):
        angles = np.sort(generator.uniform(0, 2 * np.pi, 30))
        radii = generator.uniform(10, 45, 30)
        points = np.stack([50 + radii * np.cos(angles), 40 + radii * np.sin(angles)], axis=1)
        mask = Polygon(tuple(map(tuple, points.tolist()))).mask(80, 100)
        rows, columns = np.mgrid[:80, :100] + 0.5
        centres = np.stack([columns.ravel(), rows.ravel()], axis=1)
        expected = Outline(points).contains_points(centres).reshape(80, 100)
        assert mask.sum() > 500 and (mask != expected).sum() <= 2


def test_polygons_that_share_an_edge_share_no_pixel() -> None:
    one, other = Polygon(((0, 0), (10, 0), (0, 10))), Polygon(((10, 0), (10, 10), (0, 10)))
    both = one.mask(10, 10).astype(int) + other.mask(10, 10)
    assert (both == 1).all()


def test_point_is_the_pixel_that_it_lies_in() -> None:
    assert np.argwhere(Point(2.9, 1.0).mask(3, 4)).tolist() == [[1, 2]]
    assert np.argwhere(Point(4, 3).mask(3, 4)).tolist() == [[2, 3]]
    assert not Point(-0.1, 1).mask(3, 4).any() and not Point(1, 3.1).mask(3, 4).any()


def test_not_found_is_not_the_same_as_not_annotated() -> None:
    regions = (Region("a", "X", Box(0, 0, 1, 1), "r1"), Region("a", "X", Box(1, 0, 1, 1), "r2"))
    examined = {("a", "r1"): frozenset({"X", "Y"}), ("b", "r3"): frozenset({"X"})}
    found = Annotations(regions, "t", {}, examined, ("z",))
    assert found.presence("a", "X", "r1") is True and found.presence("a", "X", "r2") is True
    assert found.presence("a", "Y", "r1") is False and found.presence("b", "X", "r3") is False
    assert found.presence("a", "Y", "r2") is None and found.presence("c", "X", "r1") is None
    assert found.readers() == ("r1", "r2", "r3")
    assert found.mask("a", "X", 1, 2, reader="r2").tolist() == [[False, True]]
    assert found.mask("a", "X", 1, 2).all()
    assert found.shapes("a", "X", "r1") == (Box(0, 0, 1, 1),)
    assert found.of(["b"]) == Annotations((), "t", {}, {("b", "r3"): frozenset({"X"})}, ("z",))


def test_a_polygon_needs_no_more_than_its_part_of_the_image() -> None:
    mask = Polygon(((100.0, 100.0), (110.0, 100.0), (105.0, 112.0))).mask(4000, 4000)
    assert mask.shape == (4000, 4000) and mask.sum() == mask[100:112, 100:110].sum() > 0
    with pytest.raises(ValueError, match="unpack"):
        Polygon(()).mask(2, 2)
