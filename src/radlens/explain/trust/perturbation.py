"""Removing patches from a model's input: in which order, how many a step, and a blurred copy to fill with."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import conv1d, pad

Order = npt.NDArray[np.intp]
Patches = npt.NDArray[np.bool_]
# a Gaussian holds 0.3 % of its weight beyond three standard deviations
_REACH = 3.0


def gaussian_blur(pixels: Tensor, sigma: float) -> Tensor:
    """(..., H, W) blurred by a Gaussian of standard deviation `sigma` pixels, cut at 3 sigma; edges are repeated."""
    reach = int(_REACH * sigma + 0.5)
    at = torch.arange(-reach, reach + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (at / sigma) ** 2)
    kernel = (weights / weights.sum()).to(pixels)[None, None]
    blurred = pixels
    for _ in range(2):
        # along the rows, then along the columns
        lines = blurred.reshape(-1, 1, blurred.shape[-1])
        found = conv1d(pad(lines, (reach, reach), mode="replicate"), kernel)
        blurred = found.reshape(blurred.shape).transpose(-1, -2)
    return blurred.contiguous()


def removal_order(saliency: npt.NDArray[np.floating], draw: npt.NDArray[np.integer]) -> Order:
    """Patches of a map (rows, columns) from the highest value to the lowest, (P,).

    draw: a permutation of P that decides between equal values, as position would favour one side of the image.
    """
    return np.lexsort((draw, -saliency.ravel().astype(np.float64)))


def patch_counts(patches: int, steps: int) -> npt.NDArray[np.intp]:
    """How many patches are gone after 0, 1, ..., `steps` steps, (steps + 1,): from none to all, evenly, rounded.

    Raises `ValueError` unless 2 <= steps <= patches.
    """
    if not 2 <= steps <= patches:
        raise ValueError(f"expected 2 to {patches} steps for {patches} patches, found {steps}.")
    return np.floor(np.arange(steps + 1) * patches / steps + 0.5).astype(np.intp)


def first_patches(order: Order, counts: npt.NDArray[np.intp]) -> Patches:
    """(len(counts), P): the first `counts[j]` patches of an order."""
    place = np.empty(len(order), np.intp)
    place[order] = np.arange(len(order))
    chosen: Patches = place[None, :] < counts[:, None]
    return chosen


def on_pixels(patches: Tensor, grid: tuple[int, int], height: int, width: int) -> Tensor:
    """Patches (B, P), boolean, to the pixels that they cover, (B, height, width)."""
    rows, columns = grid
    down = torch.arange(height, device=patches.device) * rows // height
    across = torch.arange(width, device=patches.device) * columns // width
    return patches.reshape(-1, rows, columns)[:, down][:, :, across]


def replaced(image: Tensor, fill: Tensor, removed: Tensor) -> Tensor:
    """An image (3, H, W) with the pixels `removed` (B, H, W) taken from `fill` (3, H, W): (B, 3, H, W)."""
    return torch.where(removed[:, None], fill[None], image[None])
