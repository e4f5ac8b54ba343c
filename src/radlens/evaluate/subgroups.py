"""The same figures within parts of the test split (a view, a sex, an age band, a site), and each part's gap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import polars as pl

from radlens.core.vocabulary import Vocabulary
from radlens.evaluate.resampling.bootstrap import Method, bootstrap
from radlens.evaluate.resampling.paired import paired_differences
from radlens.evaluate.resampling.setting_scores import SettingScores

USUAL = ("view", "sex", "age", "site")
"""Columns that are compared where a cohort has them and the study names none."""
AGE_BANDS = ((40.0, "under 40"), (65.0, "40 to 64"), (np.inf, "65 and over"))
LEAST_IMAGES, MOST_GROUPS = 10, 8
METRICS = ("macro_f1", "macro_auroc", "macro_average_precision", "exact_match", "f1", "auroc", "recall", "specificity")
_JOINT = " | "


def subgroups_of(table: pl.DataFrame, columns: Sequence[str] | None = None) -> dict[str, npt.NDArray[np.object_]]:
    """Column -> (N,) the group of each image, None where it is in none.

    columns: those to look at; default `USUAL`, as far as the table has them. Numbers (an age) become bands; groups of
    fewer than 10 images count as none; a column of one group, or of more than 8, is left out.
    """
    found = {}
    for column in columns if columns is not None else [name for name in USUAL if name in table.columns]:
        values = _banded(table[column]) if _is_number(table[column]) else table[column].cast(pl.String)
        counts = values.drop_nulls().value_counts()
        kept = counts.filter(pl.col("count") >= LEAST_IMAGES)[values.name].to_list()
        if 2 <= len(kept) <= MOST_GROUPS:
            found[column] = np.array([v if v in kept else None for v in values.to_list()], dtype=object)
    return found


def subgroup_table(
    results: Sequence[SettingScores],
    groups: Mapping[str, npt.NDArray[np.object_]],
    vocabulary: Vocabulary,
    *,
    replicates: int = 1000,
    seed: int = 0,
    method: Method = "percentile",
) -> pl.DataFrame:
    """A row a setting, column, group and figure: value with interval, and its gap to all other images with interval.

    Columns: setting, column, group, images, scope, name, metric, value, low, high, n_positives, n_negatives, reason,
    gap (the group minus the rest), gap_low, gap_high, gap_reason. Intervals are over patients, a group and its rest on
    the same resamples; below 10 positives there is a reason instead. Many gaps are looked at: one of 20 whose interval
    leaves out 0 is to be expected by chance.
    """
    rows = []
    for column, names in groups.items():
        for group in sorted({name for name in names if name is not None}):
            inside = names == group
            # an image without a group belongs to neither side
            outside = np.array([name is not None and name != group for name in names])
            for result in results:
                parts = [_part(result, inside, "in"), _part(result, outside, "out")]
                known = bootstrap(parts, vocabulary, replicates=replicates, seed=seed, method=method)
                gaps = paired_differences(parts, vocabulary, permutations=0, seed=seed, method=method, known=known)
                keys = ["scope", "name", "metric"]
                here = known.table.filter(pl.col("setting") == "in", pl.col("metric").is_in(METRICS))
                joined = here.drop("setting", "undefined").join(
                    gaps.select(
                        *keys,
                        pl.col("difference").alias("gap"),
                        pl.col("low").alias("gap_low"),
                        pl.col("high").alias("gap_high"),
                        pl.col("reason").alias("gap_reason"),
                    ),
                    on=keys,
                    how="left",
                    maintain_order="left",
                )
                marks = {"setting": result.setting, "column": column, "group": group, "images": int(inside.sum())}
                rows.append(joined.select(*(pl.lit(v).alias(k) for k, v in marks.items()), pl.all()))
    return pl.concat(rows) if rows else pl.DataFrame()


def _part(result: SettingScores, rows: npt.NDArray[np.bool_], name: str) -> SettingScores:
    """The same images, those outside the part not assessed: all parts then share their resamples."""
    targets = np.where(rows[:, None], result.inputs.targets, np.nan).astype(np.float32)
    return replace(result, setting=name, inputs=replace(result.inputs, targets=targets))


def _is_number(column: pl.Series) -> bool:
    numbers = column.cast(pl.Float64, strict=False)
    return numbers.null_count() == column.null_count() and column.n_unique() > MOST_GROUPS


def _banded(column: pl.Series) -> pl.Series:
    ages = column.cast(pl.Float64, strict=False).to_list()
    words = [None if age is None else next(word for top, word in AGE_BANDS if age < top) for age in ages]
    return pl.Series(column.name, words, pl.String)
