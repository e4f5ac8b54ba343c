"""Exact Euclidean distances in blocks, and sums of them over sets of images; memory flat in the number of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from radlens.core.errors import DataError
from radlens.core.undefined import quotient

Array = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]
BLOCK = 1024
_PANEL = 8
"""Blocks kept ready at a time: each is then made once for eight others instead of once for each."""
_NEAR = 1e-6
"""Below this share of the squared norms a squared distance from inner products has lost too many digits in float64."""
_NEAR_LIGHT = 0.02
"""The same in float32: above it a distance is right to about 1e-5, for products round by about 3e-7 of the norms."""
_MANY_NEAR = 64
"""A block of which more than one pair in so many is near is done in float64 as a whole."""
_PAIRS = 2048
_CENTROIDS = 512


@dataclass(frozen=True)
class Block:
    """Points (b, D), centred: in float64, and as the two factors (b, D + 2) whose product is the squared distance."""

    exact: Array
    row: Floats
    column: Floats

    @property
    def squared_norms(self) -> Floats:
        """(b,) float32."""
        return self.row[:, -2]


class Points:
    """Embeddings (N, D), raw or scaled to unit length, handed out in centred blocks.

    Distances do not change when all points are shifted; centred, fewer digits cancel. A zero vector stays zero. Raises
    `DataError` for an embedding with NaN or infinity.
    """

    def __init__(self, embeddings: Floats, *, normalised: bool) -> None:
        self._embeddings = embeddings
        self.dimension = embeddings.shape[1]
        self._normalised = normalised
        self._centre = np.zeros(self.dimension)
        total = np.zeros(self.dimension)
        for rows in self.blocks():
            finite = np.isfinite(embeddings[rows]).all(axis=1)
            if not finite.all():
                row = rows.start + int(np.argmin(finite))
                raise DataError(
                    f"the embedding of image row {row} holds NaN or infinity where finite numbers were expected; "
                    "embed the images again or leave that one out."
                )
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

    def prepared(self, rows: slice) -> Block:
        """The same block, ready for `block_distances`."""
        exact = self.block(rows)
        row = np.ones((len(exact), self.dimension + 2), np.float32)
        row[:, :-2] = exact
        row[:, -2] = np.einsum("nd,nd->n", exact, exact)
        column = row[:, [*range(self.dimension), -1, -2]]
        column[:, :-2] *= -2
        return Block(exact, row, column)


def distances(a: Array, b: Array) -> Array:
    """(n, D) and (m, D) -> (n, m) Euclidean distances in float64.

    From inner products; pairs so near that the subtraction cancels are done over from their differences.
    """
    lengths = np.einsum("nd,nd->n", a, a)[:, None] + np.einsum("md,md->m", b, b)
    squared = a @ b.T
    squared *= -2
    squared += lengths
    lengths *= _NEAR
    _redo(squared, squared <= lengths, a, b)
    return np.sqrt(squared, out=squared)


def block_distances(a: Block, b: Block) -> Floats:
    """Euclidean distances (n, m) between two blocks from one float32 product; each right to about 1e-5 of itself.

    Pairs too near for that are done over from their differences in float64 (equal points are 0 apart), or the whole
    block where they are many, as among tight clusters far apart.
    """
    squared: Floats = a.row @ b.column.T
    if not squared.size:
        return squared
    bound = _NEAR_LIGHT * (a.squared_norms.max() + b.squared_norms.max())
    if squared.min() <= bound:
        near = squared <= _NEAR_LIGHT * (a.squared_norms[:, None] + b.squared_norms)
        if np.count_nonzero(near) > max(squared.size // _MANY_NEAR, BLOCK):
            return distances(a.exact, b.exact).astype(np.float32)
        _redo(squared, near, a.exact, b.exact)
    np.sqrt(squared, out=squared)
    return squared


def _redo(squared: npt.NDArray[Any], near: npt.NDArray[np.bool_], a: Array, b: Array) -> None:
    row, column = np.nonzero(near)
    for start in range(0, len(row), _PAIRS):
        i, j = row[start : start + _PAIRS], column[start : start + _PAIRS]
        difference = a[i] - b[j]
        squared[i, j] = np.einsum("pd,pd->p", difference, difference)


def set_products(points: Points, labellings: Sequence[Any]) -> Array:
    """Sums of distances between every two of C sets of images, for several labellings from one pass over the distances.

    labellings: Q sparse CSR matrices float64 (N, C); entry (i, c) is 1 where image i is in set c. Returns (Q, C, C):
    entry (c, d) is the sum over all ordered (i, j), i in c and j in d, of their distance. Distances are float32, each
    computed once for the pair; sums are float64.
    """
    blocks = points.blocks()
    pieces = [[labelling[rows] for labelling in labellings] for rows in blocks]
    sets = labellings[0].shape[1]
    sums = np.zeros((len(labellings), sets, sets))
    for start in range(0, len(blocks), _PANEL):
        panel = {j: points.prepared(rows) for j, rows in enumerate(blocks) if start <= j < start + _PANEL}
        for i in range(min(start + _PANEL, len(blocks))):
            here = panel[i] if i in panel else points.prepared(blocks[i])
            for j, there in panel.items():
                if j < i:
                    continue
                between = block_distances(here, there).astype(np.float64)
                if i == j:
                    between *= 0.5  # each pair of a block with itself comes twice
                for total, left, right in zip(sums, pieces[i], pieces[j], strict=True):
                    total += (left.T @ between) @ right
    return sums + sums.transpose(0, 2, 1)


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


def shuffled_centroid_distances(
    points: Points, members: npt.NDArray[np.bool_], orders: Sequence[npt.NDArray[np.intp]]
) -> tuple[Array, Array]:
    """`centroid_distances` of members[order] for each of P orders (N,): (P, C) and (P, C, C).

    Many relabellings share a product, in float32 (about 1e-6 of the points' norms).
    """
    sets = members.shape[1]
    counts = members.sum(axis=0)
    spread, apart = np.zeros((len(orders), sets)), np.zeros((len(orders), sets, sets))
    light = members.astype(np.float32)
    at_once = max(_CENTROIDS // max(sets, 1), 1)
    for start in range(0, len(orders), at_once):
        some = np.stack(orders[start : start + at_once], axis=1)
        many = some.shape[1] * sets
        centroids = np.zeros((many, points.dimension))
        for rows in points.blocks():
            centroids += light[some[rows]].reshape(-1, many).T @ points.block(rows).astype(np.float32)
        centroids /= np.tile(np.maximum(counts, 1), some.shape[1])[:, None]
        lengths = np.einsum("cd,cd->c", centroids, centroids).astype(np.float32)
        for rows in points.blocks():
            here = points.prepared(rows)
            squared = here.column[:, :-2] @ centroids.T.astype(np.float32)
            squared += here.squared_norms[:, None]
            squared += lengths
            np.sqrt(np.maximum(squared, 0.0, out=squared), out=squared)
            squared *= light[some[rows]].reshape(-1, many)
            spread[start : start + at_once] += squared.sum(axis=0, dtype=np.float64).reshape(-1, sets)
        for p, own in enumerate(centroids.reshape(-1, sets, points.dimension), start=start):
            apart[p] = distances(own, own)
    apart[:, counts == 0, :], apart[:, :, counts == 0] = np.nan, np.nan
    return quotient(spread, counts), apart
