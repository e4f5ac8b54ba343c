"""A region on the lattice of its film: what scoring needs of it, made once for all maps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from radlens.core.regions import Geometry
from radlens.explain.lattice import Array, Lattice, lattice
from radlens.explain.region_pixels import RegionPixels

_NAN = float("nan")


@dataclass(frozen=True)
class SampledRegion:
    """A region on the lattice of its film, made once for all maps.

    area: its pixels; reached: those that the model sees. energy: (P, Q) the region's sum of each patch's weights.
    rows, columns: mean weights of the patches in the cells; row_pixels, column_pixels: what cells hold. inside: the
    region's pixels in each cell of the block that starts at `corner`; packed: both counts of every cell in one number.
    spans: the region's pixels in each stretch of `Axis.spans`.
    """

    lattice: Lattice
    area: int
    reached: int
    energy: Array
    rows: Array
    columns: Array
    row_pixels: Array
    column_pixels: Array
    inside: Array
    corner: tuple[int, int]
    packed: npt.NDArray[np.uint64]
    spans: Array

    @property
    def area_share(self) -> float:
        """The region's share of the pixels that the model sees, in [0, 1]; NaN for a region without a pixel."""
        return self.reached / self.lattice.seen if self.area else _NAN

    @property
    def unreachable_share(self) -> float:
        """Share of the region's pixels that the crop removed, in [0, 1]; NaN for a region without a pixel."""
        return 1 - self.reached / self.area if self.area else _NAN


def sampled_region(region: RegionPixels, geometry: Geometry, shape: tuple[int, int]) -> SampledRegion:
    """A region of a film, for maps on a grid of `shape` (rows, columns)."""
    film = lattice(geometry, shape)
    rows, columns = film.rows, film.columns
    edges = rows.cells(*region.rows[[0, -1]]), columns.cells(*region.columns[[0, -1]])
    counts = region.counts(*edges)
    down, across = (np.flatnonzero(counts.any(axis=axis)) for axis in (1, 0))
    block = (slice(down[0], down[-1] + 1), slice(across[0], across[-1] + 1)) if len(down) else (slice(0), slice(0))
    row_pixels, column_pixels = (np.diff(along).astype(np.float64) for along in edges)
    packed = np.outer(row_pixels, column_pixels).astype(np.uint64)
    packed[block] |= counts[block].astype(np.uint64) << np.uint64(16)
    return SampledRegion(
        film,
        region.area,
        round(float(counts.sum())),
        region.sums(rows.sums, columns.sums),
        rows.means(edges[0]),
        columns.means(edges[1]),
        row_pixels,
        column_pixels,
        np.ascontiguousarray(counts[block]),
        (block[0].start or 0, block[1].start or 0),
        packed.ravel(),
        region.counts(rows.spans, columns.spans),
    )
