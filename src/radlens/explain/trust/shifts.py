"""Images moved by a few pixels, and their maps moved back."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from radlens.explain.trust.targets import images_of

Shift = tuple[int, int]
"""Pixels of the model's input that an image moves down and to the right; negative: up and to the left."""
Maps = npt.NDArray[np.float32]


def half_a_patch(patch: int) -> tuple[Shift, ...]:
    """Down, up, right and left by half the side of a patch, at least one pixel."""
    half = max(patch // 2, 1)
    return ((half, 0), (-half, 0), (0, half), (0, -half))


def shifted(image: Tensor, shift: Shift) -> Tensor:
    """(..., H, W) moved by `shift`; what moves in at an edge repeats it."""
    moved = image
    for axis, by in ((-2, shift[0]), (-1, shift[1])):
        at = (torch.arange(image.shape[axis], device=image.device) - by).clamp(0, image.shape[axis] - 1)
        moved = moved.index_select(axis, at)
    return moved


def with_shifts(
    pixels: Iterable[Tensor | npt.NDArray[np.float32]],
    image_ids: Sequence[str],
    wanted: Collection[str],
    shifts: Sequence[Shift],
) -> Iterator[Tensor]:
    """Each wanted image with its shifted copies after it, (1 + shifts, 3, H, W)."""
    for image_id, image in images_of(pixels, image_ids):
        if image_id in wanted:
            yield torch.stack([image, *(shifted(image, shift) for shift in shifts)])


def enlarged(grids: npt.NDArray[np.floating], side: int) -> Maps:
    """Maps (K, rows, columns) to (K, side, side), bilinear between the centres of patches, edges clamped."""
    maps = torch.from_numpy(grids.astype(np.float32))[None]
    found: Maps = interpolate(maps, (side, side), mode="bilinear", align_corners=False)[0].numpy()
    return found


def overlap(still: Maps, moved: Maps, shift: Shift, stride: int) -> tuple[Maps, Maps]:
    """The same places of an image in its map and in that of its shifted copy, each (K, points), every `stride` pixels.

    still, moved: (K, H, W). Places that the shift took out of the image are left aside.
    """
    here, there = [slice(None)], [slice(None)]
    for by, length in zip(shift, still.shape[1:], strict=True):
        start, stop = max(0, -by), length - max(0, by)
        here.append(slice(start + stride // 2, stop, stride))
        there.append(slice(start + stride // 2 + by, stop + by, stride))
    count = len(still)
    return still[tuple(here)].reshape(count, -1), moved[tuple(there)].reshape(count, -1)
