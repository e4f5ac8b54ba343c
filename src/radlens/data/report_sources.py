"""Where `radlens label` finds reports: IU-Xray's XML, or any table with a row a report."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from radlens.core.errors import DataError, SpecError, unknown_name
from radlens.core.reports import COLUMNS, SECTIONS, Reports, make_reports
from radlens.core.store import file_digest
from radlens.data.archive_members import is_archive
from radlens.data.iu_xray_reports import INSTALLED, read_iu_xray_reports
from radlens.data.tabular import read_table

# role -> names that published tables give its column, the likeliest first; case, `_` and `-` do not count
_USUAL: dict[str, tuple[str, ...]] = {
    "study_id": (
        *("study id", "study", "uid", "report id", "accession number", "id"),
        *("image id", "image index", "image", "dicom id", "path", "filename", "file name"),
    ),
    "patient_id": ("patient id", "subject id", "patient", "subject", "patientid"),
    **{section: (section,) for section in SECTIONS},
    "report": ("report", "text", "report text", "report impression"),
    # never guessed: a pipe-separated column may as well be anything else
    "codes": (),
}


def read_reports(source: str, folder: Path, columns: Mapping[str, str] | None = None) -> Reports:
    """Reports from the word `torchxrayvision`, IU-Xray's .tgz or folder of XML files, or a CSV, TSV or Parquet table.

    columns: role -> column of a table, where `usual` names do not find it. Roles: study_id (what names a report),
    patient_id, indication, comparison, findings, impression, report (the undivided text), codes (separated by `|`;
    blank is not assessed). All columns of a table stay under their own names behind these, for labelers that read
    labels from there. Relative paths start from `folder`.

    Raises `SpecError` for a role that does not exist or columns of a source that is no table; `DataError` for a column
    that does not exist, a table without any that names a report, and all that `make_reports` refuses.
    """
    named = dict(columns or {})
    for role in named:
        if role not in _USUAL:
            raise SpecError(f"columns: {unknown_name('role', role, _USUAL)}")
    path = folder / Path(source).expanduser()
    if source == INSTALLED or path.is_dir() or is_archive(path):
        if named:
            raise SpecError(f"columns: {source} holds XML reports, which have no columns to name; leave columns out.")
        return read_iu_xray_reports(source, folder)
    rows = read_table(path)
    absent = next((column for column in named.values() if column not in rows.columns), None)
    if absent is not None:
        raise DataError(f"table {path}: {unknown_name('column', absent, rows.columns)}")
    found = {role: column for role, names in _USUAL.items() if (column := _find(rows.columns, names)) is not None}
    found |= named
    if "study_id" not in found:
        raise DataError(
            f"table {path} has no column that is known to name a report (such as study_id, uid, id, path); say which "
            f"with study_id=COLUMN. Columns: {', '.join(rows.columns)}."
        )
    taken = [_codes(rows[column]) if role == "codes" else rows[column].alias(role) for role, column in found.items()]
    further = [rows[column] for column in rows.columns if column not in COLUMNS]
    left = [column for column in rows.columns if column in COLUMNS and column not in found.values()]
    notes = [f"column {column!r} of {path.name} is not used: another was named in its place." for column in left]
    facts = {"table": str(path), "sha256": file_digest(path), "rows": rows.height, "columns": found}
    return make_reports(path.name, pl.DataFrame([*taken, *further]), source=facts, notes=notes)


def _find(columns: list[str], names: tuple[str, ...]) -> str | None:
    plain = {re.sub(r"[\s_-]+", " ", column).strip().lower(): column for column in reversed(columns)}
    return next((plain[name] for name in names if name in plain), None)


def _codes(column: pl.Series) -> pl.Series:
    if isinstance(column.dtype, pl.List):
        return column.cast(pl.List(pl.String)).alias("codes")
    text = column.cast(pl.String).str.strip_chars().replace("", None)
    split = text.str.split("|").list.eval(pl.element().str.strip_chars())
    return split.list.eval(pl.element().filter(pl.element() != "")).alias("codes")
