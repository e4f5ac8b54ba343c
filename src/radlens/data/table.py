"""Any table of images: CSV, TSV or Parquet, its columns named in the study file."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import polars as pl

from radlens.core.cohort import COLUMNS, Cohort, Uncertain, make_cohort
from radlens.core.errors import DataError, SpecError, unknown_name
from radlens.core.parts import Dataset, Progress, unheard
from radlens.core.registry import register
from radlens.core.store import file_digest
from radlens.core.vocabulary import Vocabulary, load_vocabulary
from radlens.data.tabular import read_table

# a drive letter makes a path absolute on Windows alone
_ABSOLUTE = r"^([A-Za-z]:)?[/\\]" if os.name == "nt" else "^/"


@register("datasets", "table")
class Table(Dataset):
    """A CSV, TSV or Parquet file with a row an image, beside a folder of images.

    table: the file. images: what image paths start from (default: the table's folder). image_column: the path of an
    image in `images`. id_column: what names an image (default: its file name, or its path as written where two file
    names are equal). patient_column, study_column, view_column, report_column: null where not given. labels: label of
    the vocabulary -> column (default: a column of the label's own name; a table with reports may have none, and leaves
    them to a labeler). uncertain: what -1 becomes. keep: further
    columns to keep (default: all the others). separator: of a CSV (default: comma; tab for .tsv and .tab). collection:
    what the table is a copy of, such as `iu-xray`: where figures on it were published, the report shows them beside.
    """

    table: str
    image_column: str
    images: str | None = None
    id_column: str | None = None
    patient_column: str | None = None
    study_column: str | None = None
    view_column: str | None = None
    report_column: str | None = None
    labels: dict[str, str] | None = None
    uncertain: Uncertain = "ignore"
    keep: tuple[str, ...] | None = None
    separator: str | None = None
    collection: str | None = None

    def load(self, folder: Path, work: Path, progress: Progress = unheard) -> Cohort:
        """Read and check the table; that the images exist is not looked at here (`presence.missing_images`)."""
        vocabulary = load_vocabulary(self.vocabulary, folder)
        path = folder / self.table
        rows = read_table(path, self.separator)
        known = self._column(rows, path, self._named())
        label_columns = self._label_columns(rows, path, vocabulary)
        images = folder / self.images if self.images is not None else path.parent
        try:
            there = images.is_dir()
        except OSError as error:
            raise DataError(f"image folder {images} cannot be read: {error.strerror}.") from error
        if not there:
            raise DataError(f"image folder {images} does not exist; name it with `images:`.")
        notes: list[str] = []
        columns = [rows[column].alias(role) for role, column in known.items() if role not in ("image", "image_id")]
        columns += self._images(rows, path, images, notes)
        columns += [rows[column].alias(label) for label, column in label_columns.items()]
        taken = {*known.values(), *label_columns.values()}
        columns += self._further(rows, path, vocabulary, taken, notes)
        source: dict[str, Any] = {
            "dataset": "table",
            "table": str(path),
            "images": str(images),
            "sha256": file_digest(path),
            "rows": rows.height,
        } | ({"collection": self.collection} if self.collection else {})
        return make_cohort(
            path.name,
            pl.DataFrame(columns),
            vocabulary,
            uncertain=self.uncertain,
            source=source,
            notes=notes,
            origins={label: f"column {column!r} of {path.name}" for label, column in label_columns.items()},
            labelled=bool(label_columns),
        )

    def _named(self) -> dict[str, str]:
        roles = {
            "image": self.image_column,
            "image_id": self.id_column,
            "patient_id": self.patient_column,
            "study_id": self.study_column,
            "view": self.view_column,
            "report": self.report_column,
        }
        return {role: column for role, column in roles.items() if column is not None}

    @staticmethod
    def _column(rows: pl.DataFrame, path: Path, named: dict[str, str]) -> dict[str, str]:
        for column in named.values():
            if column not in rows.columns:
                raise DataError(f"table {path}: {unknown_name('column', column, rows.columns)}")
        return named

    def _label_columns(self, rows: pl.DataFrame, path: Path, vocabulary: Vocabulary) -> dict[str, str]:
        if self.labels is not None:
            for label in self.labels:
                if label not in vocabulary.names:
                    raise SpecError(f"labels: {unknown_name('label', label, vocabulary.names)}")
            return self._column(rows, path, self.labels)
        found = {label: label for label in vocabulary.names if label in rows.columns}
        if not found and self.report_column is None:
            raise DataError(
                f"table {path} has a column for none of the {len(vocabulary)} labels of {vocabulary.name} "
                f"(such as {vocabulary.names[0]!r}); map them with `labels: {{label: column}}`. "
                f"Columns: {', '.join(rows.columns)}."
            )
        return found

    def _images(self, rows: pl.DataFrame, path: Path, images: Path, notes: list[str]) -> list[pl.Series]:
        written = rows[self.image_column]
        written = written if written.dtype == pl.String else written.cast(pl.String)
        _no_blank(written, path, self.image_column)
        base = str(images) if str(images).endswith(os.sep) else f"{images}{os.sep}"
        paths = written.to_frame("image").select(
            pl.when(pl.col("image").str.contains(_ABSOLUTE))
            .then(pl.col("image"))
            .otherwise(pl.lit(base) + pl.col("image"))
            .alias("path")
        )["path"]
        if self.id_column is not None:
            _no_blank(rows[self.id_column], path, self.id_column)
            return [paths, rows[self.id_column].alias("image_id")]
        names = written.str.extract(r"([^/\\]+)$").fill_null(written)
        if names.n_unique() < written.n_unique():
            notes.append("images are named by their path in the table, since two of them have the same file name.")
            names = written
        return [paths, names.alias("image_id")]

    def _further(
        self, rows: pl.DataFrame, path: Path, vocabulary: Vocabulary, taken: set[str], notes: list[str]
    ) -> Iterable[pl.Series]:
        wanted = self.keep if self.keep is not None else tuple(c for c in rows.columns if c not in taken)
        self._column(rows, path, {column: column for column in wanted})
        reserved = {*COLUMNS, *vocabulary.names}
        left_out = [column for column in wanted if column in reserved]
        if left_out:
            names = ", ".join(repr(column) for column in left_out)
            notes.append(f"{path.name} also has {names}, which no option of the study names: left out.")
        return [rows[column] for column in wanted if column not in reserved]


def _no_blank(column: pl.Series, path: Path, name: str) -> None:
    blank = column.is_null()
    if column.dtype == pl.String:
        blank |= column.str.strip_chars() == ""
    if blank.any():
        row = int(blank.arg_true()[0]) + 1
        raise DataError(f"table {path}: row {row} has no {name!r} ({int(blank.sum())} rows have none); fill it in.")
