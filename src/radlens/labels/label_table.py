"""Label tables as files: 1 (present), 0 (absent), -1 (uncertain) or blank, a row a study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from radlens.core.errors import DataError
from radlens.core.reports import EVIDENCE, LabelledReports
from radlens.core.store import writing
from radlens.core.vocabulary import Vocabulary

ASSESSED = "assessed"
_TWICE = "_duplicated_0"  # what polars calls the second of two columns of one name


def read_rows(path: Path) -> pl.DataFrame:
    """Rows of a CSV (also .gz), every column as text without blanks around it, an empty field as null.

    Raises `DataError` in one sentence for a file that is missing, empty, not UTF-8, or has a column name twice.
    """
    rows = _read_csv(path, "label file")
    if rows.height == 0:
        raise DataError(f"label file {path} has column names but no rows.")
    return rows.with_columns(pl.all().str.strip_chars().replace("", None))


def _read_csv(path: Path, kind: str) -> pl.DataFrame:
    try:
        rows = pl.read_csv(path, infer_schema=False)
    except FileNotFoundError as error:
        raise DataError(f"{kind} {path} does not exist; expected a CSV with a row a study.") from error
    except pl.exceptions.NoDataError as error:
        raise DataError(f"{kind} {path} is empty; expected a line of column names and a row a study.") from error
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")[:160]
        raise DataError(f"{kind} {path} cannot be read as a CSV in UTF-8: {reason}.") from error
    rows = rows.rename(lambda name: name.removeprefix("\ufeff").strip())
    twice = [name for name in rows.columns if name.endswith(_TWICE)]
    if twice:
        raise DataError(f"{kind} {path}: column {twice[0].removesuffix(_TWICE)!r} stands twice; rename one of them.")
    return rows


def label_values(column: pl.Series, where: str) -> pl.Series:
    """Int8 1, 0, -1 or null from a column of text or numbers (`1`, `1.0`, `-1.0`, blank).

    Anything else (a word, 0.5) raises `DataError` naming `where`, row, column and value; row 1 is the first study.
    """
    text = column.cast(pl.String).str.strip_chars().replace("", None)
    numbers = text.cast(pl.Float64, strict=False)
    wrong = text.is_not_null() & ~numbers.is_in([1.0, 0.0, -1.0]).fill_null(False)
    if wrong.any():
        row = int(wrong.arg_true()[0])
        raise DataError(
            f"{where}, row {row + 1}, column {column.name!r}: expected 1, 0, -1 or blank, found {text[row]!r}."
        )
    return numbers.cast(pl.Int8).alias(column.name)


def first_in_each_study(rows: pl.DataFrame, key: str, labels: Sequence[str], where: str) -> pl.DataFrame:
    """One row a study: rows that name a study again (a row an image) must say the same of it.

    rows: a column `row` counting from 0, `key`, and `labels`. Raises `DataError` naming the first two rows of a study
    that contradict each other, or a row without a study.
    """
    if rows[key].null_count():
        row = int(rows[key].is_null().arg_true()[0])
        raise DataError(f"{where}, row {row + 1}, column {key!r}: expected the id of a study, found nothing.")
    first = rows.unique(key, keep="first", maintain_order=True)
    if first.height == rows.height:
        return first
    distinct = rows.unique([key, *labels], keep="first", maintain_order=True)
    if distinct.height > first.height:
        twice = distinct.filter(pl.col(key).is_duplicated())
        study = twice[key][0]
        here, there = (twice.filter(pl.col(key) == study)["row"] + 1).to_list()[:2]
        raise DataError(f"{where}: rows {here} and {there} give study {study!r} different labels; keep one of them.")
    return first


def write_labels(labelled: LabelledReports, path: Path) -> tuple[Path, Path]:
    """Write what a labeler found as CSV, each file whole or not at all; returns both paths.

    `path` gets a row a study (study_id, assessed, the labels); `<stem>.evidence.csv` beside it a row for each mention
    or code that decided a value (study_id, label, value, because).
    """
    beside = evidence_path(path)
    with writing(path) as aside:
        labelled.table.write_csv(aside)
    with writing(beside) as aside:
        labelled.evidence.write_csv(aside)
    return path, beside


def evidence_path(path: Path) -> Path:
    """Where the evidence of a label file lies: `labels.csv` -> `labels.evidence.csv`."""
    return path.with_name(f"{path.name.removesuffix('.csv')}.evidence.csv")


@dataclass(frozen=True)
class LabelFile:
    """A label file that was read.

    table: study_id (unique), assessed (boolean), then an Int8 column for each label that the file has. evidence: the
    columns of `EVIDENCE`; empty where no file lies beside.
    """

    path: Path
    table: pl.DataFrame
    evidence: pl.DataFrame

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels that the file has, in the vocabulary's order."""
        return tuple(self.table.columns[2:])


def read_labels(path: Path, vocabulary: Vocabulary) -> LabelFile:
    """Read a label file as `write_labels` writes it, or any CSV with a `study_id` and columns named as labels.

    Without a column `assessed` a study counts as assessed where it has any value. Raises `DataError` naming file, row,
    column and value.
    """
    rows = read_rows(path)
    where = f"label file {path}"
    if "study_id" not in rows.columns:
        raise DataError(f"{where} has no column 'study_id'; it has {', '.join(rows.columns)}.")
    labels = [label for label in vocabulary.names if label in rows.columns]
    if not labels:
        raise DataError(
            f"{where} has a column for none of the labels of {vocabulary.name} (such as {vocabulary.names[0]!r}); it "
            f"has {', '.join(rows.columns)}."
        )
    values = [label_values(rows[label], where) for label in labels]
    table = pl.DataFrame([rows["study_id"], *values]).with_row_index("row")
    if ASSESSED in rows.columns:
        table = table.with_columns(_truth(rows[ASSESSED], where))
    else:
        table = table.with_columns(pl.any_horizontal(pl.col(n).is_not_null() for n in labels).alias(ASSESSED))
    table = first_in_each_study(table, "study_id", [ASSESSED, *labels], where)
    return LabelFile(path, table.select("study_id", ASSESSED, *labels), _read_evidence(evidence_path(path)))


def _read_evidence(path: Path) -> pl.DataFrame:
    if not path.is_file():
        return pl.DataFrame(schema=EVIDENCE)
    rows = _read_csv(path, "evidence file")  # no rows where a labeler decided nothing
    missing = [column for column in EVIDENCE if column not in rows.columns]
    if missing:
        raise DataError(f"evidence file {path} has no column {missing[0]!r}; expected {', '.join(EVIDENCE)}.")
    return rows.select(*EVIDENCE).with_columns(label_values(rows["value"], f"evidence file {path}"))


def _truth(column: pl.Series, where: str) -> pl.Series:
    text = column.str.to_lowercase()
    wrong = ~text.is_in(["true", "false", "1", "0"]).fill_null(False)
    if wrong.any():
        row = int(wrong.arg_true()[0])
        raise DataError(f"{where}, row {row + 1}, column {ASSESSED!r}: expected true or false, found {column[row]!r}.")
    return text.is_in(["true", "1"]).alias(ASSESSED)
