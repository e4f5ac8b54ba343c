"""Rank correlation and SSIM of many pairs against scipy, a slow loop, and scikit-image where it is installed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import spearmanr
from skimage.metrics import structural_similarity as scikit_image_ssim

from radlens.explain.alike import prepare, rank_correlation, structural_similarity

A, B = np.array([0, 0, 1, 2]), np.array([1, 2, 2, 2])


def drawn(rows: int, columns: int, images: int = 3, seed: int = 0) -> Any:
    """Maps (images, 3, rows, columns) with many zeros, as ReLU leaves them, in half precision."""
    raw = np.maximum(np.random.default_rng(seed).normal(size=(images, 3, rows, columns)), 0)
    return (raw / raw.max(axis=(-1, -2), keepdims=True)).astype(np.float16)


def slow_ssim(one: Any, other: Any, side: int) -> float:
    found = []
    for top in range(one.shape[0] - side + 1):
        for left in range(one.shape[1] - side + 1):
            x, y = (grid[top : top + side, left : left + side].astype(float).ravel() for grid in (one, other))
            (v, c), (_, w) = np.cov(x, y)
            m, n = x.mean(), y.mean()
            found.append((2 * m * n + 1e-4) * (2 * c + 9e-4) / ((m * m + n * n + 1e-4) * (v + w + 9e-4)))
    return float(np.mean(found))


@pytest.mark.parametrize(("rows", "columns"), [(14, 14), (7, 9), (24, 24)])
def test_rank_correlation_is_scipys(rows: int, columns: int) -> None:
    maps = drawn(rows, columns)
    prepared = prepare(maps)
    found = rank_correlation(prepared, prepared, A, B)
    for image in range(len(maps)):
        for pair, (a, b) in enumerate(zip(A, B, strict=True)):
            expected = spearmanr(maps[image, a].ravel(), maps[image, b].ravel()).statistic
            assert found[image, pair] == pytest.approx(expected, abs=1e-6)
    assert (found[:, 3] == 1).all()


@pytest.mark.parametrize(("rows", "columns", "side"), [(14, 14, 7), (7, 7, 7), (10, 6, 5), (4, 4, 3)])
def test_ssim_is_that_of_a_slow_loop(rows: int, columns: int, side: int) -> None:
    maps, others = drawn(rows, columns), drawn(rows, columns, seed=1)
    found = structural_similarity(prepare(maps), prepare(others), A, B)
    for image in range(len(maps)):
        for pair, (a, b) in enumerate(zip(A, B, strict=True)):
            assert found[image, pair] == pytest.approx(slow_ssim(maps[image, a], others[image, b], side), abs=2e-6)
    prepared = prepare(maps)
    assert (structural_similarity(prepared, prepared, A, B)[:, 3] == 1).all()


def test_ssim_is_scikit_images() -> None:
    maps = drawn(14, 14)
    prepared = prepare(maps)
    found = structural_similarity(prepared, prepared, A, B)
    for image in range(len(maps)):
        for pair, (a, b) in enumerate(zip(A, B, strict=True)):
            one, other = (maps[image, k].astype(float) for k in (a, b))
            expected = scikit_image_ssim(one, other, win_size=7, data_range=1.0)
            assert found[image, pair] == pytest.approx(expected, abs=2e-6)


def test_chunks_and_chosen_images_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = prepare(drawn(14, 14))
    turned = prepared.of_images(np.array([2, 0]))
    for measure in (rank_correlation, structural_similarity):
        whole = measure(prepared, prepared, A, B)
        np.testing.assert_array_equal(measure(turned, turned, A, B), whole[[2, 0]])
        with monkeypatch.context() as patch:
            patch.setattr("radlens.explain.alike._PRODUCTS", 1)
            np.testing.assert_allclose(measure(prepared, prepared, A, B), whole, atol=2e-6)


def test_constant_and_unusable_maps_are_undefined() -> None:
    maps = drawn(14, 14)
    maps[0, 0] = 0
    maps[1, 1] = 1
    unusable = np.zeros((3, 3), bool)
    unusable[2, 2] = True
    prepared = prepare(maps, unusable)
    for measure in (rank_correlation, structural_similarity):
        found = measure(prepared, prepared, A, B)
        expected = [[True, True, False, False], [True, False, True, False], [False, True, True, True]]
        assert np.isnan(found).tolist() == expected


@settings(max_examples=40, deadline=None)
@given(arrays(np.float16, (1, 2, 5, 5), elements=st.sampled_from([0.0, 0.25, 0.5, 1.0])))
def test_bounds_symmetry_and_ties(maps: Any) -> None:
    prepared = prepare(maps)
    forth, back = np.array([0]), np.array([1])
    for measure in (rank_correlation, structural_similarity):
        one, other = float(measure(prepared, prepared, forth, back)[0, 0]), measure(prepared, prepared, back, forth)
        if math.isnan(one):
            assert min(np.ptp(maps[0, 0]), np.ptp(maps[0, 1])) == 0
        else:
            assert -1 <= one <= 1 and one == pytest.approx(float(other[0, 0]), abs=2e-6)
