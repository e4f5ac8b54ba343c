"""From maps to what they are worth beside regions: localisation, false alarms, likeness, and what depth changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import polars as pl

from radlens.core.cohort import Cohort
from radlens.core.regions import Geometry, SaliencyMaps
from radlens.core.store import fingerprint, source_digest, write_json
from radlens.evaluate.tables import SettingResult
from radlens.explain.definitions import DEFINITIONS
from radlens.explain.depth_matrix import depth_matrix
from radlens.explain.false_alarms import false_alarm_table
from radlens.explain.localization_table import localization_of_pairs, localization_sizes
from radlens.explain.map_similarity import map_similarity_table
from radlens.explain.pair_scores import SCHEMA, pair_scores
from radlens.explain.table_definitions import DEPTH_MATRIX, FALSE_ALARMS, MAP_SIMILARITY
from radlens.explain.tuned_thresholds import tuned_thresholds
from radlens.stages.context import Context
from radlens.stages.evaluate import write_csv
from radlens.stages.examples import show_examples
from radlens.stages.plan import Plan

_CODE = ("radlens.explain", "radlens.core.regions", "radlens.core.shapes", "radlens.stages.examples")
_PAIRS = "localization_pairs"
Maps = Mapping[str, SaliencyMaps]


def score_maps(
    context: Context, plan: Plan, cohort: Cohort, maps: Maps, tuning: Maps, results: Sequence[SettingResult]
) -> pl.DataFrame | None:
    """Write the tables of what the maps show, and examples; returns the score of each map against each region.

    maps, tuning: setting -> maps of test and of validation images. None where no region is known.
    """
    run, films, seed = context.run, plan.films, context.spec.seed
    keys = [stage.key for name, stage in run.stages.items() if "maps:" in name]
    known = plan.test.annotations
    drawn = [*plan.test.image_ids, *plan.val.image_ids]
    key = fingerprint(
        *(keys, known, plan.val.annotations, _present(cohort, drawn), seed, source_digest(*_CODE)),
        {result.setting: result.thresholds.tolist() for result in results},
    )
    folder = run.folder / "tables"

    def make() -> Iterable[Path]:
        size = context.encoder().transform.size
        geometries = {image_id: Geometry(*films[image_id], size) for image_id in drawn}
        tables = {"map_similarity": map_similarity_table(maps, films.patients, seed=seed)}
        pairs = None
        if known is not None and known.regions:
            thresholds = None
            if tuning and plan.val.annotations is not None:
                thresholds = tuned_thresholds(tuning, plan.val.annotations, geometries, films.patients)
            pairs = pair_scores(maps, known, geometries, films.patients, thresholds=thresholds)
            tables |= {
                _PAIRS: pairs,
                "localization": localization_of_pairs(pairs, seed=seed),
                "localization_sizes": localization_sizes(pairs, seed=seed),
                "depth_matrix": depth_matrix(pairs, seed=seed),
            }
        tables["false_alarms"] = false_alarm_table(
            *(maps, _present(cohort, plan.test.image_ids), films.patients, known, geometries),
            _decisions(results, plan.test.image_ids),
            seed=seed,
        )
        for name, table in tables.items():
            write_csv(folder / f"{name}.csv", table)
        stated = [*DEFINITIONS, *FALSE_ALARMS, *MAP_SIMILARITY, *DEPTH_MATRIX]
        write_json(folder / "localization_definitions.json", stated)
        shown = {image_id: geometries[image_id] for image_id in plan.test.image_ids}
        gallery = show_examples(run.folder / "saliency", known, films, maps, results, shown, pairs, seed)
        return *(folder / f"{name}.csv" for name in tables), folder / "localization_definitions.json", *gallery

    context.tell.say("scoring maps")
    run.stage("localization", key, make)
    if known is None or not known.regions:
        return None
    return pl.read_csv(folder / f"{_PAIRS}.csv", schema=SCHEMA)


def _present(cohort: Cohort, image_ids: Iterable[str]) -> dict[str, dict[str, bool | None]]:
    """Label -> image -> whether it is there by the cohort's labels; None where that is not known."""
    wanted = set(image_ids)
    rows = cohort.table.filter(pl.col("image_id").is_in(list(wanted)))
    ids = rows["image_id"].to_list()
    return {
        label: {i: None if value is None else bool(value) for i, value in zip(ids, rows[label], strict=True)}
        for label in cohort.vocabulary.names
    }


def _decisions(
    results: Sequence[SettingResult], image_ids: Sequence[str]
) -> dict[str, dict[str, dict[str, bool | None]]]:
    """Setting -> label -> image -> whether the setting calls it positive."""
    found: dict[str, dict[str, dict[str, bool | None]]] = {}
    for result in results:
        decisions, row_of = result.inputs().decisions, {image: row for row, image in enumerate(result.test.image_ids)}
        found[result.setting] = {
            label: {image_id: bool(decisions[row_of[image_id], column]) for image_id in image_ids}
            for column, label in enumerate(result.test.labels)
        }
    return found
