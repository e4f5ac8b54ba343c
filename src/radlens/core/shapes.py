"""Shapes that a reader draws: box, polygon, point and pixel mask, in pixels of the original image."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from radlens.core.errors import DataError


@dataclass(frozen=True)
class Box:
    """An axis-parallel box in pixels of the original image: left, top, width, height (floats)."""

    x: float
    y: float
    width: float
    height: float

    def mask(self, height: int, width: int) -> npt.NDArray[np.bool_]:
        """Boolean (height, width): pixels whose centre lies in the box."""
        rows = np.arange(height) + 0.5
        columns = np.arange(width) + 0.5
        inside_rows = (rows >= self.y) & (rows < self.y + self.height)
        inside_columns = (columns >= self.x) & (columns < self.x + self.width)
        return np.logical_and.outer(inside_rows, inside_columns)


def _centres(start: float, stop: float, limit: int) -> tuple[int, int]:
    """The pixels of 0 ... limit - 1 whose centre is at or after `start` and before `stop`."""
    first, end = (min(max(math.ceil(edge - 0.5), 0), limit) for edge in (start, stop))
    return first, end


@dataclass(frozen=True)
class Polygon:
    """A closed outline of three or more corners (x, y) in pixels of the original image; the last joins the first.

    Where an outline crosses itself the even-odd rule decides: a place is inside if a ray from it crosses the outline an
    odd number of times.
    """

    points: tuple[tuple[float, float], ...]

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """(left, top, right, bottom) of the corners."""
        across, down = zip(*self.points, strict=True)
        return min(across), min(down), max(across), max(down)

    def mask(self, height: int, width: int) -> npt.NDArray[np.bool_]:
        """Boolean (height, width): pixels whose centre lies inside; on a left or top edge it does, as in `Box`."""
        corners = np.array(self.points, np.float64)
        left, top, right, bottom = self.extent
        # only the part of the image that the corners span
        (first, last), (start, stop) = _centres(top, bottom, height), _centres(left, right, width)
        inside = np.zeros((last - first, stop - start + 1), np.uint8)
        for (x, y), (to_x, to_y) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            # a row of centres crosses an edge whose upper end is at or above it and whose lower end is below it
            crossed = np.arange(*_centres(min(y, to_y), max(y, to_y), height))
            if len(crossed):
                at = x + (crossed + 0.5 - y) / (to_y - y) * (to_x - x)
                column = np.clip(np.ceil(at - 0.5), start, stop).astype(int)
                inside[crossed - first, column - start] ^= 1
        mask = np.zeros((height, width), bool)
        mask[first:last, start:stop] = np.bitwise_xor.accumulate(inside[:, :-1], axis=1)
        return mask


@dataclass(frozen=True)
class Point:
    """A place (x, y) in pixels of the original image: the pixel that it lies in."""

    x: float
    y: float

    def mask(self, height: int, width: int) -> npt.NDArray[np.bool_]:
        """Boolean (height, width): one pixel; a point on the right or lower edge of the image is in the last one."""
        mask = np.zeros((height, width), bool)
        if 0 <= self.x <= width and 0 <= self.y <= height:
            mask[min(int(self.y), height - 1), min(int(self.x), width - 1)] = True
        return mask


@dataclass(frozen=True)
class Mask:
    """A pixel mask, one bit a pixel. Make it with `Mask.pack`."""

    height: int
    width: int
    bits: bytes = field(repr=False)

    @staticmethod
    def pack(mask: npt.NDArray[np.bool_]) -> Mask:
        """From a boolean (height, width) array."""
        return Mask(mask.shape[0], mask.shape[1], np.packbits(mask).tobytes())

    def mask(self, height: int, width: int) -> npt.NDArray[np.bool_]:
        """Boolean (height, width); a size other than the image's raises `DataError`."""
        if (height, width) != (self.height, self.width):
            raise DataError(
                f"a mask of {self.width}x{self.height} pixels does not fit an image of {width}x{height} pixels."
            )
        flat = np.unpackbits(np.frombuffer(self.bits, np.uint8), count=height * width)
        return flat.reshape(height, width).astype(bool)


Shape = Box | Polygon | Point | Mask
