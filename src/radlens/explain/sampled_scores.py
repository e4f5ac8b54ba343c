"""All scores of many maps against one region of a film, without enlarging a map: one weighted sort a map.

Energy, lift and hits are those of the film's pixels (a hit but for pixels that are within a millionth of the maximum
without being level with it). What needs ranks or a spread takes the cells of `lattice`, each with its exact numbers of
pixels, at its mean value: the same as pixel by pixel where the film is no larger than the lattice, else off by what a
map changes within a cell (below .005, and .0007 on average, over films of 768 pixels a side: tests). The functions of
`localization` are the definitions.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from radlens.explain.lattice import Array
from radlens.explain.localization import BINS, SCORES, TIE
from radlens.explain.sampled_region import SampledRegion

Grids = npt.NDArray[np.floating]
_LOW = np.uint64(0xFFFF)
_HALF = np.uint64(32)
_NAN = float("nan")


def score_maps(
    grids: Grids,
    region: SampledRegion,
    degenerate: npt.NDArray[np.bool_] | None = None,
    shares: npt.NDArray[np.floating] | None = None,
) -> Array:
    """(M, 12) scores in the order of `SCORES` of M non-negative maps (M, P, Q).

    degenerate: (M,) maps that were flagged constant; a map of one value is found without. They score as spread evenly
    (`scores`). shares: (M,) tuned thresholds as shares of the maximum, NaN for none.
    NaN: everything for a region without a pixel; lift, AUROC, average precision and contrast where the crop removed it;
    AUROC and contrast where it is all that the model sees.
    """
    if not region.area:
        return np.full((len(grids), len(SCORES)), _NAN)
    flat = grids.reshape(len(grids), -1).astype(np.float64)
    constant = flat.max(axis=1) - flat.min(axis=1) <= TIE * flat.max(axis=1)
    if degenerate is not None:
        constant |= degenerate
    if shares is None:
        shares = np.full(len(grids), _NAN)
    found = np.empty((len(grids), len(SCORES)))
    found[constant] = _spread_evenly(region, shares[constant])
    for at in np.flatnonzero(~constant):
        found[at] = _scores(flat[at].reshape(grids.shape[1:]), region, float(shares[at]))
    return found


def iou_at_shares(grids: Grids, region: SampledRegion, shares: Array) -> Array:
    """(M, S): IoU of M maps cut above each of S shares of their maximum; 0 for a constant map, NaN without a region."""
    if not region.area:
        return np.full((len(grids), len(shares)), _NAN)
    found = np.zeros((len(grids), len(shares)))
    for row, grid in zip(found, grids.astype(np.float64), strict=True):
        if grid.max() - grid.min() > TIE * grid.max():
            top, _ = _maximum(grid, region)
            row[:] = _Ranking(_cells(grid, region), region).iou_above(shares * top)
    return found


def _spread_evenly(region: SampledRegion, shares: npt.NDArray[np.floating]) -> Array:
    share, part = region.area_share, 0 < region.reached < region.lattice.seen
    none = np.full(len(shares), _NAN)
    tuned = np.where(np.isnan(shares), none, 0.0)
    lift = 1.0 if share > 0 else _NAN
    auroc, contrast, precision = 0.5 if part else _NAN, 0.0 if part else _NAN, share if share > 0 else _NAN
    row = np.tile((share, share, lift, 0, 0, 0, 0, 0, 0, auroc, precision, contrast), (len(shares), 1))
    row[:, 5] = row[:, 6] = tuned
    return row


def _scores(grid: Array, region: SampledRegion, share: float) -> list[float]:
    film = region.lattice
    cells = _cells(grid, region)
    if float(cells.max()) - float(cells.min()) <= TIE * float(cells.max()):
        # a film smaller than the grid may see one value of a map that has several
        return [float(score) for score in _spread_evenly(region, np.array([share]))[0]]
    top, hit = _maximum(grid, region)
    total = float(film.rows.sums[-1] @ grid @ film.columns.sums[-1])
    inside = float((region.energy * grid).sum())
    energy = inside / total
    ranking = _Ranking(cells, region)
    # a threshold that is not known gives no area: NaN all through
    at_otsu, at_tuned = (float(ranking.iou_above(np.array([cut]))[0]) for cut in (ranking.otsu(), share * top))
    best, auroc, precision = ranking.overall()
    ious = (at_otsu, at_tuned, best)
    lift = energy / region.area_share if region.reached else _NAN
    overlaps = [value for iou in ious for value in (iou, 2 * iou / (1 + iou))]
    return [hit, energy, lift, *overlaps, auroc, precision, _contrast(cells, region, inside, total)]


def _maximum(grid: Array, region: SampledRegion) -> tuple[float, float]:
    """The map's highest pixel, and the share of the pixels within a millionth of it that lie in the region."""
    rows, columns = region.lattice.rows, region.lattice.columns
    ends = rows.ends @ grid @ columns.ends.T
    top = float(ends.max())
    tied = ends >= top * (1 - TIE)
    # a stretch is level where both its ends are tied, and so is a block of stretches where all its corners are
    level = _stretches(_stretches(tied).T).T
    return top, float(region.spans[level].sum() / region.lattice.span_pixels[level].sum())


def _stretches(tied: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """(2 S, k) first and last pixel of S stretches -> (3 S, k) first, all between, last."""
    first, last = tied[::2], tied[1::2]
    return np.stack([first, first & last, last], axis=1).reshape(-1, tied.shape[1])


def _cells(grid: Array, region: SampledRegion) -> npt.NDArray[np.float32]:
    return (region.rows @ grid @ region.columns.T).astype(np.float32)


def _contrast(cells: npt.NDArray[np.float32], region: SampledRegion, inside: float, total: float) -> float:
    film, (row, column) = region.lattice, region.corner
    others = film.seen - region.reached
    if not region.reached or not others:
        return _NAN
    block = cells[row : row + region.inside.shape[0], column : column + region.inside.shape[1]].astype(np.float64)
    squares = np.square(cells)
    all_squares = float(region.row_pixels @ (squares @ region.column_pixels))
    own_sum, own_squares = float((region.inside * block).sum()), float((region.inside * np.square(block)).sum())
    other_sum, other_squares = total - own_sum, all_squares - own_squares
    # spread over cells, means over pixels
    spread = own_squares / region.reached - (own_sum / region.reached) ** 2
    spread += other_squares / others - (other_sum / others) ** 2
    difference = inside / region.reached - (total - inside) / others
    return difference / float(np.sqrt(spread)) if spread > 0 else _NAN


class _Ranking:
    """The cells of a map in rising order with the pixels, and the region's pixels, up to each."""

    def __init__(self, cells: npt.NDArray[np.float32], region: SampledRegion) -> None:
        self.region = region
        # the bits of non-negative floats are in their order, so that one sort carries the counts along
        keys = (cells.reshape(-1).view(np.uint32).astype(np.uint64) << _HALF) | region.packed
        keys.sort()
        self.values = (keys >> _HALF).astype(np.uint32).view(np.float32)
        self.pixels = keys & _LOW
        own = keys & np.uint64(0xFFFF0000)
        own <<= np.uint64(16)
        own |= self.pixels
        # the region's pixels above bit 32, all pixels below
        self.up_to = np.empty(len(keys) + 1, np.uint64)
        self.up_to[0] = 0
        np.cumsum(own, out=self.up_to[1:])

    def _split(self, at: npt.NDArray[np.integer]) -> tuple[Array, Array]:
        """Pixels of the region, and all pixels, among the first cells."""
        both = self.up_to[at]
        return (both >> _HALF).astype(np.float64), (both & np.uint64(0xFFFFFFFF)).astype(np.float64)

    def iou_above(self, thresholds: Array) -> Array:
        """IoU of the region and the pixels above each threshold; NaN for a threshold of NaN."""
        own, every = self._split(np.searchsorted(self.values, thresholds.astype(np.float32), side="right"))
        own, every = self.region.reached - own, self.region.lattice.seen - every
        return np.where(np.isnan(thresholds), _NAN, own / (every + self.region.area - own))

    def otsu(self) -> float:
        """Otsu's threshold among the cuts of 256 equal bins, as `otsu_threshold`."""
        low, high = self.values[0], self.values[-1]
        bins = np.minimum(((self.values - low) * np.float32(BINS / (high - low))).astype(np.int32), BINS - 1)
        starts = np.searchsorted(bins, np.arange(BINS + 1))
        filled = np.flatnonzero(np.diff(starts))
        ends = starts[filled + 1]
        _, below = self._split(ends)
        sums = np.add.reduceat(self.values * self.pixels.astype(np.float32), starts[filled], dtype=np.float64).cumsum()
        below, sums, ends, total, all_pixels = below[:-1], sums[:-1], ends[:-1], sums[-1], below[-1]
        above = all_pixels - below
        between = below * above * (sums / below - (total - sums) / above) ** 2
        cut = int((between >= between.max() * (1 - 1e-9)).argmax())
        return float(self.values[ends[cut] - 1])

    def overall(self) -> tuple[float, float, float]:
        """The best IoU of any threshold, pixel AUROC, and pixel average precision; ties exact."""
        reached, seen = self.region.reached, self.region.lattice.seen
        if not reached:
            return 0.0, _NAN, _NAN
        ends = np.append(np.flatnonzero(self.values[1:] != self.values[:-1]) + 1, len(self.values))
        up_to = self.up_to[ends]
        group = np.diff(up_to, prepend=np.uint64(0))
        # neither score, nor the best threshold, changes at values that the region does not have
        held = np.flatnonzero(group >> _HALF)
        group, up_to = group[held], up_to[held]
        own, every = (part.astype(np.float64) for part in (group >> _HALF, group & np.uint64(0xFFFFFFFF)))
        own_to, to = (part.astype(np.float64) for part in (up_to >> _HALF, up_to & np.uint64(0xFFFFFFFF)))
        own_from, from_here = reached - own_to + own, seen - to + every
        best = float((own_from / (from_here + self.region.area - own_from)).max())
        precision = float((own * own_from / from_here).sum() / reached)
        others, others_below = every - own, (to - own_to) - (every - own)
        pairs = reached * (seen - reached)
        auroc = float((own * (others_below + others / 2)).sum() / pairs) if pairs else _NAN
        return best, auroc, precision
