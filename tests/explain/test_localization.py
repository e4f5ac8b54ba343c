"""Scores against scikit-learn and slow loops over pixels, and at their edges."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import average_precision_score, f1_score, jaccard_score, roc_auc_score

from radlens.core.regions import Box, Geometry
from radlens.explain.localization import (
    SCORES,
    best_threshold,
    contrast_to_noise,
    dice_above,
    dice_at_otsu,
    energy_in_region,
    hit_rate,
    iou_above,
    iou_at_otsu,
    lift,
    otsu_threshold,
    pixel_auroc,
    pixel_average_precision,
    scores,
    unreachable_share,
)

shapes = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9)
cases = shapes.flatmap(
    lambda shape: st.tuples(
        hnp.arrays(np.float32, shape, elements=st.integers(0, 6).map(np.float32)), hnp.arrays(bool, shape)
    )
)
Case = tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]


@settings(max_examples=150, deadline=None)
@given(cases)
def test_against_loops(case: Case) -> None:
    saliency, region = case
    pixels = [(float(saliency[at]), bool(region[at])) for at in np.ndindex(saliency.shape)]
    inside = [value for value, is_inside in pixels if is_inside]
    if not inside:
        assert all(math.isnan(f(saliency, region)) for f in (hit_rate, energy_in_region, lift, iou_at_otsu))
        assert all(math.isnan(f(saliency, region)) for f in (dice_at_otsu, best_threshold, contrast_to_noise))
        return
    top = max(value for value, _ in pixels)
    tied = [is_inside for value, is_inside in pixels if value == top]
    assert hit_rate(saliency, region) == pytest.approx(sum(tied) / len(tied))
    area, total = len(inside) / len(pixels), sum(value for value, _ in pixels)
    energy = sum(inside) / total if total else area
    assert energy_in_region(saliency, region) == pytest.approx(energy)
    assert lift(saliency, region) == pytest.approx(energy / area)
    if len({value for value, _ in pixels}) == 1:
        assert iou_at_otsu(saliency, region) == dice_at_otsu(saliency, region) == 0
        return
    threshold = slow_otsu([value for value, _ in pixels])
    both = sum(value > threshold and is_inside for value, is_inside in pixels)
    either = sum(value > threshold or is_inside for value, is_inside in pixels)
    assert iou_at_otsu(saliency, region) == pytest.approx(both / either)
    assert dice_at_otsu(saliency, region) == pytest.approx(2 * both / (both + either))


def slow_otsu(values: list[float]) -> float:
    """The value whose cut 'at most' against 'above' has the greatest variance between; the lowest of ties."""
    best, where = -1.0, 0.0
    for cut in sorted(set(values))[:-1]:
        low, high = [v for v in values if v <= cut], [v for v in values if v > cut]
        between = len(low) * len(high) * (sum(low) / len(low) - sum(high) / len(high)) ** 2
        if between > best * (1 + 1e-9):
            best, where = between, cut
    return where


@settings(max_examples=100, deadline=None)
@given(cases)
def test_ranks_and_overlaps_against_scikit_learn(case: Case) -> None:
    saliency, region = case
    truth, values = region.ravel(), saliency.ravel()
    if truth.any() and not truth.all():
        assert pixel_auroc(saliency, region) == pytest.approx(roc_auc_score(truth, values))
        assert pixel_average_precision(saliency, region) == pytest.approx(average_precision_score(truth, values))
    else:
        assert math.isnan(pixel_auroc(saliency, region)) and math.isnan(contrast_to_noise(saliency, region))
        assert math.isnan(pixel_average_precision(saliency, region)) == (not truth.any())
    if not truth.any() or len(set(values)) == 1:
        return
    cuts = [-1.0, *set(values)]
    overlaps = []
    for cut in cuts:
        above = values > cut
        overlaps.append(jaccard_score(truth, above))
        assert iou_above(saliency, region, cut) == pytest.approx(overlaps[-1])
        assert dice_above(saliency, region, cut) == pytest.approx(f1_score(truth, above))
    best = best_threshold(saliency, region)
    assert iou_above(saliency, region, best) == pytest.approx(max(overlaps))


def test_contrast_to_noise_by_hand() -> None:
    saliency = np.array([[4, 2, 1, 1], [0, 0, 1, 1]], np.float32)
    region = np.zeros((2, 4), bool)
    region[0, :2] = True
    inside, outside = [4.0, 2.0], [1.0, 1.0, 0.0, 0.0, 1.0, 1.0]
    mean_in, mean_out = sum(inside) / 2, sum(outside) / 6
    noise = sum((v - mean_in) ** 2 for v in inside) / 2 + sum((v - mean_out) ** 2 for v in outside) / 6
    found = contrast_to_noise(saliency, region)
    assert found == pytest.approx((mean_in - mean_out) / math.sqrt(noise))
    assert contrast_to_noise(saliency, ~region) == pytest.approx(-found)
    assert contrast_to_noise(np.ones((2, 4), np.float32), region) == 0
    # a map that is the region has contrast and no noise at all
    assert math.isnan(contrast_to_noise(region.astype(np.float32), region))


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
    found = scores(uniform, region, visible)
    assert 0 < unreachable_share(region, visible) < 1
    assert found["lift"] == pytest.approx(1, abs=1e-5) and found["iou"] == found["dice_oracle"] == 0
    assert found["pixel_auroc"] == 0.5 and found["contrast_to_noise"] == 0 and math.isnan(found["iou_tuned"])
    assert found["hit_rate"] == found["energy_in_region"] == pytest.approx(found["pixel_average_precision"])
    flagged = scores(uniform * 0 + visible * 0.5, region, visible, degenerate=True, share=0.5)
    assert flagged["energy_in_region"] == found["energy_in_region"] and flagged["iou_tuned"] == 0


def test_degenerate_empty_and_out_of_sight() -> None:
    geometry = Geometry(300, 100, 64)
    visible = geometry.visible_mask()
    region = Box(100, 0, 50, 100).mask(100, 300)
    noise = geometry.enlarge(np.random.default_rng(0).random((4, 4), np.float32))
    flagged = scores(noise, region, visible, degenerate=True, share=0.3)
    expected = (0.5, 0.5, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.5, 0.5, 0.0)
    assert tuple(flagged.values()) == pytest.approx(expected) and tuple(flagged) == SCORES
    outside = Box(0, 0, 50, 100).mask(100, 300)
    far = scores(noise, outside, visible, share=0.3)
    assert all(far[name] == 0 for name in (*SCORES[:2], *SCORES[3:9])) and unreachable_share(outside, visible) == 1
    assert all(math.isnan(far[name]) for name in ("lift", *SCORES[9:]))
    empty = np.zeros((100, 300), bool)
    for degenerate in (True, False):
        assert all(math.isnan(value) for value in scores(noise, empty, visible, degenerate=degenerate).values())
    assert unreachable_share(region, visible) == 0 and math.isnan(unreachable_share(empty, visible))


def test_what_the_crop_removed_counts_as_missed_but_is_not_ranked() -> None:
    geometry = Geometry(200, 100, 64)
    visible = geometry.visible_mask()
    region = Box(0, 0, 100, 100).mask(100, 200)  # half of it seen
    grid = np.zeros((4, 4), np.float32)
    grid[:, :2] = 1
    saliency = geometry.enlarge(grid)
    found = scores(saliency, region, visible, share=0.5)
    assert found["iou_tuned"] == pytest.approx(0.5, abs=0.02) and found["dice_oracle"] == pytest.approx(2 / 3, abs=0.02)
    assert found["pixel_auroc"] == 1 and found["pixel_average_precision"] == 1


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
