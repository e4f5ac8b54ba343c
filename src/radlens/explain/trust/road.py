"""ROAD's fill: removed pixels become what their neighbours lead one to expect, plus a little noise.

Rong et al., A consistent and efficient evaluation strategy for attribution methods, ICML 2022, section 4: a removed
pixel is the weighted mean of its eight neighbours (1/6 beside it, 1/12 across the corner), removed neighbours unknown
too: one sparse linear system an image. A blurred or grey patch shows where something was taken away; this hardly does.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import conv2d, conv_transpose2d, max_pool2d, pad

NOISE = 0.01
"""Standard deviation of the noise in units of the model's input, as in the authors' code."""

# the error that is left stays under the noise (measured against a direct solver, up to 7/8 of the image removed)
_ITERATIONS = 8
_DAMPING = 0.8
_COARSEST = 8
_SWEEPS = 20


def noisy_linear_imputation(image: Tensor, removed: Tensor, noise: Tensor) -> Tensor:
    """An image (3, H, W) with the pixels `removed` (B, H, W), boolean, imputed: (B, 3, H, W).

    noise: (3, H, W), added where a pixel is removed. The system is solved at every pixel, on the image's device, by
    conjugate gradients with a multigrid cycle before each (8 of them), for all B at once; each result is the same
    whatever else is in the batch, but for rounding. Raises `ValueError` when all pixels of an image are removed.
    """
    if bool(removed.flatten(1).all(dim=1).any()):
        raise ValueError("all pixels are removed, so that nothing is left to impute them from.")
    height, width = image.shape[-2:]
    levels = 1
    while min(height, width) / 2 ** (levels - 1) > _COARSEST:
        levels += 1
    factor = 2 ** (levels - 1)
    beyond = (0, -width % factor, 0, -height % factor)
    exists = pad(torch.ones_like(image[:1])[None], beyond)
    unknown = pad(removed[:, None].to(image), beyond)
    grey = _as_one_channel(image)
    values = image[:1] if grey is not None else image
    solved = _solve(pad(values[None], beyond), unknown, exists, levels)[..., :height, :width]
    if grey is not None:
        slope, offset = grey
        solved = slope[:, None, None] * solved + offset[:, None, None]
    return torch.where(removed[:, None], solved + noise, image)


def _as_one_channel(image: Tensor) -> tuple[Tensor, Tensor] | None:
    """Slope and offset (3,) that give each channel from the first, None where channels differ by more.

    A radiograph has one channel, stretched for each of the model's three; what is linear need be solved once.
    """
    flat = image.flatten(1)
    low, high = int(flat[0].argmin()), int(flat[0].argmax())
    span = flat[0, high] - flat[0, low]
    if not bool(span > 0):
        return None
    slope = (flat[:, high] - flat[:, low]) / span
    offset = flat[:, low] - slope * flat[0, low]
    far = (slope[:, None] * flat[:1] + offset[:, None] - flat).abs().amax()
    return (slope, offset) if bool(far <= 1e-5 * flat.abs().amax()) else None


def _neighbours(x: Tensor) -> Tensor:
    """Weighted sum of the eight neighbours; beyond the edge there is nothing."""
    padded = pad(x, (1, 1, 1, 1))
    down = padded[..., :-2, :] + 2 * padded[..., 1:-1, :] + padded[..., 2:, :]
    return (down[..., :-2] + 2 * down[..., 1:-1] + down[..., 2:] - 4 * x) / 12


@dataclass(frozen=True)
class _Level:
    """The system at one resolution. unknown (B, 1, h, w), 1 at what is sought; weights (1, 1, h, w): of neighbours.

    damped (B, 1, h, w): what a sweep multiplies the error of the right side with. share (1, 1, h, w): what
    interpolation from the next coarser level must be divided by, empty at the coarsest.
    """

    unknown: Tensor
    weights: Tensor
    damped: Tensor
    share: Tensor

    def apply(self, x: Tensor) -> Tensor:
        return self.unknown * (self.weights * x - _neighbours(x))

    def smoothed(self, x: Tensor, right: Tensor) -> Tensor:
        """One damped Jacobi sweep."""
        return x + self.damped * (right - self.apply(x))

    def interpolated(self, coarse: Tensor) -> Tensor:
        return self.unknown * _up(coarse) / self.share

    def restricted(self, fine: Tensor, coarser: _Level) -> Tensor:
        """The transpose of `interpolated`, which keeps the cycle symmetric."""
        return coarser.unknown * _down(fine / self.share)


def _levels(unknown: Tensor, exists: Tensor, count: int) -> list[_Level]:
    weights = _neighbours(exists).clamp_min(1 / 12)
    damped = _DAMPING * unknown / weights
    if count == 1:
        return [_Level(unknown, weights, damped, exists[..., :0])]
    coarser = max_pool2d(exists, 2)
    # a coarse pixel is sought only where all of it is, so that its neighbours are known where the fine ones are
    known = max_pool2d(exists - unknown, 2)
    finest = _Level(unknown, weights, damped, _up(torch.ones_like(coarser)))
    return [finest, *_levels(coarser - known, coarser, count - 1)]


def _cycle(levels: list[_Level], right: Tensor) -> Tensor:
    level = levels[0]
    # a sweep that starts from zero
    x = level.damped * right
    if len(levels) == 1:
        for _ in range(_SWEEPS):
            x = level.smoothed(x, right)
        return x
    left = level.restricted(right - level.apply(x), levels[1])
    return level.smoothed(x + level.interpolated(_cycle(levels[1:], left)), right)


def _solve(values: Tensor, unknown: Tensor, exists: Tensor, count: int) -> Tensor:
    """values (1, C, h, w) with `unknown` (B, 1, h, w) solved for: (B, C, h, w)."""
    levels = _levels(unknown, exists, count)
    known = exists - unknown
    mean = _sums(known * values) / _sums(known)
    x = unknown * mean
    left = unknown * _neighbours(known * values) - levels[0].apply(x)
    step = guided = _cycle(levels, left)
    size = _sums(left * guided)
    for _ in range(_ITERATIONS):
        moved = levels[0].apply(step)
        length = _quotient(size, _sums(step * moved))
        x = x + length * step
        left = left - length * moved
        guided = _cycle(levels, left)
        before, size = size, _sums(left * guided)
        step = guided + _quotient(size, before) * step
    return x + known * values


def _sums(x: Tensor) -> Tensor:
    return x.sum(dim=(-1, -2), keepdim=True)


def _quotient(above: Tensor, below: Tensor) -> Tensor:
    """0 where nothing is left to solve."""
    return torch.where(below > 0, above / below.clamp_min(torch.finfo(below.dtype).tiny), 0.0)


def _halving_kernel(like: Tensor) -> Tensor:
    line = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=like.dtype, device=like.device) / 4
    return (line[:, None] * line)[None, None]


def _up(coarse: Tensor) -> Tensor:
    """Bilinear interpolation to twice the size, nothing beyond the edge."""
    batch, channels, height, width = coarse.shape
    flat = coarse.reshape(batch * channels, 1, height, width)
    finer = conv_transpose2d(flat, _halving_kernel(coarse), stride=2, padding=1)
    return finer.reshape(batch, channels, 2 * height, 2 * width)


def _down(fine: Tensor) -> Tensor:
    """The transpose of `_up`."""
    batch, channels, height, width = fine.shape
    flat = fine.reshape(batch * channels, 1, height, width)
    coarser = conv2d(flat, _halving_kernel(fine), stride=2, padding=1)
    return coarser.reshape(batch, channels, height // 2, width // 2)
