"""A table of labels beside DICOM files: joined by what the files say of themselves, compared as salted hashes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import polars as pl

from radlens.core.errors import DataError, unknown_name
from radlens.core.vocabulary import Vocabulary
from radlens.data.dicom_pseudonyms import Pseudonyms

Key = Literal[
    "SOPInstanceUID",
    "StudyInstanceUID",
    "AccessionNumber",
    "PatientID",
    "file",
    "image_id",
    "study_id",
    "patient_id",
]
# key -> column of the scanned files that it is compared with, and the kind of pseudonym (None: compared as written)
_COMPARED: dict[str, tuple[str, str | None]] = {
    "SOPInstanceUID": ("image", "image"),
    "StudyInstanceUID": ("study", "study"),
    "AccessionNumber": ("accession", "accession"),
    "PatientID": ("patient", "patient"),
    "file": ("file", None),
    "image_id": ("image", None),
    "study_id": ("study", None),
    "patient_id": ("patient", None),
}


@dataclass(frozen=True)
class Joined:
    """labels: a row for each file, in order. without: files of no row. unused: row numbers of no file."""

    labels: pl.DataFrame
    without: int
    unused: list[int]


def join_labels(
    files: pl.DataFrame,
    rows: pl.DataFrame,
    table: Path,
    key: Key,
    key_column: str | None,
    columns: dict[str, str],
    vocabulary: Vocabulary,
    names: Pseudonyms,
) -> Joined:
    """The columns (name here -> name in the table) of each file's row; `table` is where `rows` were read from.

    files: `file` (path below the folder), `image`, `study`, `accession`, `patient` as pseudonyms. Raises `DataError`
    naming the row, never the key: it may be a patient's number.
    """
    place = key_column or key
    for column in (place, *columns.values()):
        if column not in rows.columns:
            raise DataError(f"table {table}: {unknown_name('column', column, rows.columns)}")
    for label in vocabulary.names:
        if label in columns:
            _check_values(rows[columns[label]], label, table)
    compared, kind = _COMPARED[key]
    written = rows[place].cast(pl.String).str.strip_chars()
    if written.is_null().any() or (written == "").any():
        blank = (written.is_null() | (written == "").fill_null(True)).arg_true()
        raise DataError(f"table {table}: row {int(blank[0]) + 1} has no {place!r} ({len(blank)} rows have none).")
    if kind is not None:
        written = pl.Series(place, [names.of(kind, " ".join(value.split())) for value in written])
    if key == "file":
        files, written = _by_path_or_name(files, written.str.replace_all("\\", "/", literal=True), table)
    chosen = rows.select(pl.col(column).alias(name) for name, column in columns.items())
    chosen = chosen.with_columns(written.alias("_key"), pl.int_range(1, rows.height + 1).alias("_row"))
    twice = chosen.filter(pl.col("_key").is_duplicated())
    if twice.height:
        same = twice.filter(pl.col("_key") == twice["_key"][0])["_row"].to_list()
        raise DataError(
            f"table {table}: rows {', '.join(map(str, same[:5]))} have the same {place!r}; expected one row for each "
            f"({twice['_key'].n_unique()} stand more than once)."
        )
    joined = files.join(chosen, left_on=compared, right_on="_key", how="left", maintain_order="left")
    if joined["_row"].null_count() == joined.height:
        raise DataError(
            f"table {table}: none of its {rows.height} rows is of one of the {files.height} images when {place!r} is "
            f"read as {key}; correct `key:` or `key_column:`."
        )
    used = set(joined["_row"].drop_nulls().to_list())
    unused = [row for row in range(1, rows.height + 1) if row not in used]
    return Joined(joined.select(*columns), joined["_row"].null_count(), unused)


def _check_values(column: pl.Series, label: str, table: Path) -> None:
    if column.dtype != pl.String:
        column = column.cast(pl.Float64, strict=False) if column.dtype != pl.Boolean else column.cast(pl.Float64)
        column = column.cast(pl.String)
    text = column.str.strip_chars().replace("", None)
    values = text.cast(pl.Float64, strict=False)
    wrong = text.is_not_null() & ~values.is_in([0.0, 1.0, -1.0]).fill_null(False)
    if wrong.any():
        row = int(wrong.arg_true()[0])
        raise DataError(
            f"table {table}: row {row + 1}: label {label!r} must be 1, 0, -1 or blank, found {text[row][:40]!r}."
        )


def _by_path_or_name(files: pl.DataFrame, written: pl.Series, table: Path) -> tuple[pl.DataFrame, pl.Series]:
    """Paths below the folder as they are written; where the table has none, file names, if each is one file's alone."""
    if written.is_in(files["file"].to_list()).any():
        return files, written
    own = files.with_columns(pl.col("file").str.extract(r"([^/]+)$"))
    asked = own.filter(pl.col("file").is_duplicated() & pl.col("file").is_in(written.to_list()))
    if asked.height:
        raise DataError(
            f"table {table}: {asked['file'].n_unique()} of its file names are those of several files; write paths "
            "that start below the folder."
        )
    return own, written
