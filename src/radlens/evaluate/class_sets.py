"""Which images belong to a class, and to one class of a pair but not the other, as few and sparse sets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from radlens.core.undefined import quotient

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ClassSets:
    """Images by class. members (N, K). sets: sparse (N, C), whose first K columns are the members.

    For each of M pairs of classes (M, 2) in `pairs`, `shared` (M, 2) names the column of those members of the one that
    are not known to lack the other, and the other way round; the last column is an empty set. Exclusive members of a
    pair (known to be of the one and not of the other) are the members without these, so that every sum of distances
    over exclusive members follows from sums over few sets. exclusive (M, 2): how many there are on each side.
    """

    members: npt.NDArray[np.bool_]
    sets: Any
    pairs: npt.NDArray[np.intp]
    shared: npt.NDArray[np.intp]
    exclusive: npt.NDArray[np.int64]

    def mean_distances(self, products: Array) -> tuple[Array, Array]:
        """From (Q, C, C) of `set_products`: mean distance within classes (Q, K), between exclusive members (Q, K, K).

        NaN where a class has fewer than two members, or a pair no exclusive members on one side; symmetric with a NaN
        diagonal.
        """
        classes = self.members.shape[1]
        counts = self.members.sum(axis=0)
        own = np.arange(classes)
        within = quotient(products[:, own, own], counts * (counts - 1))
        (a, b), (x, y) = self.pairs.T, self.shared.T
        sums = products[:, a, b] - products[:, x, b] - products[:, a, y] + products[:, x, y]
        between = np.full((len(products), classes, classes), np.nan)
        means = quotient(sums, self.exclusive.prod(axis=1))
        between[:, a, b] = between[:, b, a] = means
        return within, between


def class_sets(targets: npt.NDArray[np.float32]) -> ClassSets:
    """Sets of the classes with targets (N, K), 1, 0 or NaN (= not known)."""
    images, classes = targets.shape
    member, absent = targets == 1, targets == 0
    columns = [np.flatnonzero(member[:, k]) for k in range(classes)]
    first, second = np.triu_indices(classes, k=1)
    shared = np.full((len(first), 2), -1, np.intp)
    exclusive = np.zeros((len(first), 2), np.int64)
    for row, (a, b) in enumerate(zip(first, second, strict=True)):
        both = np.flatnonzero(member[:, a] & ~absent[:, b]), np.flatnonzero(member[:, b] & ~absent[:, a])
        exclusive[row] = len(columns[a]) - len(both[0]), len(columns[b]) - len(both[1])
        for side in range(2):
            if side == 1 and np.array_equal(*both):
                shared[row, 1] = shared[row, 0]
            elif len(both[side]):
                shared[row, side] = len(columns)
                columns.append(both[side])
    columns.append(np.zeros(0, np.intp))
    shared[shared < 0] = len(columns) - 1
    where = np.repeat(np.arange(len(columns)), [len(column) for column in columns])
    ones = np.ones(len(where))
    sets = sparse.csr_array((ones, (np.concatenate(columns), where)), shape=(images, len(columns)))
    return ClassSets(member, sets, np.stack([first, second], axis=1), shared, exclusive)
