"""A published data set as it lies on a user's disk: its files, label cells, ages and official split, checked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from radlens.core.cohort import SPLITS, LeftOut
from radlens.core.errors import DataError, unknown_name
from radlens.core.store import file_digest
from radlens.core.vocabulary import Vocabulary
from radlens.data.cards import load_card
from radlens.data.tabular import read_table

OLDEST = 120


def find_file(root: Path, named: str | None, released: Sequence[str], option: str) -> Path | None:
    """The file that an option names, or else the first of the released names in `root`; each also with or without .gz.

    None where no option names it and none of the released names is there. Raises `DataError` for a named file that
    does not exist.
    """
    for name in (named,) if named is not None else released:
        for path in (root / name, root / f"{name}.gz", root / name.removesuffix(".gz")):
            if path.is_file():
                return path
    if named is not None:
        raise DataError(
            f"{option}: {root / named} does not exist; expected the file that is released as {released[0]}."
        )
    return None


def require_file(root: Path, named: str | None, released: Sequence[str], option: str) -> Path:
    """As `find_file`, but where there is none raises `DataError` with the names and the folder they are expected in."""
    path = find_file(root, named, released, option)
    if path is None:
        raise DataError(
            f"{root} holds no {' and no '.join(released)} (with or without .gz); name the folder of the release with "
            f"`root:`, or the file with `{option}:`."
        )
    return path


def read_released(path: Path, columns: Sequence[str]) -> pl.DataFrame:
    """The rows of a released table, every cell text; a column that it should have and has not raises `DataError`."""
    rows = read_table(path)
    for column in columns:
        if column not in rows.columns:
            raise DataError(f"table {path}: {unknown_name('column', column, rows.columns)}")
    return rows


def refuse_blank_or_twice(rows: pl.DataFrame, path: Path, column: str) -> None:
    """Raise `DataError` when a name that must be unique is missing or stands in two rows."""
    names = rows[column].str.strip_chars()
    blank = (names == "").fill_null(True)
    if blank.any():
        raise DataError(f"table {path}: row {int(blank.arg_true()[0]) + 1} has no {column!r}.")
    twice = names.is_duplicated()
    if twice.any():
        first = names[int(twice.arg_true()[0])]
        where = (names == first).arg_true() + 1
        raise DataError(
            f"table {path}: {column} {first!r} stands in rows {', '.join(map(str, where[:5].to_list()))} "
            f"({names.filter(twice).n_unique()} are duplicated); keep one row each."
        )


def refuse_strange(rows: pl.DataFrame, path: Path, column: str, pattern: str, expected: str) -> None:
    """Raise `DataError` for the first cell that does not match a pattern, or is blank. expected: in words."""
    strange = ~rows[column].str.contains(pattern).fill_null(False)
    if strange.any():
        row = int(strange.arg_true()[0])
        raise DataError(
            f"table {path}: row {row + 1} has {rows[column][row]!r} for {column!r}; expected {expected} "
            f"({int(strange.sum())} cells are none of these)."
        )


def label_cells(rows: pl.DataFrame, path: Path, labels: Sequence[str]) -> list[pl.Series]:
    """Int8 columns of 1, 0, -1 and null from text cells; any other word raises `DataError` with row and value."""
    columns = []
    for label in labels:
        cells = rows[label].str.strip_chars().replace("", None)
        values = cells.cast(pl.Float64, strict=False)
        wrong = cells.is_not_null() & ~values.is_in([0.0, 1.0, -1.0]).fill_null(False)
        if wrong.any():
            row = int(wrong.arg_true()[0])
            raise DataError(
                f"table {path}: row {row + 1} has {cells[row]!r} for {label!r}; expected 1, 0, -1 or blank "
                f"({int(wrong.sum())} cells of the column are none of these)."
            )
        columns.append(values.cast(pl.Int8).alias(label))
    return columns


def ages(cells: pl.Series) -> tuple[pl.Series, list[str]]:
    """Whole years (Int16) from cells such as 58, 058Y, 011M, 021D, and a note on those that are no age.

    An age above 120 years (414Y occurs) and a cell that is no number are null.
    """
    parts = (
        cells.str.strip_chars().str.to_uppercase().str.extract_groups(r"^(\d{1,4})(?:\.0*)?([YMWD]?)$").struct.unnest()
    )
    number, unit = (parts[name] for name in parts.columns)
    per_year = unit.fill_null("Y").replace_strict({"Y": 1, "": 1, "M": 12, "W": 52, "D": 365}, return_dtype=pl.Int32)
    years = number.cast(pl.Int32) // per_year
    years = years.set(years > OLDEST, None).cast(pl.Int16).alias("age")
    unusable = years.null_count() - cells.str.strip_chars().replace("", None).null_count()
    return years, [f"{unusable} ages are no number of years up to {OLDEST}: null."] if unusable else []


def sexes(cells: pl.Series) -> pl.Series:
    """F, M or null from the first letter; anything but female and male is null."""
    letter = cells.str.strip_chars().str.slice(0, 1).str.to_uppercase()
    return letter.set(~letter.is_in(["F", "M"]).fill_null(False), None).alias("sex")


def refuse_torn_patients(table: pl.DataFrame, where: str) -> None:
    """Raise `DataError` when a patient stands in two parts of an official split. where: the files that state it."""
    torn = (
        table.drop_nulls(["patient_id", "split"])
        .group_by("patient_id", maintain_order=True)
        .agg(pl.col("split").unique())
        .filter(pl.col("split").list.len() > 1)
    )
    if torn.height:
        patient, parts = torn.row(0)
        found = " and ".join(part for part in SPLITS if part in parts)
        raise DataError(
            f"{where}: patient {patient!r} stands in {found} ({torn.height} patients do); the released split keeps "
            "patients apart, take its files as they were released."
        )


def vocabulary_labels(vocabulary: Vocabulary, known: Sequence[str], dataset: str) -> list[str]:
    """The labels of the vocabulary that a data set assesses, in order; `DataError` when there is none."""
    labels = [name for name in vocabulary.names if name in known]
    if not labels:
        raise DataError(
            f"{dataset} assesses none of the labels of vocabulary {vocabulary.name}; it has {', '.join(known)}."
        )
    return labels


def origins(vocabulary: Vocabulary, by_label: dict[str, str], dataset: str) -> dict[str, str]:
    """Label -> where its values come from, for every label of the vocabulary."""
    return {name: by_label.get(name, f"not assessed by {dataset}") for name in vocabulary.names}


def described(dataset: str, *tables: Path) -> dict[str, Any]:
    """What a cohort says of its source: title, licence and citation of the card, and the tables with their SHA-256."""
    card = load_card(dataset)
    files = {path.name: {"path": str(path), "sha256": file_digest(path)} for path in tables}
    return {
        "dataset": dataset,
        "title": card.title,
        "licence": card.licence,
        "citation": card.citation,
        "tables": files,
    }


def keep_present(table: pl.DataFrame, missing: pl.Series, where: Path) -> tuple[pl.DataFrame, list[LeftOut]]:
    """Only the rows whose image is there, and the others counted; `DataError` when none is.

    missing: boolean, one a row. where: the folder that was looked in.
    """
    if not missing.any():
        return table, []
    if missing.all():
        raise DataError(
            f"none of the {table.height} images of the table is in {where} (the first would be {table['path'][0]}); "
            "name the folder with `images:`."
        )
    absent = table["image_id"].filter(missing).to_list()
    return table.filter(~missing), [LeftOut.of("images of the table without a file", absent)]
