"""Exact Euclidean distances in blocks, and sums of them over sets of images; memory flat in the number of images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from radlens.evaluate.undefined import quotient

Array = npt.NDArray[np.float64]
BLOCK = 1024
_NEAR = 1e-6
"""Below this share of the squared norms a squared distance from inner products has lost too many digits."""
_PAIRS = 2048


class Points:
    """Embeddings (N, D), raw or scaled to unit length, handed out in centred float64 blocks.

    Distances do not change when all points are shifted; centred, fewer digits cancel. A zero vector stays zero.
    """

    def __init__(self, embeddings: npt.NDArray[np.float32], *, normalised: bool) -> None:
        self._embeddings = embeddings
        self.dimension = embeddings.shape[1]
        self._normalised = normalised
        self._centre = np.zeros(self.dimension)
        total = np.zeros(self.dimension)
        for rows in self.blocks():
            total += self.block(rows).sum(axis=0)
        self._centre = total / max(len(embeddings), 1)

    def __len__(self) -> int:
        return len(self._embeddings)

    def blocks(self) -> list[slice]:
        """Slices of at most `BLOCK` rows that cover all points."""
        return [slice(start, min(start + BLOCK, len(self))) for start in range(0, len(self), BLOCK)]

    def block(self, rows: slice) -> Array:
        """(b, D) float64, centred."""
        part = self._embeddings[rows].astype(np.float64)
        if self._normalised:
            length = np.linalg.norm(part, axis=1, keepdims=True)
            part /= np.where(length > 0, length, 1.0)
        return part - self._centre


def distances(a: Array, b: Array) -> Array:
    """(n, D) and (m, D) -> (n, m) Euclidean distances.

    From inner products; pairs so near that the subtraction cancels are done over from their differences.
    """
    lengths = np.einsum("nd,nd->n", a, a)[:, None] + np.einsum("md,md->m", b, b)
    squared = a @ b.T
    squared *= -2
    squared += lengths
    lengths *= _NEAR
    row, column = np.nonzero(squared <= lengths)
    for start in range(0, len(row), _PAIRS):
        i, j = row[start : start + _PAIRS], column[start : start + _PAIRS]
        difference = a[i] - b[j]
        squared[i, j] = np.einsum("pd,pd->p", difference, difference)
    return np.sqrt(squared, out=squared)


def pair_sums(
    points: Points, left: npt.NDArray[np.bool_], right: npt.NDArray[np.bool_], orders: Sequence[npt.NDArray[np.intp]]
) -> Array:
    """Sums of distances between sets of images, for several relabellings from one pass over the distances.

    left, right (N, C): column c asks for the sum of the distances of all (i, j) with left[i, c] and right[j, c].
    orders: P relabellings (N,), image i takes the row of image order[i]. Returns (1 + P, C): as labelled, then each
    relabelling. The first is summed in float64; the relabellings multiply in float32 (about 1e-6), for they serve a
    mean of random draws.
    """
    sums = np.zeros((1 + len(orders), left.shape[1]))
    light_left, light_right = left.astype(np.float32), right.astype(np.float32)
    for rows in points.blocks():
        here = points.block(rows)
        for columns in points.blocks():
            between = distances(here, points.block(columns))
            sums[0] += ((between @ right[columns].astype(np.float64)) * left[rows]).sum(axis=0)
            light = between.astype(np.float32)
            for p, order in enumerate(orders, start=1):
                part = light @ light_right[order[columns]]
                part *= light_left[order[rows]]
                sums[p] += part.sum(axis=0, dtype=np.float64)
    return sums


def centroid_distances(points: Points, members: npt.NDArray[np.bool_]) -> tuple[Array, Array]:
    """members (N, C) sets -> (C,) mean distance of a set's members to its centroid, (C, C) distances of centroids.

    NaN where a set is empty.
    """
    counts = members.sum(axis=0)
    centroids = np.zeros((members.shape[1], points.dimension))
    for rows in points.blocks():
        centroids += members[rows].T.astype(np.float64) @ points.block(rows)
    centroids /= np.maximum(counts, 1)[:, None]
    spread = np.zeros(members.shape[1])
    for rows in points.blocks():
        spread += np.where(members[rows], distances(points.block(rows), centroids), 0.0).sum(axis=0)
    apart = distances(centroids, centroids)
    empty = counts == 0
    apart[empty], apart[:, empty] = np.nan, np.nan
    return quotient(spread, counts), apart
