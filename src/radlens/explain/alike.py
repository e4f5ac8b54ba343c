"""How alike two maps on the patch grid are: rank correlation and structural similarity, for very many pairs at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from radlens.core.undefined import quotient

Array = npt.NDArray[np.float64]
Index = npt.NDArray[np.intp]

WINDOW = 7
"""Side of the sliding window of SSIM, in patches; on a smaller grid the greatest odd number that fits."""
_LUMINANCE, _CONTRAST = 0.01**2, 0.03**2
# equal maps must have exactly 1, and single precision is good for no more
_DECIMALS = 6
# up to here sums of products of centred, doubled ranks are whole numbers below 2**24, exact in single precision
_EXACT_CELLS = 369
_PRODUCTS = 200_000


@dataclass(frozen=True)
class Prepared:
    """What is computed once a map for N images with K maps each, so that a pair costs two products.

    values (N, K, P): maps in [0, 1]. ranks (N, K, P): twice the mid-rank less its mean. spread (N, K): their sum of
    squares. means, variances (N, K, W): in each window. boxes (P, W): the windows. usable (N, K): not constant.
    """

    values: npt.NDArray[np.float32]
    ranks: npt.NDArray[np.floating[Any]]
    spread: Array
    means: npt.NDArray[np.float32]
    variances: npt.NDArray[np.float32]
    boxes: npt.NDArray[np.float32]
    usable: npt.NDArray[np.bool_]

    def of_images(self, images: Index) -> Prepared:
        """The maps of these images, in their order."""
        return Prepared(
            self.values[images],
            self.ranks[images],
            self.spread[images],
            self.means[images],
            self.variances[images],
            self.boxes,
            self.usable[images],
        )


def prepare(maps: npt.NDArray[np.floating[Any]], unusable: npt.NDArray[np.bool_] | None = None) -> Prepared:
    """Maps (N, K, rows, columns) scaled to [0, 1]; unusable (N, K): maps to be taken as constant, whatever they hold.

    A map of one value is constant too. Memory: about 20 N K P bytes.
    """
    images, count, rows, columns = maps.shape
    cells = rows * columns
    values = np.ascontiguousarray(maps, np.float32).reshape(images, count, cells)
    usable = values.max(axis=-1) > values.min(axis=-1)
    if unusable is not None:
        usable &= ~unusable
    precision = np.float32 if cells <= _EXACT_CELLS else np.float64
    ranks = (2 * rankdata(values, axis=-1) - (cells + 1)).astype(precision)
    spread = np.einsum("nkp,nkp->nk", ranks, ranks).astype(np.float64)
    boxes = _boxes(rows, columns)
    means = values @ boxes
    variances = ((values * values) @ boxes - means * means).astype(np.float32)
    return Prepared(values, ranks, spread, means, variances, boxes, usable)


def rank_correlation(first: Prepared, second: Prepared, a: Index, b: Index) -> Array:
    """Spearman's rank correlation, ties by mid-rank, in [-1, 1]: (N, M) of M pairs of maps a (M,) and b (M,).

    Image n of `first` is compared with image n of `second`. NaN where either map is constant: nothing is ranked.
    Source: Spearman, American Journal of Psychology 15 (1904) 72-101, as Pearson's correlation of mid-ranks.
    """
    found = np.empty((len(first.values), len(a)))
    for part in _chunks(first, len(a)):
        one, other = a[part], b[part]
        product = np.einsum("nkp,nkp->nk", first.ranks[:, one], second.ranks[:, other]).astype(np.float64)
        found[:, part] = quotient(product, np.sqrt(first.spread[:, one] * second.spread[:, other]))
    return np.where(_both(first, second, a, b), np.clip(found, -1, 1), np.nan)


def structural_similarity(first: Prepared, second: Prepared, a: Index, b: Index) -> Array:
    """SSIM, in [-1, 1], 1 for equal maps: (N, M) of M pairs of maps a (M,) and b (M,).

    The mean, over every window of 7 x 7 patches that lies in the grid, of
    (2 m m' + C1) (2 c + C2) / ((m^2 + m'^2 + C1) (v + v' + C2)): means m, variances v and covariance c in the window,
    each patch counting alike and with n - 1; C1 = 0.01^2, C2 = 0.03^2, for maps in [0, 1]. NaN where either map is
    constant. Source: Wang et al., IEEE Transactions on Image Processing 13 (2004) 600-612, with a flat window.
    """
    size = round(1 / float(first.boxes.max()))
    sample = np.float32(size / max(size - 1, 1))
    found = np.empty((len(first.values), len(a)))
    for part in _chunks(first, len(a)):
        one, other = a[part], b[part]
        mean, mean_b = first.means[:, one], second.means[:, other]
        variances = (first.variances[:, one] + second.variances[:, other]) * sample
        covariance = ((first.values[:, one] * second.values[:, other]) @ first.boxes - mean * mean_b) * sample
        above = (2 * mean * mean_b + np.float32(_LUMINANCE)) * (2 * covariance + np.float32(_CONTRAST))
        below = (mean**2 + mean_b**2 + np.float32(_LUMINANCE)) * (variances + np.float32(_CONTRAST))
        found[:, part] = (above / below).mean(axis=-1, dtype=np.float64)
    return np.where(_both(first, second, a, b), np.clip(np.round(found, _DECIMALS), -1, 1), np.nan)


def _both(first: Prepared, second: Prepared, a: Index, b: Index) -> npt.NDArray[np.bool_]:
    both: npt.NDArray[np.bool_] = first.usable[:, a] & second.usable[:, b]
    return both


def _chunks(prepared: Prepared, pairs: int) -> list[slice]:
    """Pairs to treat at once, so that memory does not grow with their number."""
    images, _, cells = prepared.values.shape
    step = max(_PRODUCTS // max(images * cells, 1), 1)
    return [slice(start, start + step) for start in range(0, pairs, step)]


def _boxes(rows: int, columns: int) -> npt.NDArray[np.float32]:
    """(P, W): each column the mean over one window of the grid."""
    least = min(rows, columns, WINDOW)
    side = least if least % 2 else least - 1
    found = []
    for top in range(rows - side + 1):
        for left in range(columns - side + 1):
            box = np.zeros((rows, columns), np.float32)
            box[top : top + side, left : left + side] = 1 / side**2
            found.append(box.ravel())
    return np.stack(found, axis=1)
