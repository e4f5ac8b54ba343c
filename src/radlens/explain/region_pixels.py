"""A region of a film as a small block of equal stretches of rows and columns: counted and summed without its pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from radlens.core.shapes import Box, Polygon, Shape

Array = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]


@dataclass(frozen=True)
class RegionPixels:
    """inside: (r, c) boolean; entry (i, j) stands for rows[i] ... rows[i + 1] - 1 and columns[j] ... of the film.

    Boxes have few stretches, at their edges; for other shapes each row and column of the bounding box is one.
    """

    rows: Whole
    columns: Whole
    inside: npt.NDArray[np.bool_]

    @property
    def area(self) -> int:
        """Pixels of the region."""
        if self._by_pixel:
            return int(np.count_nonzero(self.inside))
        return int(np.diff(self.rows) @ self.inside.astype(np.int64) @ np.diff(self.columns))

    @property
    def _by_pixel(self) -> bool:
        return self.inside.shape == (self.rows[-1] - self.rows[0], self.columns[-1] - self.columns[0])

    def counts(self, rows: Whole, columns: Whole) -> Array:
        """(len(rows) - 1, len(columns) - 1): the region's pixels between the edges given, whole numbers."""
        if self._by_pixel:
            return _added(_rows_added(self.inside, rows - self.rows[0]), columns - self.columns[0], 1).astype(
                np.float64
            )
        down, across = _overlap(rows, self.rows), _overlap(columns, self.columns)
        found: Array = down @ self.inside.astype(np.float64) @ across.T
        return found

    def sums(self, rows: Array, columns: Array) -> Array:
        """(P, Q): sums over the region of products of weights; rows (pixels + 1, P), columns: sums before a pixel."""
        down, across = np.diff(rows[self.rows], axis=0), np.diff(columns[self.columns], axis=0)
        # single precision is enough for the sum of a row, and twice as fast
        along = self.inside.astype(np.float32) @ across.astype(np.float32)
        found: Array = down.T @ along.astype(np.float64)
        return found


def region_pixels(shapes: Sequence[Shape], height: int, width: int) -> RegionPixels:
    """The union of shapes in a film of (height, width), pixel by pixel what the shapes' own masks say."""
    if all(isinstance(shape, Box) for shape in shapes):
        return _of_boxes([shape for shape in shapes if isinstance(shape, Box)], height, width)
    top, bottom, left, right = height, 0, width, 0
    for shape in shapes:
        spans = _extent(shape, height, width)
        top, bottom = min(top, spans[0]), max(bottom, spans[1])
        left, right = min(left, spans[2]), max(right, spans[3])
    inside = np.zeros((max(bottom - top, 0), max(right - left, 0)), bool)
    for shape in shapes:
        inside |= shape.mask(height, width)[top:bottom, left:right]
    return RegionPixels(np.arange(top, top + inside.shape[0] + 1), np.arange(left, left + inside.shape[1] + 1), inside)


def _of_boxes(boxes: Sequence[Box], height: int, width: int) -> RegionPixels:
    down, across = np.arange(height) + 0.5, np.arange(width) + 0.5
    rows = np.array([np.searchsorted(down, (box.y, box.y + box.height)) for box in boxes])
    columns = np.array([np.searchsorted(across, (box.x, box.x + box.width)) for box in boxes])
    row_edges, column_edges = np.unique(rows), np.unique(columns)
    inside = np.zeros((max(len(row_edges) - 1, 0), max(len(column_edges) - 1, 0)), bool)
    for span, other in zip(np.searchsorted(row_edges, rows), np.searchsorted(column_edges, columns), strict=True):
        inside[span[0] : span[1], other[0] : other[1]] = True
    return RegionPixels(row_edges, column_edges, inside)


def _extent(shape: Shape, height: int, width: int) -> tuple[int, int, int, int]:
    """First row, end of the rows, first column, end of the columns: no pixel of the shape lies outside."""
    if isinstance(shape, Box | Polygon):
        left, top, right, bottom = (
            shape.extent
            if isinstance(shape, Polygon)
            else (shape.x, shape.y, shape.x + shape.width, shape.y + shape.height)
        )
        (top, bottom), (left, right) = (
            (min(max(math.floor(start), 0), length), min(max(math.ceil(stop), 0), length))
            for start, stop, length in ((top, bottom, height), (left, right, width))
        )
        return int(top), int(bottom), int(left), int(right)
    mask = shape.mask(height, width)
    rows = np.flatnonzero(mask.any(axis=1))
    if not len(rows):
        return height, 0, width, 0
    columns = np.flatnonzero(mask[rows[0] : rows[-1] + 1].any(axis=0))
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def _overlap(cells: Whole, stretches: Whole) -> Array:
    """(cells, stretches): pixels that a cell and a stretch share."""
    stop = np.minimum(cells[1:, None], stretches[None, 1:])
    start = np.maximum(cells[:-1, None], stretches[None, :-1])
    shared: Array = np.maximum(stop - start, 0).astype(np.float64)
    return shared


def _rows_added(inside: npt.NDArray[np.bool_], edges: Whole) -> npt.NDArray[np.integer]:
    """Sums of rows between edges: (edges - 1, columns)."""
    if np.diff(edges).max() > 255:
        return _added(inside.view(np.uint8), edges, 0)
    # eight pixels at once: sums of so few rows never run over a byte
    padded = np.zeros((inside.shape[0], -(-inside.shape[1] // 8) * 8), np.uint8)
    padded[:, : inside.shape[1]] = inside
    sums: npt.NDArray[np.uint8] = _added(padded.view(np.uint64), edges, 0).view(np.uint8)
    return sums[:, : inside.shape[1]]


def _added(values: npt.NDArray[Any], edges: Whole, axis: int) -> npt.NDArray[Any]:
    """Sums of `values` between edges along an axis; edges may lie outside, and parts may be empty."""
    length = values.shape[axis]
    inner = np.clip(edges, 0, length)
    filled = np.flatnonzero(np.diff(inner))
    shape = list(values.shape)
    shape[axis] = len(edges) - 1
    kind = np.dtype(np.uint64 if values.dtype == np.uint64 else np.int32)
    found = np.zeros(shape, kind)
    if len(filled):
        within = (slice(None),) * axis + (slice(0, int(inner[-1])),)
        at = (slice(None),) * axis + (filled,)
        found[at] = np.add.reduceat(values[within], inner[filled], axis=axis, dtype=kind)
    return found
