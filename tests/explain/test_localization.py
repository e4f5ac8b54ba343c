"""Scores against slow loops over pixels, and at their edges."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from radlens.core.regions import Box, Geometry
from radlens.explain.localization import (
    energy_in_region,
    hit_rate,
    iou_at_otsu,
    lift,
    otsu_threshold,
    score,
    unreachable_share,
)

shapes = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9)
cases = shapes.flatmap(
    lambda shape: st.tuples(
        hnp.arrays(np.float32, shape, elements=st.integers(0, 6).map(np.float32)), hnp.arrays(bool, shape)
    )
)


@settings(max_examples=150, deadline=None)
@given(cases)
def test_against_loops(case: tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]) -> None:
    saliency, region = case
    pixels = [(float(saliency[at]), bool(region[at])) for at in np.ndindex(saliency.shape)]
    inside = [value for value, is_inside in pixels if is_inside]
    if not inside:
        assert all(math.isnan(f(saliency, region)) for f in (hit_rate, energy_in_region, lift, iou_at_otsu))
        return
    top = max(value for value, _ in pixels)
    tied = [is_inside for value, is_inside in pixels if value == top]
    assert hit_rate(saliency, region) == pytest.approx(sum(tied) / len(tied))
    area, total = len(inside) / len(pixels), sum(value for value, _ in pixels)
    energy = sum(inside) / total if total else area
    assert energy_in_region(saliency, region) == pytest.approx(energy)
    assert lift(saliency, region) == pytest.approx(energy / area)
    if len({value for value, _ in pixels}) == 1:
        assert iou_at_otsu(saliency, region) == 0
        return
    threshold = slow_otsu([value for value, _ in pixels])
    both = sum(value > threshold and is_inside for value, is_inside in pixels)
    either = sum(value > threshold or is_inside for value, is_inside in pixels)
    assert iou_at_otsu(saliency, region) == pytest.approx(both / either)


def slow_otsu(values: list[float]) -> float:
    """The value whose cut 'at most' against 'above' has the greatest variance between; the lowest of ties."""
    best, where = -1.0, 0.0
    for cut in sorted(set(values))[:-1]:
        low, high = [v for v in values if v <= cut], [v for v in values if v > cut]
        between = len(low) * len(high) * (sum(low) / len(low) - sum(high) / len(high)) ** 2
        if between > best * (1 + 1e-9):
            best, where = between, cut
    return where


def test_otsu_splits_two_humps_and_is_equivariant() -> None:
    generator = np.random.default_rng(0)
    values = np.concatenate([generator.normal(1, 0.1, 700), generator.normal(3, 0.2, 300)]).astype(np.float32)
    threshold = otsu_threshold(values)
    assert abs(threshold - slow_otsu(values.tolist())) < 2 * (values.max() - values.min()) / 256
    assert otsu_threshold(values * 8 + 2) == pytest.approx(threshold * 8 + 2, rel=1e-3)
    assert otsu_threshold(np.full(4, 2.0, np.float32)) == 2.0


def test_uniform_map_has_lift_one_whatever_the_crop() -> None:
    geometry = Geometry(300, 100, 64)
    visible = geometry.visible_mask()
    region = Box(90, 10, 60, 50).mask(100, 300)
    uniform = geometry.enlarge(np.ones((4, 4), np.float32))
    scores = score(uniform, region, visible)
    assert 0 < scores.unreachable < 1
    assert scores.lift == pytest.approx(1, abs=1e-5)
    assert scores.iou == 0
    assert scores.hit == pytest.approx(scores.energy, abs=1e-5)
    assert score(uniform, region, visible, degenerate=True).energy == pytest.approx(scores.energy, abs=1e-5)


def test_degenerate_empty_and_out_of_sight() -> None:
    geometry = Geometry(300, 100, 64)
    visible = geometry.visible_mask()
    region = Box(100, 0, 50, 100).mask(100, 300)
    noise = geometry.enlarge(np.random.default_rng(0).random((4, 4), np.float32))
    flagged = score(noise, region, visible, degenerate=True)
    assert (flagged.hit, flagged.energy, flagged.lift, flagged.iou) == (0.5, 0.5, 1.0, 0.0)
    far = score(noise, Box(0, 0, 50, 100).mask(100, 300), visible)
    assert (far.hit, far.energy, far.iou, far.unreachable) == (0, 0, 0, 1) and math.isnan(far.lift)
    empty = np.zeros((100, 300), bool)
    for degenerate in (True, False):
        found = score(noise, empty, visible, degenerate=degenerate)
        assert all(math.isnan(value) for value in vars(found).values())
    assert unreachable_share(region, visible) == 0


@pytest.mark.parametrize(("width", "height"), [(384, 384), (500, 300), (301, 517), (37, 23)])
@pytest.mark.parametrize("cell", [(1, 1), (2, 1), (1, 2)])
def test_a_hot_patch_lands_where_it_was(width: int, height: int, cell: tuple[int, int]) -> None:
    geometry = Geometry(width, height, 64)
    left, top, right, bottom = geometry.visible()
    grid = np.zeros((4, 4), np.float32)
    grid[cell] = 1
    across, down = (right - left) / 4, (bottom - top) / 4
    box = Box(left + cell[1] * across, top + cell[0] * down, across, down).mask(height, width)
    enlarged = geometry.enlarge(grid)
    assert hit_rate(enlarged, box) == 1
    rows, columns = (np.arange(n) + 0.5 for n in (height, width))
    total = enlarged.sum()
    assert (enlarged.sum(0) @ columns) / total == pytest.approx(left + (cell[1] + 0.5) * across, abs=0.6)
    assert (enlarged.sum(1) @ rows) / total == pytest.approx(top + (cell[0] + 0.5) * down, abs=0.6)
