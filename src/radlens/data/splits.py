"""Divide a cohort: drawn by shares, by folds, as its data set divides it, or as a file says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from radlens.core.cohort import SPLITS, Cohort, GroupBy
from radlens.core.errors import DataError
from radlens.core.spec import SplitSpec
from radlens.data.split_file import split_of_file
from radlens.data.stratification import split_by_group


def divide_cohort(cohort: Cohort, spec: SplitSpec, folder: Path) -> Cohort:
    """The cohort with the split that `spec` asks for; null for an image that an official split or a file leaves out.

    folder: what the path of a split file starts from. Raises `DataError` when a split would be without images, when
    the data set has no official split, or when a file puts one patient into two splits.
    """
    seed = spec.seed if spec.repeat in (None, 1) else _another_seed(spec.seed, spec.repeat or 1)
    shares: dict[str, float] = {name: float(getattr(spec, name)) for name in SPLITS}
    if spec.file is not None:
        return _require_all(_with_val(split_of_file(cohort, folder / spec.file, spec.by), spec, seed))
    if spec.official:
        if cohort.table["split"].null_count() == len(cohort):
            raise DataError(f"cohort {cohort.name} has no official split; leave out `official:`, or name a `file:`.")
        return _require_all(_with_val(cohort, spec, seed))
    if spec.folds is not None:
        return _require_all(_fold(cohort, spec, seed))
    return assign_split(cohort, shares, seed, spec.by)


def assign_split(cohort: Cohort, shares: Mapping[str, float], seed: int, by: GroupBy = "patient") -> Cohort:
    """The cohort with a split of its own (one that it came with is replaced): `split_by_group` over all its labels.

    shares: train, val and test. Raises `DataError` when a split would be without images.
    """
    split = split_by_group(cohort.targets(), cohort.groups(by), shares, seed)
    return _require_all(cohort.with_split(split.tolist()), list(shares))


def _fold(cohort: Cohort, spec: SplitSpec, seed: int) -> Cohort:
    """One fold is the test split; the rest is divided anew. All folds of a seed are one division of the cohort."""
    targets, groups = cohort.targets(), cohort.groups(spec.by)
    names = [str(fold) for fold in range(1, (spec.folds or 2) + 1)]
    fold = split_by_group(targets, groups, dict.fromkeys(names, 1.0), seed)
    split = np.full(len(cohort), "test", dtype=object)
    rest = fold != str(spec.fold or 1)
    split[rest] = split_by_group(targets[rest], groups[rest], {"train": spec.train, "val": spec.val}, seed)
    return cohort.with_split(split.tolist())


def _with_val(cohort: Cohort, spec: SplitSpec, seed: int) -> Cohort:
    """Where a given split has no validation images, draw them from its training images."""
    inside = cohort.where("train")
    if cohort.where("val").any() or not inside.any():
        return cohort
    shares = {"train": spec.train, "val": spec.val}
    split = cohort.table["split"].to_numpy().astype(object)
    split[inside] = split_by_group(cohort.targets()[inside], cohort.groups(spec.by)[inside], shares, seed)
    return cohort.with_split(split.tolist())


def _require_all(cohort: Cohort, names: Sequence[str] = SPLITS) -> Cohort:
    strange = cohort.table.filter(pl.col("split").is_not_null() & ~pl.col("split").is_in(list(SPLITS)))
    if strange.height:
        raise DataError(
            f"cohort {cohort.name}: image {strange['image_id'][0]!r} is in split {strange['split'][0]!r}; "
            f"expected {', '.join(SPLITS)} or none."
        )
    empty = [name for name in names if not cohort.where(name).any()]
    if empty:
        raise DataError(
            f"cohort {cohort.name}: split {empty[0]!r} would be empty with {len(cohort)} images of "
            f"{len(set(cohort.groups()))} patients; use more images or another split."
        )
    return cohort


def _another_seed(seed: int, repeat: int) -> int:
    return int(np.random.SeedSequence([seed, repeat]).generate_state(1)[0])
