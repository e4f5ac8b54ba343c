"""From predictions to tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from radlens.core.cohort import Cohort
from radlens.core.registry import parts
from radlens.core.store import fingerprint, source_digest, write_json, writing
from radlens.evaluate.conditional_separability import conditional_separability
from radlens.evaluate.neighbourhood import neighbourhood
from radlens.evaluate.repeats import mean_over_repeats
from radlens.evaluate.scoring import metric_definitions
from radlens.evaluate.similarity import compare_spaces
from radlens.evaluate.tables import (
    SettingResult,
    overall_table,
    per_domain_table,
    per_label_table,
    separabilities,
    separability_table,
)
from radlens.evaluate.view import embedding_view
from radlens.stages.context import Context

_POINTS = 4000
"""At most so many test images, evenly spaced over the table, are points of the flat view."""


def write_tables(context: Context, cohort: Cohort, results: Sequence[SettingResult]) -> None:
    """`tables/*.csv`, the definitions of their columns, and the flat view of the embedding space."""
    folder = context.run.folder / "tables"
    keys = [stage.key for name, stage in context.run.stages.items() if name.startswith("setting:")]
    outsiders = sorted({p.module.partition(":")[0] for p in parts("metrics").values() if p.entry_point is not None})
    code = source_digest("radlens.evaluate", *outsiders)
    key = fingerprint(keys, cohort.groups().tolist(), context.spec.seed, code)

    def make() -> Iterable[Path]:
        seed, vocabulary = context.spec.seed, cohort.vocabulary
        train_targets = cohort.targets()[cohort.where("train")]
        known = separabilities(results, vocabulary, seed)
        tables = {
            "overall": overall_table(results, seed, known),
            "per_label": per_label_table(results, vocabulary, train_targets),
            "per_domain": per_domain_table(results, vocabulary, train_targets, seed, known),
            "separability": separability_table(results, vocabulary, seed, known),
            "embedding_view": _view(results),
        }
        tables |= _spaces(results, cohort, seed)
        repeated = _over_seeds(context, tables["overall"])
        if repeated is not None:
            tables["seeds"] = repeated
        for name, table in tables.items():
            write_csv(folder / f"{name}.csv", table)
        write_json(folder / "definitions.json", metric_definitions())
        return *(folder / f"{name}.csv" for name in tables), folder / "definitions.json"

    context.tell.say("evaluating")
    context.run.stage("evaluate", key, make)


def _spaces(results: Sequence[SettingResult], cohort: Cohort, seed: int) -> dict[str, pl.DataFrame]:
    """What else is known of each space: separability with the other labels held equal, neighbours, other spaces."""
    distinct = {result.embedding_key: result for result in reversed(results)}
    same = {key: "; ".join(r.setting for r in results if r.embedding_key == key) for key in distinct}
    found: dict[str, list[pl.DataFrame]] = {"conditional_separability": [], "neighbourhood": []}
    for key, result in reversed(distinct.items()):
        test = result.test
        common = (test.embeddings, test.targets, test.groups, cohort.vocabulary, seed)
        marks = pl.lit(same[key]).alias("settings")
        found["conditional_separability"].append(conditional_separability(*common).select(marks, pl.all()))
        found["neighbourhood"].append(neighbourhood(*common).select(marks, pl.all()))
    tables = {name: pl.concat(parts, how="diagonal_relaxed") for name, parts in found.items()}
    if len(distinct) > 1:
        tables["spaces"] = compare_spaces([result.test for result in reversed(distinct.values())], seed)
    return tables


def _over_seeds(context: Context, overall: pl.DataFrame) -> pl.DataFrame | None:
    """Mean and spread of every overall figure of the settings that were fitted with several seeds; None without any."""
    variants = [v for setting in context.spec.settings for v in setting.variants(context.spec.seed)]
    groups: dict[str, list[str]] = {}
    for variant in variants:
        groups.setdefault(variant.group, []).append(variant.title)
    frames = [
        mean_over_repeats(
            [overall.filter(setting=title).with_columns(pl.lit(group).alias("setting")) for title in titles],
            ["setting"],
        )
        for group, titles in groups.items()
        if len(titles) > 1
    ]
    return pl.concat(frames) if frames else None


def write_csv(path: Path, table: pl.DataFrame) -> None:
    """A table as CSV, whole or not at all; NaN and null are both empty."""
    floats = pl.selectors.float().fill_nan(None)
    with writing(path) as aside:
        table.with_columns(floats).write_csv(aside)


def _view(results: Sequence[SettingResult]) -> pl.DataFrame:
    """Test images of each setting on the first two principal components; settings of one embedding share theirs."""
    views: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    tables = []
    for result in results:
        if result.embedding_key not in views:
            views[result.embedding_key] = embedding_view(result.test.embeddings)
        at, explained = views[result.embedding_key]
        shown = np.unique(np.linspace(0, len(result.test) - 1, min(len(result.test), _POINTS)).round().astype(int))
        columns = {
            "setting": [result.setting] * len(shown),
            "image_id": [result.test.image_ids[row] for row in shown],
            "split": ["test"] * len(shown),
            "x": at[shown, 0],
            "y": at[shown, 1],
            "explained_x": [float(explained[0])] * len(shown),
            "explained_y": [float(explained[1])] * len(shown),
        }
        tables.append(pl.DataFrame(columns))
    return pl.concat(tables)
