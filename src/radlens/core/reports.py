"""Radiology reports, and what a labeler makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import polars as pl

from radlens.core.cohort import Cohort, LeftOut, Uncertain, make_cohort
from radlens.core.errors import DataError
from radlens.core.vocabulary import Vocabulary

SECTIONS = ("indication", "comparison", "findings", "impression")
COLUMNS: dict[str, Any] = {
    "study_id": pl.String,
    "patient_id": pl.String,
    **dict.fromkeys(SECTIONS, pl.String),
    "report": pl.String,
    "codes": pl.List(pl.String),
}
EVIDENCE: dict[str, Any] = {"study_id": pl.String, "label": pl.String, "value": pl.Int8, "because": pl.String}
Unmentioned = Literal["negative", "ignore"]


@dataclass(frozen=True)
class Reports:
    """Reports of a collection, frozen: one row a study. Make it with `make_reports`, which checks the table.

    table: the columns of `COLUMNS`, then any further column of the source. `study_id` is unique and never null;
    `report` is the whole text where a source does not divide it. codes: what human indexers wrote down, as the source
    writes it; null where nobody indexed the report (not the same as an empty list: indexed, and nothing found).
    """

    name: str
    table: pl.DataFrame
    source: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    left_out: tuple[LeftOut, ...] = ()

    def __len__(self) -> int:
        return self.table.height

    def text(self, sections: Sequence[str] = ("findings", "impression")) -> list[str | None]:
        """(N,) the sections joined by a blank line; the whole report where none of them is known; None without text."""
        known = pl.concat_str([pl.col(name) for name in sections], separator="\n\n", ignore_nulls=True)
        either = pl.when(known.str.strip_chars() != "").then(known).otherwise(pl.col("report")).str.strip_chars()
        return self.table.select(pl.when(either == "").then(None).otherwise(either).alias("text"))["text"].to_list()


def make_reports(
    name: str,
    table: pl.DataFrame,
    *,
    source: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
    left_out: Sequence[LeftOut] = (),
) -> Reports:
    """Check and freeze reports. Raises `DataError` for a missing or duplicated `study_id`, or when there is none."""
    for column, dtype in COLUMNS.items():
        if column not in table.columns:
            table = table.with_columns(pl.lit(None, dtype).alias(column))
    table = table.with_columns(pl.col(column).cast(dtype) for column, dtype in COLUMNS.items())
    texts = [pl.col(c).str.strip_chars().replace("", None) for c, dtype in COLUMNS.items() if dtype == pl.String]
    table = table.with_columns(texts)
    if table.height == 0:
        raise DataError(f"{name}: expected at least one report, found none.")
    if table["study_id"].null_count():
        row = int(table["study_id"].is_null().arg_true()[0])
        raise DataError(f"{name}: row {row + 1} has no study id.")
    twice = table.with_row_index("row").filter(pl.col("study_id").is_duplicated())
    if twice.height:
        first = twice["study_id"][0]
        rows = (twice.filter(pl.col("study_id") == first)["row"] + 1).to_list()
        raise DataError(f"{name}: study id {first!r} stands in rows {rows[:5]}; expected one report a study.")
    further = [column for column in table.columns if column not in COLUMNS]
    return Reports(name, table.select(*COLUMNS, *further), dict(source or {}), tuple(notes), tuple(left_out))


@dataclass(frozen=True)
class LabelledReports:
    """What a labeler found.

    table: study_id, `assessed` (boolean: False where there was nothing to read), then one Int8 column a label: 1, 0,
    -1 (uncertain) or null (not mentioned). A label that the labeler cannot assess has no column. evidence: the columns
    of `EVIDENCE`, a row for each mention or code that decided a value. origin: one phrase that says where the labels
    come from. unknown: code or phrase that the labeler does not know -> how often it occurs.
    """

    table: pl.DataFrame
    evidence: pl.DataFrame
    origin: str
    unknown: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def reports_of(cohort: Cohort) -> Reports:
    """The reports in a cohort's `report` column, one a study (an image without a study is one of its own).

    Where images of one study carry different texts the first stands. Raises `DataError` when no image has a report.
    """
    keyed = cohort.table.select(study_key().alias("study_id"), "patient_id", "report")
    if keyed["report"].null_count() == keyed.height:
        raise DataError(f"cohort {cohort.name}: a labeler needs reports, and no image has one.")
    first = keyed.group_by("study_id", maintain_order=True).agg(
        pl.col("patient_id").first(), pl.col("report").drop_nulls().first()
    )
    return make_reports(cohort.name, first, source=cohort.source)


def study_key() -> pl.Expr:
    """What names an image's report: its study, or the image itself where the source names no study."""
    return pl.coalesce("study_id", "image_id")


def apply_labels(
    cohort: Cohort, labelled: LabelledReports, uncertain: Uncertain = "ignore", unmentioned: Unmentioned = "negative"
) -> Cohort:
    """The cohort with the labels of its reports, joined by `study_key`; labels that it had are replaced.

    uncertain: what -1 becomes. unmentioned: what a label becomes that an assessed report does not mention. Images
    whose report is missing or was not assessed are null throughout. Notes say how many values each policy decided.
    """
    vocabulary = cohort.vocabulary
    found = labelled.table.select("study_id", "assessed", *(n for n in vocabulary.names if n in labelled.table.columns))
    kept = cohort.table.drop(*vocabulary.names)
    joined = kept.with_columns(study_key().alias("_key")).join(
        found.rename({"study_id": "_key"}), on="_key", how="left", maintain_order="left"
    )
    assessed = joined["assessed"].fill_null(False)
    names = [name for name in vocabulary.names if name in joined.columns]
    notes = [*cohort.notes, *labelled.notes]
    if not assessed.all():
        notes.append(
            f"{int((~assessed).sum())} of {len(cohort)} images have no assessed report: their labels are null."
        )
    if unmentioned == "negative":
        blank = joined.select(pl.col(n).is_null() & pl.col("assessed") for n in names).sum().sum_horizontal()[0]
        joined = joined.with_columns(
            pl.when(pl.col("assessed")).then(pl.col(n).fill_null(0)).otherwise(pl.col(n)).alias(n) for n in names
        )
        if blank:
            notes.append("a finding that a report does not mention counts as absent (unmentioned: negative).")
    origins = {
        name: labelled.origin if name in names else f"not assessed by {labelled.origin}" for name in vocabulary.names
    }
    return make_cohort(
        cohort.name,
        joined.drop("_key", "assessed"),
        vocabulary,
        uncertain=uncertain,
        source=cohort.source,
        notes=[note for note in notes if "name no patient" not in note],
        origins=origins,
        left_out=cohort.left_out,
    )


def check_vocabulary(vocabulary: Vocabulary, needed: Sequence[str], labeler: str) -> None:
    """Raise `DataError` when a labeler makes none of a vocabulary's labels."""
    if not set(needed) & set(vocabulary.names):
        raise DataError(
            f"labeler {labeler!r} makes none of the labels of {vocabulary.name}; it makes {', '.join(needed)}."
        )
