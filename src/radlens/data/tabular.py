"""Read a table file with every text column as it is written: an id such as 00000061 keeps its zeros."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.csv as pc

from radlens.core.errors import DataError

_SEPARATORS = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".txt": "\t"}
_PARQUET = (".parquet", ".pq")


def read_table(path: Path, separator: str | None = None) -> pl.DataFrame:
    """Rows of a CSV, TSV (also .gz) or Parquet file; blank is null, every CSV column is text, rows are not checked.

    Whole numbers that a Parquet file holds as floats (a column with gaps) become integers, so that 61.0 reads 61.
    Raises `DataError` in one sentence for a file that is missing, empty, not UTF-8, or has a row with too few or too
    many fields or a column name that stands twice.
    """
    try:
        size = path.stat().st_size if path.is_file() else None
    except OSError as error:
        raise DataError(f"table {path} cannot be read: {error.strerror}.") from error
    if size is None:
        what = "is a folder" if path.is_dir() else "does not exist"
        raise DataError(f"table {path} {what}; expected a CSV, TSV or Parquet file.")
    if size == 0:
        raise DataError(f"table {path} is empty (0 bytes).")
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    suffix = suffixes[-1] if suffixes else ""
    try:
        if suffix in _PARQUET:
            rows = _whole_numbers(pl.read_parquet(path))
        elif suffix in _SEPARATORS:
            rows = _read_text(path, separator or _SEPARATORS[suffix])
        else:
            raise DataError(f"table {path}: expected a name that ends in .csv, .tsv, .tab, .txt or .parquet.")
    except (pa.ArrowException, pl.exceptions.PolarsError, OSError, UnicodeDecodeError) as error:
        raise DataError(f"table {path} {_reason(str(error))}") from error
    if rows.height == 0:
        raise DataError(f"table {path} has column names but no rows.")
    return rows


def _read_text(path: Path, separator: str) -> pl.DataFrame:
    if len(separator) != 1:
        raise DataError(f"separator must be one character, found {separator!r}.")
    parse = pc.ParseOptions(delimiter=separator, newlines_in_values=True)
    # A first look takes the names alone: what pyarrow would guess of the types is not asked for.
    with pc.open_csv(path, parse_options=parse, read_options=pc.ReadOptions(use_threads=False)) as reader:
        names: list[str] = reader.schema.names
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"table {path}: column {twice[0]!r} stands twice; rename one of them.")
    other = next((sign for sign in ";\t|," if len(names) == 1 and sign in names[0]), None)
    if other is not None:
        raise DataError(f"table {path} has one column, {names[0]!r}; name its separator: `separator: {other!r}`.")
    as_text = pc.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()),
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=True,
    )
    # One thread: only then does an error say in which row it is.
    read = pc.ReadOptions(use_threads=False)
    rows = pl.from_arrow(pc.read_csv(path, read_options=read, parse_options=parse, convert_options=as_text))
    assert isinstance(rows, pl.DataFrame)
    return rows


def _whole_numbers(rows: pl.DataFrame) -> pl.DataFrame:
    # pandas writes a blank as NaN.
    floats = [name for name, dtype in rows.schema.items() if dtype.is_float()]
    rows = rows.with_columns(pl.col(floats).fill_nan(None)) if floats else rows
    whole = [name for name in floats if _is_whole(rows[name].drop_nulls())]
    return rows.with_columns(pl.col(whole).cast(pl.Int64, strict=False)) if whole else rows


def _is_whole(values: pl.Series) -> bool:
    return bool((values.is_finite() & (values == values.round()) & (values.abs() < 2**53)).all())


def _reason(error: str) -> str:
    first = error.splitlines()[0].removeprefix("CSV parse error: ").rstrip(".")
    if "utf-8" in error.lower() or "utf8" in error.lower():
        return f"is not UTF-8 text ({first}); save it as UTF-8."
    if "Empty CSV" in error:
        return "is empty: expected a line of column names and a row an image."
    ragged = re.search(r"Row #(\d+): Expected (\d+) columns, got (\d+)", error)
    if ragged:
        row, expected, found = (int(number) for number in ragged.groups())
        # pyarrow counts the line of names as row 1; everywhere else row 1 is the first image.
        where = f"row {row - 1} has {found} fields" if row > 1 else f"a row has {found} fields"
        return f"cannot be read: {where}, expected {expected}; look for a missing or surplus separator or quote there."
    return f"cannot be read: {first[:200]}; check that it is a whole table of this format."
