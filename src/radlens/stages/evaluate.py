"""From predictions to tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from radlens.core.cohort import Cohort
from radlens.core.registry import parts
from radlens.core.spec import StudySpec
from radlens.core.store import fingerprint, source_digest, write_json, writing
from radlens.evaluate.conditional_separability import conditional_separability
from radlens.evaluate.neighbourhood import neighbourhood
from radlens.evaluate.repeats import mean_over_repeats
from radlens.evaluate.scoring import metric_definitions
from radlens.evaluate.similarity import compare_spaces
from radlens.evaluate.space_definitions import space_definitions, view_definitions
from radlens.evaluate.tables import (
    SettingResult,
    overall_table,
    per_domain_table,
    per_label_table,
    separabilities,
    separability_table,
)
from radlens.evaluate.view import POINTS, embedding_view, shown_rows, view_methods
from radlens.stages.context import Context

_POINTS = 4000
"""At most so many test images, evenly spaced over the table, are points of the flat view."""
_FEWEST_POINTS = 500


def write_tables(context: Context, cohort: Cohort, results: Sequence[SettingResult]) -> None:
    """`tables/*.csv`, the definitions of their columns, and the flat views of the embedding space."""
    folder = context.run.folder / "tables"
    keys = [stage.key for name, stage in context.run.stages.items() if name.startswith("setting:")]
    outsiders = sorted({p.module.partition(":")[0] for p in parts("metrics").values() if p.entry_point is not None})
    code = source_digest("radlens.evaluate", *outsiders)
    # another view where its package has been installed since
    key = fingerprint(keys, cohort.groups().tolist(), context.spec.seed, view_methods(), code)

    def make() -> Iterable[Path]:
        seed, vocabulary = context.spec.seed, cohort.vocabulary
        train_targets = cohort.targets()[cohort.where("train")]
        known = separabilities(results, vocabulary, seed)
        tables = {
            "overall": overall_table(results, seed, known),
            "per_label": per_label_table(results, vocabulary, train_targets),
            "per_domain": per_domain_table(results, vocabulary, train_targets, seed, known),
            "separability": separability_table(results, vocabulary, seed, known),
            "embedding_view": _views(results, seed),
        }
        tables |= _spaces(results, cohort, seed)
        repeated = _over_seeds(context, tables["overall"])
        if repeated is not None:
            tables["seeds"] = repeated
        for name, table in tables.items():
            write_csv(folder / f"{name}.csv", table)
        definitions = [*metric_definitions(), *space_definitions(), *view_definitions(seed)]
        write_json(folder / "definitions.json", definitions)
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


def seed_groups(spec: StudySpec) -> dict[str, list[str]]:
    """Setting -> titles of its fits, of those settings that were fitted with several seeds."""
    groups: dict[str, list[str]] = {}
    for variant in (v for setting in spec.settings for v in setting.variants(spec.seed)):
        groups.setdefault(variant.group, []).append(variant.title)
    return {group: titles for group, titles in groups.items() if len(titles) > 1}


def _over_seeds(context: Context, overall: pl.DataFrame) -> pl.DataFrame | None:
    """Mean and spread of every overall figure of the settings that were fitted with several seeds; None without any."""
    frames = [
        mean_over_repeats(
            [overall.filter(setting=title).with_columns(pl.lit(group).alias("setting")) for title in titles],
            ["setting"],
        )
        for group, titles in seed_groups(context.spec).items()
    ]
    return pl.concat(frames) if frames else None


def write_csv(path: Path, table: pl.DataFrame) -> None:
    """A table as CSV, whole or not at all; NaN and null are both empty."""
    floats = pl.selectors.float().fill_nan(None)
    with writing(path) as aside:
        table.with_columns(floats).write_csv(aside)


def _views(results: Sequence[SettingResult], seed: int) -> pl.DataFrame:
    """Test images of each setting in the plane, a view a method; settings of one embedding share theirs.

    Principal components place all images shown. The other methods, whose time grows faster, place `POINTS` at most,
    and fewer where a study has many embedding spaces.
    """
    distinct = {result.embedding_key: result.test.embeddings for result in reversed(results)}
    fewer = max(_FEWEST_POINTS, 2 * POINTS // max(len(distinct), 1))
    tables = []
    for method in view_methods():
        most = _POINTS if method == "pca" else min(POINTS, fewer)
        placed: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        for result in results:
            shown = shown_rows(len(result.test), most)
            if result.embedding_key not in placed:
                # the principal plane is that of all test images, also of those that are not drawn
                base = result.test.embeddings if method == "pca" else result.test.embeddings[shown]
                at, explained = embedding_view(base, method=method, seed=seed)
                placed[result.embedding_key] = (at[shown] if method == "pca" else at), explained
            at, explained = placed[result.embedding_key]
            columns = {
                "view": [method] * len(shown),
                "setting": [result.setting] * len(shown),
                "image_id": [result.test.image_ids[row] for row in shown],
                "split": ["test"] * len(shown),
                "x": at[:, 0],
                "y": at[:, 1],
                "explained_x": [float(explained[0])] * len(shown),
                "explained_y": [float(explained[1])] * len(shown),
            }
            tables.append(pl.DataFrame(columns))
    return pl.concat(tables)
