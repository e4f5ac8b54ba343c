"""Geometry against torchvision's Resize and CenterCrop, and the shapes of regions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torchvision.transforms import v2

from radlens.core.errors import DataError
from radlens.core.regions import Annotations, Box, Geometry, Mask, Region, SaliencyMaps

SIZES = [(384, 384), (2048, 2496), (2500, 2048), (301, 517), (517, 301), (225, 224), (224, 1003), (37, 23), (100, 33)]


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("size", [64, 224])
def test_sees_what_torchvision_leaves(width: int, height: int, size: int) -> None:
    geometry = Geometry(width, height, size)
    across, down = torch.meshgrid(torch.arange(width) + 0.5, torch.arange(height) + 0.5, indexing="xy")
    places = torch.stack([across, down]).double()
    resized = v2.functional.resize(places, [size], interpolation=v2.InterpolationMode.BILINEAR, antialias=True)
    assert geometry.resized == (resized.shape[2], resized.shape[1])
    cropped = v2.functional.center_crop(resized, [size, size]).numpy()
    left, top, right, bottom = geometry.visible()
    step_across, step_down = (right - left) / size, (bottom - top) / size
    centres = np.arange(size) + 0.5
    # a few pixels at the edges: the filter leans inwards there
    inner = slice(3, -3)
    np.testing.assert_allclose(cropped[0, size // 2, inner], (left + centres * step_across)[inner], atol=0.02 * width)
    middle = size // 2
    assert cropped[0, middle, middle] == pytest.approx(left + (middle + 0.5) * step_across, abs=0.05 * step_across)
    assert cropped[1, middle, middle] == pytest.approx(top + (middle + 0.5) * step_down, abs=0.05 * step_down)


def slow_enlarge(geometry: Geometry, grid: np.ndarray) -> np.ndarray:
    left, top, right, bottom = geometry.visible()
    rows, columns = grid.shape
    enlarged = np.zeros((geometry.height, geometry.width))
    for i in range(geometry.height):
        for j in range(geometry.width):
            if not (top <= i + 0.5 < bottom and left <= j + 0.5 < right):
                continue
            v = min(max((i + 0.5 - top) / (bottom - top) * rows - 0.5, 0), rows - 1)
            u = min(max((j + 0.5 - left) / (right - left) * columns - 0.5, 0), columns - 1)
            for a in range(rows):
                for b in range(columns):
                    enlarged[i, j] += max(0, 1 - abs(v - a)) * max(0, 1 - abs(u - b)) * grid[a, b]
    return enlarged


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 30),
    st.integers(1, 30),
    hnp.arrays(np.float32, st.tuples(st.integers(1, 3), st.integers(1, 3)), elements=st.floats(0, 1, width=32)),
)
def test_enlarge_against_loops(width: int, height: int, grid: np.ndarray) -> None:
    geometry = Geometry(width, height, 16)
    np.testing.assert_allclose(geometry.enlarge(grid), slow_enlarge(geometry, grid), atol=1e-5)
    assert (geometry.enlarge(np.ones((2, 2), np.float32)) > 0.5).sum() == geometry.visible_mask().sum()


def test_shapes() -> None:
    assert Box(1, 0.5, 2, 1).mask(3, 4).tolist() == [[False, True, True, False], [False] * 4, [False] * 4]
    bits = np.random.default_rng(0).random((7, 5)) > 0.5
    assert np.array_equal(Mask.pack(bits).mask(7, 5), bits)
    with pytest.raises(DataError, match="5x7 pixels does not fit an image of 7x5"):
        Mask.pack(bits).mask(5, 7)


def test_annotations() -> None:
    regions = (Region("b", "X", Box(0, 0, 1, 1)), Region("a", "Y", Box(0, 0, 1, 1)), Region("b", "X", Box(1, 1, 1, 1)))
    found = Annotations(regions, "t", {"why": 1})
    assert found.image_ids() == ("b", "a") and found.labels_of("b") == ("X",)
    assert found.mask("b", "X", 2, 2).tolist() == [[True, False], [False, True]]
    assert found.of(["a"]) == Annotations(regions[1:2], "t", {"why": 1})


def test_saliency_maps_refuse_a_wrong_shape() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        SaliencyMaps(("a",), ("x",), ("m",), ("-1",), np.zeros((1, 2, 1, 1, 3, 3), np.float16))
