"""Smoothing and smooth random fields, separable and without matrix products.

Sums of shifted arrays give the same bits whatever the number of BLAS threads.
"""

from functools import lru_cache

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]


def gaussian(image: F32, sigma: float) -> F32:
    """Blur an (H, W) image with a Gaussian of `sigma` pixels; edges are repeated."""
    if sigma < 0.15:
        return image
    reach = max(1, int(np.ceil(2.5 * sigma)))
    taps = np.exp(-0.5 * (np.arange(reach + 1) / sigma) ** 2)
    taps /= taps[0] + 2.0 * taps[1:].sum()
    for axis in (0, 1):
        pad = [(0, 0), (0, 0)]
        pad[axis] = (reach, reach)
        padded = np.pad(image, pad, mode="edge")
        n = image.shape[axis]
        image = image * np.float32(taps[0])
        for k in range(1, reach + 1):
            low, high = slice(reach - k, reach - k + n), slice(reach + k, reach + k + n)
            pair = padded[low] + padded[high] if axis == 0 else padded[:, low] + padded[:, high]
            pair *= np.float32(taps[k])
            image += pair
    return image


@lru_cache(maxsize=512)
def _spline(size: int, cells: int) -> tuple[npt.NDArray[np.intp], F32]:
    """Indices and weights (4, size) of cubic B-spline interpolation from `cells` + 3 knots."""
    place = (np.arange(size) + 0.5) / size * cells
    start = np.minimum(place.astype(np.intp), cells - 1)
    t = place - start
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]) / 6
    return start + np.arange(4)[:, None], weights.astype(np.float32)


def enlarge(knots: F32, shape: tuple[int, int]) -> F32:
    """Enlarge (m + 3, n + 3) knots to `shape` with a cubic B-spline over m by n cells."""
    rows, row_weights = _spline(shape[0], knots.shape[0] - 3)
    columns, column_weights = _spline(shape[1], knots.shape[1] - 3)
    tall = knots[rows[0]] * row_weights[0][:, None]
    for k in range(1, 4):
        tall += knots[rows[k]] * row_weights[k][:, None]
    wide: F32 = tall[:, columns[0]] * column_weights[0]
    for k in range(1, 4):
        wide += tall[:, columns[k]] * column_weights[k]
    return wide


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], cells: int) -> F32:
    """A smooth random field of `shape` with about `cells` bumps a side, mean 0 and deviation about 1."""
    knots = rng.standard_normal((cells + 3, cells + 3), dtype=np.float32)
    return enlarge(knots, shape) * np.float32(2.0)


def lowpass(image: F32, cells: int = 14) -> F32:
    """A very smooth version of an (H, W) image: block means on `cells` by `cells`, enlarged."""
    for axis in (0, 1):
        edges = np.linspace(0, image.shape[axis], cells + 1).astype(np.intp)
        means = np.add.reduceat(image, edges[:-1], axis=axis)
        counts = np.diff(edges).astype(np.float32)
        image = (means / (counts[:, None] if axis == 0 else counts)).astype(np.float32)
    return np.pad(image, ((1, 2), (1, 2)), mode="edge")


def smooth(image: F32, cells: int = 14) -> F32:
    """The low frequencies of an (H, W) image, same shape."""
    # Knots sit at cell borders and block means at cell centres: averaging neighbours brings them together.
    knots = lowpass(image, cells)
    knots = 0.5 * (knots[:-1] + knots[1:])
    knots = 0.5 * (knots[:, :-1] + knots[:, 1:])
    knots = np.pad(knots, ((0, 1), (0, 1)), mode="edge")
    return enlarge(knots[: cells + 3, : cells + 3], (image.shape[0], image.shape[1]))
