"""Intervals of every figure, differences between settings, and subgroups: resampling over patients."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from radlens.core.cohort import Cohort
from radlens.core.errors import SpecError, unknown_name
from radlens.core.store import fingerprint, source_digest
from radlens.evaluate.resampling.bootstrap import Intervals, bootstrap
from radlens.evaluate.resampling.exact import exact_intervals
from radlens.evaluate.resampling.paired import paired_differences
from radlens.evaluate.resampling.power import power_statement
from radlens.evaluate.resampling.setting_scores import SettingScores
from radlens.evaluate.subgroups import subgroup_table, subgroups_of
from radlens.evaluate.tables import SettingResult
from radlens.stages.context import Context
from radlens.stages.evaluate import write_csv

_PERMUTATIONS = 1000
_SUBGROUP_REPLICATES = 400
_MANY = 4
"""With more settings than this, permutation tests are of differences from the first setting alone."""


def scores_of(results: Sequence[SettingResult]) -> list[SettingScores]:
    """What resampling looks at: the test split of each setting."""
    return [SettingScores(r.setting, r.inputs(), r.test.groups, r.test.image_ids) for r in results]


def write_intervals(context: Context, cohort: Cohort, results: Sequence[SettingResult]) -> None:
    """`tables/` intervals, exact_intervals, differences, power and subgroups; nothing where replicates is 0."""
    asked = context.spec.evaluate
    if asked.replicates == 0:
        return
    test = cohort.table.filter(pl.col("split") == "test")
    _check_columns(asked.subgroups, test)
    folder = context.run.folder / "tables"
    keys = [stage.key for name, stage in context.run.stages.items() if name.startswith("setting:")]
    names = [name for name in (asked.subgroups or ("view", "sex", "age", "site")) if name in test.columns]
    columns = test.select(names).write_ndjson() if names else ""
    code = source_digest("radlens.evaluate")
    key = fingerprint(keys, cohort.groups().tolist(), columns, context.spec.seed, asked.model_dump(), code)

    def make() -> Iterable[Path]:
        scores, vocabulary, seed = scores_of(results), cohort.vocabulary, context.spec.seed
        with context.tell.bar("resampling patients") as progress:
            known = bootstrap(scores, vocabulary, replicates=asked.replicates, seed=seed, progress=progress)
        tables = {"intervals": known.table, "exact_intervals": exact_intervals(scores, vocabulary)}
        if len(scores) > 1:
            context.tell.say("comparing settings")
            tables["differences"] = _differences(scores, cohort, known, seed)
        tables["power"] = _power(scores[0], cohort)
        groups = subgroups_of(test, asked.subgroups)
        if groups:
            context.tell.say(f"comparing groups by {', '.join(groups)}")
            replicates = min(asked.replicates, _SUBGROUP_REPLICATES)
            tables["subgroups"] = subgroup_table(scores, groups, vocabulary, replicates=replicates, seed=seed)
        for name, table in tables.items():
            write_csv(folder / f"{name}.csv", table)
        return [folder / f"{name}.csv" for name in tables]

    context.run.stage("intervals", key, make)


def _differences(scores: Sequence[SettingScores], cohort: Cohort, known: Intervals, seed: int) -> pl.DataFrame:
    """All pairs with intervals; with many settings permutation tests against the first alone, since pairs are many."""
    common: dict[str, Any] = {"seed": seed, "known": known}
    if len(scores) <= _MANY:
        return paired_differences(scores, cohort.vocabulary, permutations=_PERMUTATIONS, **common)
    first, *others = scores
    tested = [
        paired_differences([first, other], cohort.vocabulary, permutations=_PERMUTATIONS, **common) for other in others
    ]
    return pl.concat([*tested, paired_differences(others, cohort.vocabulary, permutations=0, **common)])


def _power(scores: SettingScores, cohort: Cohort) -> pl.DataFrame:
    """A row a label: what its number of test positives can show."""
    targets = scores.inputs.targets
    rows = []
    for column, label in enumerate(cohort.vocabulary.names):
        positives, negatives = int((targets[:, column] == 1).sum()), int((targets[:, column] == 0).sum())
        rows.append(
            {
                "label": label,
                "test_positives": positives,
                "test_negatives": negatives,
                "statement": power_statement(positives, negatives),
            }
        )
    return pl.DataFrame(rows)


def _check_columns(columns: Sequence[str] | None, test: pl.DataFrame) -> None:
    for column in columns or ():
        if column not in test.columns:
            raise SpecError(f"evaluate.subgroups: {unknown_name('column', column, test.columns)}")
