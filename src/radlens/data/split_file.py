"""A split that is written down in a file: which image, study or patient belongs to train, val or test."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from radlens.core.cohort import Cohort, GroupBy, LeftOut
from radlens.core.errors import DataError
from radlens.data.tabular import read_table

KEYS = ("image_id", "study_id", "patient_id")
_MEANT = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validate": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}


def split_of_file(cohort: Cohort, path: Path, by: GroupBy = "patient") -> Cohort:
    """The cohort with the split of a table that has a column `split` and one of `image_id`, `study_id`, `patient_id`.

    Images that the table does not name get no split. What it names and the cohort lacks is counted in `left_out`.
    Raises `DataError` for a table without these columns, a split of another name, an id in two splits, or, where the
    study keeps patients together, a patient in two splits.
    """
    rows = read_table(path)
    key = next((name for name in KEYS if name in rows.columns), None)
    if key is None or "split" not in rows.columns:
        raise DataError(
            f"split file {path}: expected a column 'split' and one of {', '.join(KEYS)}; "
            f"found {', '.join(rows.columns)}."
        )
    named = rows.with_row_index("row").select(
        "row",
        pl.col(key).cast(pl.String).str.strip_chars(),
        pl.col("split").cast(pl.String).str.strip_chars().str.to_lowercase(),
    )
    wrong = named.filter(pl.col(key).is_null() | ~pl.col("split").is_in(list(_MEANT)).fill_null(False))
    if wrong.height:
        row, name, split = wrong.row(0)
        who = name or f"no {key}"
        raise DataError(f"split file {path}: row {row + 1} ({who}) has split {split!r}; expected train, val or test.")
    named = named.with_columns(pl.col("split").replace_strict(_MEANT)).unique([key, "split"], maintain_order=True)
    twice = named.filter(pl.col(key).is_duplicated())
    if twice.height:
        raise DataError(f"split file {path}: {key} {twice[key][0]!r} stands in two splits.")
    joined = cohort.table.drop("split").join(named.select(key, "split"), on=key, how="left", maintain_order="left")
    divided = cohort.with_split(joined["split"].to_list())
    if by == "patient":
        _refuse_torn(divided, path)
    absent = named.join(cohort.table, on=key, how="anti")[key].to_list()
    if not absent:
        return divided
    return divided.leaving_out(LeftOut.of(f"{key}s of the split file that the cohort does not have", absent))


def _refuse_torn(cohort: Cohort, path: Path) -> None:
    placed = cohort.table.filter(pl.col("split").is_not_null() & pl.col("patient_id").is_not_null())
    torn = (
        placed.group_by("patient_id", maintain_order=True)
        .agg(pl.col("split").unique(maintain_order=True))
        .filter(pl.col("split").list.len() > 1)
    )
    if torn.height:
        where = " and ".join(torn["split"][0].to_list())
        raise DataError(
            f"split file {path}: patient {torn['patient_id'][0]!r} stands in {where} ({torn.height} patients do); "
            "keep a patient in one split, or say `by: image` to go on with a split that leaks."
        )
