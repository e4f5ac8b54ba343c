"""Iterative stratification with groups: shares of every label in every split, and no patient torn apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from radlens.core.errors import DataError

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def split_by_group(
    targets: npt.NDArray[np.floating], groups: npt.NDArray[np.object_], shares: Mapping[str, float], seed: int
) -> npt.NDArray[np.object_]:
    """Give each image a split so that every split has its share of each label, and a group is never torn apart.

    targets (N, L): 1, 0 or NaN. groups (N,): patient ids, compared as text. shares: split -> share, positive; they
    count relative to their sum. Returns (N,) the split's name of every image. The same images in another order get
    the same splits; another seed draws another split.

    Iterative stratification (Sechidis, Tsoumakas, Vlahavas: On the Stratification of Multi-label Data, ECML PKDD
    2011, algorithm 1), with four changes. A group is placed as a whole, with the sum of its images' labels, those
    with most images of the label first, equals in the seed's order. Known negatives are stratified like positives,
    since AUROC needs both and null is neither. The splits fill at an even pace (the original fills the largest
    first, which would give all patients of many images to the training split). As long as enough groups are left,
    each split gets at least one group of each label's positives and of its negatives (the largest shares first, where
    there are not enough), though its share be a fraction of a group. Raises `DataError` when there are fewer groups
    than splits.
    """
    names = list(shares)
    wanted = np.asarray([shares[name] for name in names], np.float64)
    if targets.ndim != 2 or len(targets) != len(groups):
        raise ValueError(f"targets {targets.shape} must be (N, L), with N = {len(groups)} groups.")
    if not np.all(wanted > 0):
        raise ValueError(f"shares must be positive, found {dict(shares)}.")
    codes, count = _group_codes(groups)
    if count < len(names):
        raise DataError(
            f"cannot split {len(targets)} images of {count} patients into {', '.join(names)}: "
            f"expected at least {len(names)} patients, since a patient is never torn apart."
        )
    generator = np.random.default_rng(seed)
    order = generator.permutation(count)
    kinds, kind_of = np.unique(_contents(targets, codes, count)[order], axis=0, return_inverse=True)
    kind_of = kind_of.reshape(-1)
    copies = np.bincount(kind_of, minlength=len(kinds))
    placed = _place(kinds.astype(np.int64), copies, wanted / wanted.sum(), generator.permutation(len(kinds)))
    # Groups of one kind are interchangeable: the seed's order says which of them goes where.
    split_of = np.empty(count, np.int64)
    by_kind = np.argsort(kind_of, kind="stable")
    split_of[order[by_kind]] = np.concatenate(placed)
    return np.asarray(names, dtype=object)[split_of[codes]]


def _group_codes(groups: npt.NDArray[np.object_]) -> tuple[Ints, int]:
    """(N,) the rank of each image's group among the sorted group names, and how many groups there are."""
    column = pl.Series(groups.tolist(), strict=False).cast(pl.String)
    codes = (column.rank("dense") - 1).to_numpy().astype(np.int64)
    return codes, int(codes.max(initial=-1)) + 1


def _contents(targets: npt.NDArray[np.floating], codes: Ints, count: int) -> npt.NDArray[np.integer]:
    """(G, 2L + 1) of each group: positives of every label, negatives of every label, images. Smallest integer type."""
    rows = [np.bincount(codes[targets[:, label] == 1], minlength=count) for label in range(targets.shape[1])]
    rows += [np.bincount(codes[targets[:, label] == 0], minlength=count) for label in range(targets.shape[1])]
    rows.append(np.bincount(codes, minlength=count))
    largest = int(rows[-1].max())
    return np.stack(rows, axis=1).astype(np.min_scalar_type(largest))


@dataclass
class _Wanting:
    """What each split still lacks, of C columns.

    shares (S,), sum 1. desired (S, C): images still wanted of each column. groups (S, C): groups it has.
    """

    shares: Floats
    desired: Floats
    groups: Ints

    def choose(self, column: int, size: int, each: int, left: int, copies: int) -> Ints:
        """Splits for `copies` equal groups, each with `each` images of the column, `size` in all; `left` groups of the
        column are not placed yet.

        Of the splits that want so much, the one that has the smallest part of its share of the column; where none
        does, the one that wants most of it. When no more groups are left than splits without any, only those count.
        """
        desire = self.desired[:, column].tolist()
        images = self.desired[:, -1].tolist()
        shares = self.shares.tolist()
        has = self.groups[:, column].tolist()
        splits = list(range(len(desire)))
        chosen = np.empty(copies, np.int64)
        for copy in range(copies):
            among = splits
            if left <= len(splits):
                bare = [s for s in splits if has[s] == 0]
                among = bare if bare and left <= len(bare) else splits
            fitting = [s for s in among if desire[s] >= each and images[s] >= size]
            if fitting:
                best = max(fitting, key=lambda s: (desire[s] / shares[s], shares[s]))
            else:
                best = max(among, key=lambda s: (desire[s], images[s], shares[s]))
            chosen[copy] = best
            desire[best] -= each
            images[best] -= size
            has[best] += 1
            left -= 1
        return chosen

    def give(self, kind: Ints, chosen: Ints) -> None:
        """Book equal groups of a kind (C,) to the chosen splits."""
        present = kind > 0
        for split, number in enumerate(np.bincount(chosen).tolist()):
            if number:
                self.desired[split] -= number * kind
                self.groups[split] += number * present


def _place(kinds: Ints, copies: Ints, shares: Floats, ties: Ints) -> list[Ints]:
    """The splits of each kind's groups. kinds (K, C): contents of a group of that kind; copies (K,): how many groups;
    ties (K,): what comes first among kinds with equally many images.

    Groups of equal contents are placed in one go: 400,000 groups of 14 labels are a few thousand kinds.
    """
    total = copies @ kinds
    wanting = _Wanting(shares, shares[:, None] * total, np.zeros((len(shares), kinds.shape[1]), np.int64))
    placed: list[Ints] = [np.empty(0, np.int64)] * len(kinds)
    open_kinds = np.ones(len(kinds), bool)
    has = kinds > 0
    while open_kinds.any():
        left = copies[open_kinds] @ has[open_kinds]
        # The rarest column first: of the common ones enough is left to mend what it upsets.
        column = int(np.argmin(np.where(left > 0, left, np.iinfo(np.int64).max)))
        here = np.flatnonzero(open_kinds & has[:, column])
        here = here[np.lexsort((ties[here], -kinds[here, -1], -kinds[here, column]))]
        remaining = int(left[column])
        for index in here.tolist():
            kind, number = kinds[index], int(copies[index])
            chosen = wanting.choose(column, int(kind[-1]), int(kind[column]), remaining, number)
            wanting.give(kind, chosen)
            placed[index] = chosen
            remaining -= number
        open_kinds[here] = False
    return placed
