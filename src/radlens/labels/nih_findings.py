"""Findings as NIH ChestX-ray14 writes them: names in one cell, divided by a bar."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from radlens.core.errors import DataError
from radlens.core.mapping import FindingMapping, load_mapping
from radlens.core.parts import Labeler, Progress, unheard
from radlens.core.registry import register
from radlens.core.reports import EVIDENCE, LabelledReports, Reports, check_vocabulary
from radlens.core.vocabulary import load_vocabulary


@register("labelers", "nih-findings")
class NihFindings(Labeler):
    """The finding names of ChestX-ray14 (`Infiltration|Mass`, `No Finding`), mapped to the labels.

    column: a column of the source's table with the names, divided by `|`; where the source has none, the reports'
    codes are read. A finding that a study does not name is absent (0), since the source names all that it looks for; a
    label that the source does not look for has no column. A study without a finding, or whose every name is unknown,
    is not assessed. Names and their labels: `core/mappings/nih-cxr14.toml`.
    """

    column: str = "Finding Labels"

    def label(self, reports: Reports, folder: Path, work: Path, progress: Progress = unheard) -> LabelledReports:
        """Map the findings of every study. Raises `DataError` where the source has none."""
        mapping = load_mapping("nih-cxr14")
        vocabulary = load_vocabulary(self.vocabulary, folder)
        check_vocabulary(vocabulary, mapping.assesses, "nih-findings")
        found = reports.table.select("study_id", self._findings(reports).alias("found"))
        names = pl.col("found").list.eval(pl.element().str.strip_chars().replace("", None).drop_nulls())
        found = found.with_columns(names)
        known = pl.col("found").list.eval(pl.element().is_in(list(mapping.findings))).list.any()
        found = found.with_columns(known.fill_null(False).alias("assessed"))
        wanted = [label for label in vocabulary.names if label in mapping.assesses]
        labels = found.with_columns(mapping.columns(pl.when("assessed").then(pl.col("found"))))
        unknown = mapping.unknown(found["found"])
        return LabelledReports(
            labels.select("study_id", "assessed", *wanted),
            _evidence(found, mapping, wanted),
            f"finding names of {mapping.source.partition(',')[0]}",
            unknown,
            _notes(found, unknown),
        )

    def _findings(self, reports: Reports) -> pl.Expr:
        if self.column in reports.table.columns:
            return pl.col(self.column).cast(pl.String).str.split("|")
        if reports.table["codes"].null_count() < len(reports):
            return pl.col("codes").list.eval(pl.element().str.split("|").list.explode())
        raise DataError(
            f"labeler 'nih-findings': {reports.name} has neither a column {self.column!r} nor codes; name the column "
            "that holds the findings with `column:`."
        )


def _evidence(found: pl.DataFrame, mapping: FindingMapping, wanted: list[str]) -> pl.DataFrame:
    each = found.select("study_id", pl.col("found").alias("because")).explode("because").drop_nulls()
    pairs = [(finding, label) for label in wanted for finding in mapping.sources[label]]
    sets = pl.DataFrame(pairs, schema={"because": pl.String, "label": pl.String}, orient="row")
    decided = each.join(sets, on="because", maintain_order="left").with_columns(pl.lit(1, pl.Int8).alias("value"))
    return decided.select(*EVIDENCE).unique(maintain_order=True)


def _notes(found: pl.DataFrame, unknown: dict[str, int]) -> tuple[str, ...]:
    silent = int((~found["assessed"]).sum())
    told = []
    if silent:
        told.append(f"{silent} of {found.height} studies name no known finding: not assessed.")
    if unknown:
        first = ", ".join(repr(name) for name in list(unknown)[:5])
        told.append(f"{sum(unknown.values())} findings have names that are not known and were passed over: {first}.")
    return tuple(told)
