"""Labels that stand in a table already, as CheXpert and MIMIC-CXR release theirs."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from radlens.core.errors import DataError, SpecError, unknown_name
from radlens.core.parts import Labeler, Progress, unheard
from radlens.core.registry import register
from radlens.core.reports import EVIDENCE, LabelledReports, Reports
from radlens.core.vocabulary import Vocabulary, load_vocabulary
from radlens.labels.label_table import first_in_each_study, label_values, read_rows

KEYS = ("study_id", "study", "studyinstanceuid", "report_id", "uid", "accession", "id")
"""Names of a column that holds the study, in lower case, the likeliest first."""


@register("labelers", "chexpert-csv")
class ChexpertCsv(Labeler):
    """Columns of 1, 0, -1 and blank, named as the labels, in a CSV or in the source's own table.

    table: a CSV (also .gz) joined to the reports by study; default: the columns that came with the reports. key: its
    column with the study's id (default: study_id or another usual name). columns: label -> column, where a column is
    not named as its label. A study whose labels are all blank, or that the table lacks, counts as not assessed.
    """

    table: str | None = None
    key: str | None = None
    columns: dict[str, str] | None = None

    def label(self, reports: Reports, folder: Path, work: Path, progress: Progress = unheard) -> LabelledReports:
        """Read the table; no report is read. Raises `DataError` naming file, row, column and value."""
        vocabulary = load_vocabulary(self.vocabulary, folder)
        if self.table is None:
            if self.key is not None:
                raise SpecError("labeler 'chexpert-csv': key names a column of `table:`, which is not given.")
            rows, key, where, origin = reports.table, "study_id", f"the table of {reports.name}", reports.name
        else:
            path = folder / self.table
            rows, where, origin = read_rows(path), f"label table {path}", path.name
            key = self._key(rows, where)
        named = self._columns(rows, vocabulary, where)
        values = [label_values(rows[column], where).alias(label) for label, column in named.items()]
        keys = rows[key].alias("study_id")
        labels = list(named)
        found = pl.DataFrame([keys, *values]).with_row_index("row")
        found = first_in_each_study(found, "study_id", labels, where)
        joined = reports.table.select("study_id").join(found, on="study_id", how="left", maintain_order="left")
        assessed = pl.any_horizontal(pl.col(label).is_not_null() for label in labels)
        table = joined.select("study_id", assessed.alias("assessed"), *labels)
        if not table["assessed"].any():
            raise DataError(
                f"{where} has a label for none of the {len(reports)} studies of {reports.name}: its {key!r} is such as "
                f"{keys[0]!r}, a study here such as {reports.table['study_id'][0]!r}; name another column with `key:`."
            )
        return LabelledReports(
            table,
            _evidence(joined, named, origin),
            f"columns of {origin}",
            notes=_notes(joined, table, found, where),
        )

    def _key(self, rows: pl.DataFrame, where: str) -> str:
        if self.key is not None:
            if self.key not in rows.columns:
                raise DataError(f"{where}: {unknown_name('column', self.key, rows.columns)}")
            return self.key
        lower = {column.lower().replace(" ", "_"): column for column in reversed(rows.columns)}
        for name in KEYS:
            if name in lower:
                return lower[name]
        raise DataError(
            f"{where} has no column 'study_id'; name the one that holds the study's id with `key:`. "
            f"Columns: {', '.join(rows.columns)}."
        )

    def _columns(self, rows: pl.DataFrame, vocabulary: Vocabulary, where: str) -> dict[str, str]:
        for label, column in (self.columns or {}).items():
            if label not in vocabulary.names:
                raise SpecError(f"labeler 'chexpert-csv', columns: {unknown_name('label', label, vocabulary.names)}")
            if column not in rows.columns:
                raise DataError(f"{where}: {unknown_name('column', column, rows.columns)}")
        named = {label: label for label in vocabulary.names if label in rows.columns} | (self.columns or {})
        if not named:
            raise DataError(
                f"{where} has a column for none of the labels of {vocabulary.name} (such as {vocabulary.names[0]!r}); "
                "name the file that has them with `table:`, or its columns with `columns: {label: column}`."
            )
        return {label: named[label] for label in vocabulary.names if label in named}


def _evidence(joined: pl.DataFrame, named: dict[str, str], source: str) -> pl.DataFrame:
    said = pl.format("{}, row {}, column ", pl.lit(source), pl.col("row") + 1)
    parts = [
        joined.filter(pl.col(label).is_not_null()).select(
            "study_id",
            pl.lit(label).alias("label"),
            pl.col(label).alias("value"),
            (said + pl.lit(column)).alias("because"),
        )
        for label, column in named.items()
    ]
    return pl.concat(parts).select(pl.col(name).cast(dtype) for name, dtype in EVIDENCE.items())


def _notes(joined: pl.DataFrame, table: pl.DataFrame, found: pl.DataFrame, where: str) -> tuple[str, ...]:
    absent = joined["row"].null_count()
    blank = int((~table["assessed"]).sum()) - absent
    surplus = found.height - (joined.height - absent)
    told = (
        (absent, f"{absent} of {joined.height} studies are not in {where}: not assessed."),
        (blank, f"{blank} of {joined.height} studies have only blanks in {where}: not assessed."),
        (surplus, f"{surplus} studies in {where} have no report here and were left out."),
    )
    return tuple(sentence for count, sentence in told if count)
