"""A film's pixels gathered into cells fine enough to rank, and the exact places where a map can be highest.

A map on the patch grid is enlarged bilinearly to a film of millions of pixels (`Geometry.enlarge`), rows and columns
apart: R g C^T. Nothing of it need be enlarged to be scored: sums are sums of R and C, the maximum lies beside a patch's
centre, and ranks are those of cells a sixteenth of a patch wide about the region (with 16 x 16 pixels a patch, a pixel
of the model's input) and an eighth elsewhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from radlens.core.regions import Geometry

Array = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]

CELLS = 16
"""Cells a side of a patch about the region; elsewhere two are one."""
_MOST_PIXELS = 255
"""Pixels a side of a cell: their product must fit 16 bits."""


@dataclass(frozen=True)
class Axis:
    """Rows or columns of a film on a grid of P patches a side, at the pixels that the model sees.

    patches: (P + 1,) first pixel of each patch, and the end. edges: (n + 1,) first pixel of each cell, and the end;
    where there are no more pixels than cells, each pixel is one (`by_pixel`). sums: (pixels + 1, P) weights of all
    pixels before one. ends: (2 P + 2, P) weights of the first and the last pixel between each two neighbouring patch
    centres, zero where there is none. spans: (3 P + 4,) edges of the first pixel, those between and the last pixel of
    each such stretch: along it a map is a straight line, so it is highest at one end or level.
    """

    patches: Whole
    edges: Whole
    by_pixel: bool
    sums: Array
    ends: Array
    spans: Whole

    @property
    def seen(self) -> int:
        """Pixels that the model sees."""
        return int(self.edges[-1] - self.edges[0])

    def cells(self, first: int, end: int) -> Whole:
        """Edges of the cells, two of them one outside the pixels first ... end - 1."""
        if self.by_pixel:
            return self.edges
        kept = np.arange(len(self.edges)) % 2 == 0
        # the whole pairs that hold the first and the last pixel
        low, high = np.searchsorted(self.edges, (first, end - 1), side="right")
        kept[max(low - 2, 0) : high + 1] = True
        kept[-1] = True
        found: Whole = self.edges[kept]
        return found

    def means(self, edges: Whole) -> Array:
        """(n, P): mean weights of the patches in the n cells between edges."""
        found: Array = np.diff(self.sums[edges], axis=0) / np.diff(edges)[:, None]
        return found


@dataclass(frozen=True)
class Lattice:
    """Both axes of a film; span_pixels: pixels of each block of stretches; seen: all that the model sees."""

    rows: Axis
    columns: Axis
    span_pixels: Whole

    @property
    def seen(self) -> int:
        return self.rows.seen * self.columns.seen


@lru_cache(maxsize=64)
def lattice(geometry: Geometry, shape: tuple[int, int]) -> Lattice:
    """The lattice of a film's size and a grid of `shape` (rows, columns)."""
    left, top, right, bottom = geometry.visible()
    rows, columns = _axis(geometry.height, top, bottom, shape[0]), _axis(geometry.width, left, right, shape[1])
    return Lattice(rows, columns, np.outer(np.diff(rows.spans), np.diff(columns.spans)))


def weights(length: int, start: float, stop: float, patches: int) -> Array:
    """(length, patches): linear interpolation between patch centres, clamped at the outer ones; 0 outside the span.

    What `Geometry.enlarge` does, in double precision: values that are equal on the grid stay equal when rounded to
    single precision, so that ties are ties.
    """
    centres = np.arange(length) + 0.5
    at = np.clip((centres - start) / (stop - start) * patches - 0.5, 0, patches - 1)
    tent = np.maximum(1 - np.abs(at[:, None] - np.arange(patches)), 0)
    found: Array = tent * ((centres >= start) & (centres < stop))[:, None]
    return found


def _axis(length: int, start: float, stop: float, patches: int) -> Axis:
    centres = np.arange(length) + 0.5
    first, end = (int(at) for at in np.searchsorted(centres, (start, stop)))
    position = (centres[first:end] - start) / (stop - start) * patches
    cells = patches * max(CELLS, math.ceil(length / patches / _MOST_PIXELS))
    by_pixel = end - first <= cells
    if by_pixel:
        edges = np.arange(first, end + 1)
    else:
        cell = np.minimum((position * (cells / patches)).astype(np.int64), cells - 1)
        edges = np.append(first + np.flatnonzero(np.diff(cell, prepend=-1)), end)
    each = weights(length, start, stop, patches)
    sums = np.concatenate([np.zeros((1, patches)), each.cumsum(axis=0)])
    between = first + np.searchsorted(np.floor(position + 0.5), np.arange(patches + 2))
    starts, stops = between[:-1], between[1:]
    second = np.minimum(starts + 1, stops)
    spans = np.append(np.stack([starts, second, np.maximum(stops - 1, second)], axis=1).ravel(), end)
    outer = np.stack([np.minimum(starts, end - 1), np.maximum(stops - 1, 0)], axis=1)
    ends = each[outer] * (stops > starts)[:, None, None]
    own = first + np.searchsorted(np.floor(position), np.arange(patches + 1))
    return Axis(own, edges, by_pixel, sums, ends.reshape(-1, patches), spans)
