"""Intervals of every figure, differences between settings, and subgroups: resampling over patients."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from radlens.core.cohort import Cohort
from radlens.core.errors import SpecError, unknown_name
from radlens.core.store import fingerprint, source_digest
from radlens.evaluate.resampling.bootstrap import Intervals, bootstrap
from radlens.evaluate.resampling.exact import exact_intervals
from radlens.evaluate.resampling.label_bands import band_intervals, bands_of
from radlens.evaluate.resampling.paired import paired_differences
from radlens.evaluate.resampling.power_table import power_table
from radlens.evaluate.resampling.setting_scores import SettingScores
from radlens.evaluate.seed_ensemble import seed_ensemble
from radlens.evaluate.seed_ensemble_table import SeedGroup, seed_ensemble_table
from radlens.evaluate.subgroups import subgroup_table, subgroups_of
from radlens.evaluate.tables import SettingResult
from radlens.evaluate.thresholds import decide
from radlens.stages.context import Context
from radlens.stages.evaluate import seed_groups, write_csv
from radlens.stages.fitted import FIXED, thresholds_on_validation

_PERMUTATIONS = 1000
_SUBGROUP_REPLICATES = 400
_MANY = 4
"""With more settings than this, permutation tests are of differences from the first setting alone."""


def scores_of(results: Sequence[SettingResult]) -> list[SettingScores]:
    """What resampling looks at: the test split of each setting."""
    return [SettingScores(r.setting, r.inputs(), r.test.groups, r.test.image_ids) for r in results]


def write_intervals(context: Context, cohort: Cohort, results: Sequence[SettingResult]) -> None:
    """`tables/` intervals, exact_intervals, differences, power, subgroups and, where a setting has several seeds,
    seed_ensemble; nothing where replicates is 0."""
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
        groups = _seed_groups(context, cohort, results)
        together = [*scores, *(each for group in groups for each in group.scores())]
        with context.tell.bar("resampling patients") as progress:
            known = bootstrap(together, vocabulary, replicates=asked.replicates, seed=seed, progress=progress)
        tables = {
            "intervals": _intervals(known, scores, cohort),
            "exact_intervals": exact_intervals(scores, vocabulary),
        }
        if groups:
            tables["seed_ensemble"] = pl.concat(seed_ensemble_table(group, known, seed) for group in groups)
        if len(scores) > 1:
            context.tell.say("comparing settings")
            tables["differences"] = _differences(scores, cohort, known, seed)
        tables["power"] = pl.concat(
            power_table(
                r.setting, vocabulary.names, r.test.targets, r.val.targets, decide(r.val.probabilities, r.thresholds)
            )
            for r in results
        )
        subgroups = subgroups_of(test, asked.subgroups)
        if subgroups:
            context.tell.say(f"comparing groups by {', '.join(subgroups)}")
            replicates = min(asked.replicates, _SUBGROUP_REPLICATES)
            tables["subgroups"] = subgroup_table(scores, subgroups, vocabulary, replicates=replicates, seed=seed)
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


def _intervals(known: Intervals, scores: Sequence[SettingScores], cohort: Cohort) -> pl.DataFrame:
    """The intervals of the settings; then, with scope `band`, of means over labels as common in training."""
    train_positives = (cohort.targets()[cohort.where("train")] == 1).sum(axis=0)
    bands = band_intervals(known, bands_of(cohort.vocabulary.names, train_positives))
    own = pl.col("setting").is_in([one.setting for one in scores])
    return pl.concat([known.table, bands], how="diagonal").filter(own)


def _seed_groups(context: Context, cohort: Cohort, results: Sequence[SettingResult]) -> list[SeedGroup]:
    """The settings that were fitted with several seeds, each with its mean and that one's thresholds."""
    named = {result.setting: result for result in results}
    found = []
    for setting, titles in seed_groups(context.spec).items():
        members = tuple(named[title] for title in titles)
        fixed = {rule for member in members for rule in member.threshold_rules} == {FIXED}
        if fixed:
            thresholds = np.mean([member.thresholds for member in members], axis=0)
        else:
            validation = seed_ensemble([member.val.probabilities for member in members]).mean
            thresholds, _ = thresholds_on_validation(context, cohort, validation)
        together = seed_ensemble([member.test.probabilities for member in members])
        found.append(SeedGroup(setting, members, together, thresholds))
    return found


def _check_columns(columns: Sequence[str] | None, test: pl.DataFrame) -> None:
    for column in columns or ():
        if column not in test.columns:
            raise SpecError(f"evaluate.subgroups: {unknown_name('column', column, test.columns)}")
