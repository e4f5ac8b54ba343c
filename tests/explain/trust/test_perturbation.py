"""Orders of removal, blur and patches, against independent code."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from radlens.explain.trust.perturbation import (
    first_patches,
    gaussian_blur,
    on_pixels,
    patch_counts,
    removal_order,
    replaced,
)


@pytest.mark.parametrize("sigma", [0.8, 4.0, 16.0])
def test_blur_is_scipys_with_edges_repeated(sigma: float) -> None:
    image = torch.randn(3, 40, 33, generator=torch.Generator().manual_seed(0))
    expected = [gaussian_filter(plane, sigma, mode="nearest", truncate=3.0) for plane in image.double().numpy()]
    np.testing.assert_allclose(gaussian_blur(image, sigma).numpy(), expected, atol=1e-5)


def test_the_highest_patch_goes_first_and_a_draw_decides_between_equals() -> None:
    saliency = np.array([[0.0, 0.9, 0.0], [0.5, 0.0, 0.0]], np.float16)
    firsts = []
    for seed in range(40):
        draw = np.random.default_rng(seed).permutation(6)
        order = removal_order(saliency, draw)
        assert order[:2].tolist() == [1, 3]
        assert sorted(order) == list(range(6))
        firsts.append(order[2])
    assert set(firsts) == {0, 2, 4, 5}


@given(st.integers(2, 300), st.integers(2, 40))
def test_counts_go_from_none_to_all_in_even_steps(patches: int, steps: int) -> None:
    if steps > patches:
        with pytest.raises(ValueError, match=f"expected 2 to {patches} steps"):
            patch_counts(patches, steps)
        return
    counts = patch_counts(patches, steps)
    assert counts[0] == 0
    assert counts[-1] == patches
    assert np.abs(np.diff(counts) - patches / steps).max() < 1
    assert np.diff(counts).min() >= 1


def test_first_patches_are_those_of_the_order() -> None:
    order = np.array([4, 0, 3, 1, 2])
    chosen = first_patches(order, np.array([0, 1, 3, 5]))
    assert [set(np.flatnonzero(row)) for row in chosen] == [set(), {4}, {4, 0, 3}, {0, 1, 2, 3, 4}]


def test_a_patch_covers_its_pixels_and_only_they_are_replaced() -> None:
    patches = torch.zeros(2, 6, dtype=torch.bool)
    patches[0, 4] = patches[1, 0] = True
    removed = on_pixels(patches, (2, 3), 8, 15)
    expected = np.zeros((2, 8, 15), bool)
    expected[0, 4:8, 5:10] = True
    expected[1, 0:4, 0:5] = True
    np.testing.assert_array_equal(removed.numpy(), expected)
    image, fill = torch.zeros(3, 8, 15), torch.ones(3, 8, 15)
    np.testing.assert_array_equal(replaced(image, fill, removed).numpy(), np.stack([expected] * 3, axis=1))
