"""The transform is open_clip's, to the bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.transform import image_transform
from PIL import Image

from radlens.core.transform import ImageTransform

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 300), st.integers(1, 300), st.sampled_from([(), (3,)]), st.sampled_from(["bicubic", "bilinear"]),
    st.integers(0, 2**31),
)  # fmt: skip
def test_equal_to_open_clip_on_odd_sizes(
    height: int, width: int, channels: tuple[int, ...], interpolation: str, seed: int
) -> None:
    size = 32
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, *channels), np.uint8)
    theirs = image_transform(size, False, MEAN, STD, interpolation=interpolation)(Image.fromarray(pixels))
    ours = ImageTransform(size, MEAN, STD, interpolation)(pixels)
    np.testing.assert_array_equal(ours, theirs.numpy())
    assert ours.flags.c_contiguous


def test_more_than_eight_bits_are_refused() -> None:
    with pytest.raises(ValueError, match="expected 8-bit pixels, found uint16"):
        ImageTransform(8, MEAN, STD)(np.zeros((9, 9), np.uint16))
