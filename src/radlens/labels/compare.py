"""Two label files of the same studies, side by side: agreement for each label, and where they disagree."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import polars.selectors as cs
from rich.console import Console

from radlens.core.cohort import Uncertain
from radlens.core.errors import DataError
from radlens.core.store import writing
from radlens.core.vocabulary import Vocabulary, load_vocabulary
from radlens.labels.agreement import LEAST_POSITIVES, agreement
from radlens.labels.label_table import LabelFile, read_labels

VALUES = {"1": 1, "0": 0, "-1": -1, "blank": None}
"""Name of a count -> the value counted."""
WITH_NO_FINDING = ("Support Devices",)
"""May be positive beside No Finding: a device is no disease (CheXpert, Irvin et al., AAAI 2019, section 2)."""
_UNSURE = {
    "zeros": "-1 counts as not positive",
    "ones": "-1 counts as positive",
    "ignore": "studies where either says -1 are left out of that label",
}


@dataclass(frozen=True)
class LabelComparison:
    """Two label files, compared over the studies that both assessed.

    studies: one row: in both files, in each alone, not assessed in each, compared. labels: a row a label: compared
    studies by value in each file (`a_1`, `a_0`, `a_-1`, `a_blank`, `b_...`), then `n` and the four cells, share,
    positive_agreement, kappa, low, high and reason of `agreement`; a label that one file lacks has nulls and a reason.
    disagreements: study_id, label, a, b, because_a, because_b where one is positive and the other not. incoherent: a
    row a file and value (1 or -1) of a finding beside "No Finding" = 1: studies, and the first of them. definition:
    how values became positive or not, in one sentence.
    """

    a: Path
    b: Path
    studies: pl.DataFrame
    labels: pl.DataFrame
    disagreements: pl.DataFrame
    incoherent: pl.DataFrame
    definition: str

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Write `comparison.csv` (a row a label; NaN is blank) and `disagreements.csv` whole; returns their paths."""
        paths = folder / "comparison.csv", folder / "disagreements.csv"
        for path, table in zip(paths, (self.labels, self.disagreements), strict=True):
            with writing(path) as aside:
                table.with_columns(cs.float().fill_nan(None)).write_csv(aside, float_precision=6)
        return paths

    def render(self, console: Console, disagreements: int = 5) -> None:
        """Print the tables; where nobody watches (a pipe, a file) as plain text 120 columns wide.

        disagreements: how many to show for each label.
        """
        from radlens.labels.compare_render import render

        render(self, console, disagreements)


def compare_labels(
    a: Path, b: Path, vocabulary: Vocabulary | None = None, uncertain: Uncertain = "zeros"
) -> LabelComparison:
    """Compare two label files, joined by study.

    vocabulary: whose columns are looked at (default: chexpert-14). Each value becomes positive (1) or not (0, or blank:
    not mentioned); uncertain: what -1 becomes, by default not positive. Studies that either did not assess are left
    out. Raises `DataError` for a file that is no label file, or when no study is in both.
    """
    vocabulary = vocabulary or load_vocabulary("chexpert-14")
    files = read_labels(a, vocabulary), read_labels(b, vocabulary)
    studies = _studies(*files)
    both = _join(*files)
    rows = [_label(both, label, files, uncertain) for label in vocabulary.names if _known(label, files)]
    shared = [label for label in vocabulary.names if all(label in file.labels for file in files)]
    return LabelComparison(
        a,
        b,
        studies,
        pl.DataFrame(rows, schema=_SCHEMA, orient="row"),
        _disagreements(both, shared, files, uncertain),
        pl.concat(_incoherent(file, name, vocabulary) for file, name in zip(files, "ab", strict=True)),
        f"positive is 1; 0 and blank (not mentioned) are not positive; {_UNSURE[uncertain]}; studies that either "
        f"file did not assess are left out. alike: share judged alike; pos.: positive agreement, 2 x both / (positives "
        f"of a + positives of b). 95 % interval of kappa: large-sample (Fleiss, Cohen and Everitt 1969), "
        f"studies taken as independent, none below {LEAST_POSITIVES} positives in either file.",
    )


_NUMBERS = {"n": pl.Int64, "both": pl.Int64, "only_a": pl.Int64, "only_b": pl.Int64, "neither": pl.Int64}
_SHARES = dict.fromkeys(("share", "positive_agreement", "kappa", "low", "high"), pl.Float64)
_COUNTS = dict.fromkeys((f"{file}_{value}" for file in "ab" for value in VALUES), pl.Int64)
_CELL = ["study_id", "label"]
_SCHEMA = pl.Schema({"label": pl.String, **_COUNTS, **_NUMBERS, **_SHARES, "reason": pl.String})


def _known(label: str, files: tuple[LabelFile, LabelFile]) -> bool:
    return any(label in file.labels for file in files)


def _studies(a: LabelFile, b: LabelFile) -> pl.DataFrame:
    here, there = (file.table.select("study_id", "assessed") for file in (a, b))
    joined = here.join(there, on="study_id", suffix="_b")
    if joined.height == 0:
        raise DataError(
            f"{a.path} and {b.path} have no study in common: {here['study_id'][0]!r} stands in the one, "
            f"{there['study_id'][0]!r} in the other; compare label files of the same reports."
        )
    compared = joined.filter(pl.col("assessed") & pl.col("assessed_b")).height
    return pl.DataFrame(
        {
            "both": [joined.height],
            "only_a": [here.height - joined.height],
            "only_b": [there.height - joined.height],
            "not_assessed_a": [joined.filter(~pl.col("assessed")).height],
            "not_assessed_b": [joined.filter(~pl.col("assessed_b")).height],
            "compared": [compared],
        }
    )


def _join(a: LabelFile, b: LabelFile) -> pl.DataFrame:
    """Studies that both assessed: study_id, then `a:LABEL` and `b:LABEL`."""
    named = [
        file.table.filter("assessed").select(
            "study_id", *(pl.col(label).alias(f"{name}:{label}") for label in file.labels)
        )
        for name, file in zip("ab", (a, b), strict=True)
    ]
    return named[0].join(named[1], on="study_id", maintain_order="left")


def _positive(column: str, uncertain: Uncertain) -> pl.Expr:
    """True, False, or null for a value that is left out."""
    value = pl.col(column)
    unsure = {"zeros": pl.lit(False), "ones": pl.lit(True), "ignore": pl.lit(None, pl.Boolean)}[uncertain]
    return pl.when(value == -1).then(unsure).otherwise((value == 1).fill_null(False))


def _label(
    both: pl.DataFrame, label: str, files: tuple[LabelFile, LabelFile], uncertain: Uncertain
) -> tuple[str | int | float | None, ...]:
    counts: list[int | None] = []
    for name, file in zip("ab", files, strict=True):
        if label not in file.labels:
            counts += [None] * len(VALUES)
            continue
        column = both[f"{name}:{label}"]
        counts += [column.null_count() if v is None else int((column == v).sum()) for v in VALUES.values()]
    lacking = [file.path.name for file in files if label not in file.labels]
    if lacking:
        return (label, *counts, *[None] * (len(_NUMBERS) + len(_SHARES)), f"not assessed in {lacking[0]}")
    judged = both.select(_positive(f"{name}:{label}", uncertain).alias(name) for name in "ab").drop_nulls()
    result = agreement(judged["a"].to_numpy().astype(bool), judged["b"].to_numpy().astype(bool))
    return (label, *counts, *dataclasses.astuple(result))


def _disagreements(
    both: pl.DataFrame, labels: list[str], files: tuple[LabelFile, LabelFile], uncertain: Uncertain
) -> pl.DataFrame:
    columns = {"study_id": pl.String, "label": pl.String, "a": pl.Int8, "b": pl.Int8}
    parts = [pl.DataFrame(schema=columns)]
    for label in labels:
        unlike = _positive(f"a:{label}", uncertain) != _positive(f"b:{label}", uncertain)
        here = both.filter(unlike)
        parts.append(here.select("study_id", pl.lit(label).alias("label"), a=f"a:{label}", b=f"b:{label}"))
    found = pl.concat(parts)
    for name, file in zip("ab", files, strict=True):
        # of all evidence, only what is needed is put together
        each = file.evidence.join(found, on=_CELL, how="semi").drop_nulls("because")
        each = each.unique([*_CELL, "because"], keep="first", maintain_order=True)
        joined = pl.col("because").str.join(" | ").alias(f"because_{name}")
        reasons = each.group_by(_CELL, maintain_order=True).agg(joined)
        found = found.join(reasons, on=_CELL, how="left", maintain_order="left")
    return found


def _incoherent(file: LabelFile, name: str, vocabulary: Vocabulary) -> pl.DataFrame:
    normal = vocabulary.no_finding
    others = [label for label in file.labels if label != normal and label not in WITH_NO_FINDING]
    rows = []
    for value in (1, -1):
        studies: list[str] = []
        if normal in file.labels and others:
            beside = pl.any_horizontal((pl.col(label) == value).fill_null(False) for label in others)
            studies = file.table.filter((pl.col(normal) == 1) & beside)["study_id"].to_list()
        rows.append((name, value, len(studies), studies[:5]))
    schema: dict[str, Any] = {"file": pl.String, "value": pl.Int8, "studies": pl.Int64, "examples": pl.List(pl.String)}
    return pl.DataFrame(rows, schema=schema, orient="row")
