"""Scores without enlarging against the definitions, pixel by pixel on enlarged maps."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radlens.core.regions import Box, Geometry, Mask, Point, Polygon
from radlens.core.shapes import Shape
from radlens.explain.lattice import lattice, weights
from radlens.explain.localization import SCORES, area_share, iou_above, scores, unreachable_share
from radlens.explain.region_pixels import region_pixels
from radlens.explain.sampled_region import sampled_region
from radlens.explain.sampled_scores import iou_at_shares, score_maps

Grid = npt.NDArray[np.float32]


def enlarged(grid: npt.NDArray[np.floating], geometry: Geometry) -> Grid:
    """What `Geometry.enlarge` does, by numpy's own interpolation in double precision."""
    left, top, right, bottom = geometry.visible()
    for axis, (length, start, stop) in enumerate(((geometry.height, top, bottom), (geometry.width, left, right))):
        cells = grid.shape[axis]
        centres, at = (np.arange(cells) + 0.5) / cells * (stop - start) + start, np.arange(length) + 0.5
        inside = (at >= start) & (at < stop)
        grid = np.apply_along_axis(lambda line, a=at, c=centres, i=inside: np.interp(a, c, line) * i, axis, grid)
    return grid.astype(np.float32)


def union(shapes: list[Shape], geometry: Geometry) -> npt.NDArray[np.bool_]:
    masks = [shape.mask(geometry.height, geometry.width) for shape in shapes]
    return np.logical_or.reduce([*masks, np.zeros((geometry.height, geometry.width), bool)])


def shapes_of(generator: np.random.Generator, geometry: Geometry, kind: str) -> list[Shape]:
    size = np.array([geometry.width, geometry.height])
    found: list[Shape] = []
    for _ in range(generator.integers(1, 4)):
        middle, extent = generator.uniform(0, 1, 2) * size, generator.uniform(0.05, 0.4, 2) * size
        if kind == "boxes" or (kind == "mixed" and generator.random() < 0.5):
            found.append(Box(*(middle - extent / 2), *extent))
        else:
            angles = np.sort(generator.uniform(0, 2 * np.pi, 7))
            corners = middle + extent / 2 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
            found.append(Polygon(tuple((float(x), float(y)) for x, y in corners)))
    if kind == "mask":
        return [Mask.pack(union(found, geometry))]
    return [*found, Point(*(size * 0.3))] if kind == "mixed" else found


@pytest.mark.parametrize(("width", "height"), [(50, 50), (64, 40), (33, 64), (20, 60), (5, 9), (2, 1)])
@pytest.mark.parametrize("kind", ["boxes", "polygons", "mask", "mixed"])
def test_exact_where_the_film_is_no_larger_than_the_lattice(width: int, height: int, kind: str) -> None:
    generator = np.random.default_rng(width * height)
    geometry = Geometry(width, height, 64)
    visible = geometry.visible_mask()
    for turn in range(12):
        shapes = shapes_of(generator, geometry, kind)
        region = union(shapes, geometry)
        # few values, so that ties are plenty; a map of one value now and then
        grids = generator.integers(0, (turn % 4) + 1, (3, 4, 4)).astype(np.float16) / np.float16(4)
        shares = np.array([0.5, float("nan"), 0.3])
        sampled = sampled_region(region_pixels(shapes, height, width), geometry, (4, 4))
        found = score_maps(grids, sampled, np.array([False, False, turn == 5]), shares)
        assert sampled.area == region.sum()
        for at, grid in enumerate(grids):
            degenerate = at == 2 and turn == 5
            slow = scores(enlarged(grid, geometry), region, visible, degenerate=degenerate, share=float(shares[at]))
            assert dict(zip(SCORES, found[at], strict=True)) == pytest.approx(slow, abs=2e-5, nan_ok=True)
        assert sampled.unreachable_share == pytest.approx(unreachable_share(region, visible), nan_ok=True)
        assert sampled.area_share == pytest.approx(area_share(region, visible), nan_ok=True)


def smooth(generator: np.random.Generator, kind: int) -> Grid:
    down, across = np.mgrid[:14, :14]
    hill = np.exp(-((down - generator.uniform(2, 11)) ** 2 + (across - generator.uniform(2, 11)) ** 2) / 8)
    noise = generator.standard_normal((14, 14))
    grid = np.maximum((noise, hill + 0.1 * noise, hill**3)[kind], 0)
    return (grid / grid.max()).astype(np.float16)


@pytest.mark.parametrize(("width", "height"), [(768, 768), (640, 820)])
def test_near_the_definitions_on_larger_films(width: int, height: int) -> None:
    generator = np.random.default_rng(0)
    geometry = Geometry(width, height, 224)
    visible = geometry.visible_mask()
    errors = []
    for turn in range(9):
        shapes = shapes_of(generator, geometry, ("boxes", "polygons", "mask")[turn // 3])
        grid = smooth(generator, turn % 3)
        sampled = sampled_region(region_pixels(shapes, height, width), geometry, (14, 14))
        found = score_maps(grid[None], sampled, shares=np.array([0.4]))[0]
        slow = scores(enlarged(grid, geometry), union(shapes, geometry), visible, share=0.4)
        errors.append(np.abs(found - list(slow.values())))
    worst, mean = np.max(errors, axis=0), np.mean(errors, axis=0)
    assert (worst < 0.005).all() and (mean < 0.0007).all()
    # hit, energy and lift are not sampled at all
    assert (worst[:3] < 2e-5).all()


def test_enlarging_is_that_of_the_geometry() -> None:
    for geometry in (Geometry(70, 50, 64), Geometry(31, 90, 64)):
        left, top, right, bottom = geometry.visible()
        grid = np.random.default_rng(1).random((4, 5)).astype(np.float32)
        rows, columns = weights(geometry.height, top, bottom, 4), weights(geometry.width, left, right, 5)
        assert np.allclose(rows @ grid @ columns.T, geometry.enlarge(grid), atol=1e-6)
        assert np.allclose(enlarged(grid, geometry), geometry.enlarge(grid), atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["boxes", "polygons", "mask", "mixed"]))
def test_a_region_is_counted_and_summed_as_its_mask(seed: int, kind: str) -> None:
    generator = np.random.default_rng(seed)
    geometry = Geometry(int(generator.integers(1, 90)), int(generator.integers(1, 90)), 64)
    shapes = shapes_of(generator, geometry, kind)
    mask = union(shapes, geometry)
    pixels = region_pixels(shapes, geometry.height, geometry.width)
    rows = np.sort(generator.integers(0, geometry.height + 1, 6))
    columns = np.sort(generator.integers(0, geometry.width + 1, 4))
    counts = [[mask[a:b, c:d].sum() for c, d in pairwise(columns)] for a, b in pairwise(rows)]
    assert np.array_equal(pixels.counts(rows, columns), counts) and pixels.area == mask.sum()
    film = lattice(geometry, (3, 4))
    left, top, right, bottom = geometry.visible()
    down, across = weights(geometry.height, top, bottom, 3), weights(geometry.width, left, right, 4)
    assert np.allclose(pixels.sums(film.rows.sums, film.columns.sums), down.T @ mask @ across, rtol=1e-5, atol=1e-5)


def test_stretches_of_more_rows_than_a_byte_holds() -> None:
    mask = np.random.default_rng(0).random((700, 30)) < 0.9
    pixels = region_pixels([Mask.pack(mask)], 700, 30)
    assert np.array_equal(
        pixels.counts(np.array([0, 600, 700]), np.array([0, 30])).ravel(), [mask[:600].sum(), mask[600:].sum()]
    )


@pytest.mark.parametrize("size", [(2048, 2496), (3000, 2000)])
def test_cells_hold_every_pixel_once(size: tuple[int, int]) -> None:
    geometry = Geometry(*size, 224)
    film = lattice(geometry, (14, 14))
    visible = geometry.visible_mask()
    assert film.seen == visible.sum()
    for axis, length in ((film.rows, visible.any(axis=1).sum()), (film.columns, visible.any(axis=0).sum())):
        assert len(axis.edges) == 14 * 16 + 1 and np.diff(axis.edges).min() > 0
        for first in (0, 700, 1500):
            edges = axis.cells(first, first + 300)
            assert np.diff(edges).sum() == length and np.diff(edges).min() > 0
            near = edges[(edges > first) & (edges < first + 300)]
            assert np.array_equal(near, axis.edges[(axis.edges > first) & (axis.edges < first + 300)])
        assert np.array_equal(np.unique(axis.spans), np.unique(axis.spans.clip(axis.edges[0], axis.edges[-1])))


def test_plateaus_share_their_hit() -> None:
    geometry = Geometry(500, 400, 64)
    grid = np.zeros((4, 4), np.float32)
    grid[0, 0] = grid[0, 1] = grid[3, 3] = 1  # a plateau at the corner, an edge between two, another corner
    for shapes in ([Box(0, 0, 250, 200)], [Box(60, 0, 100, 40)], [Box(400, 300, 100, 100)], [Box(440, 390, 9, 9)]):
        region = region_pixels(shapes, 400, 500)
        found = score_maps(grid[None], sampled_region(region, geometry, (4, 4)))[0, 0]
        slow = scores(enlarged(grid, geometry), union(list(shapes), geometry), geometry.visible_mask())["hit_rate"]
        assert found == pytest.approx(slow, abs=1e-4) and 0 < found < 1


def test_overlap_at_shares_of_the_maximum() -> None:
    geometry = Geometry(60, 60, 64)
    shapes: list[Shape] = [Box(10, 12, 25, 20)]
    grids = np.stack([smooth(np.random.default_rng(2), 1)[:4, 3:7] + 0.05, np.full((4, 4), 0.3)]).astype(np.float32)
    shares = np.array([0.1, 0.5, 0.9])
    found = iou_at_shares(grids, sampled_region(region_pixels(shapes, 60, 60), geometry, (4, 4)), shares)
    big = enlarged(grids[0], geometry)
    assert found[0] == pytest.approx([iou_above(big, union(shapes, geometry), s * big.max()) for s in shares], abs=1e-6)
    assert found[0].max() > 0 and np.array_equal(found[1], [0, 0, 0])
    nowhere = sampled_region(region_pixels([Box(3.6, 3.6, 0.2, 0.2)], 60, 60), geometry, (4, 4))
    assert np.isnan(iou_at_shares(grids, nowhere, shares)).all() and np.isnan(score_maps(grids, nowhere)).all()
    assert math.isnan(nowhere.area_share)
