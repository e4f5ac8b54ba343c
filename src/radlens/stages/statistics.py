"""What the figures are worth: calibration, guarantees, abstention, and means by how common a label is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from radlens.core.cohort import Cohort
from radlens.core.store import fingerprint, source_digest
from radlens.evaluate.calibration.expected_error import calibration_error_table
from radlens.evaluate.calibration.fit import fit_calibration
from radlens.evaluate.calibration.recalibration import recalibration_table
from radlens.evaluate.calibration.reliability import reliability_table
from radlens.evaluate.conformal import conformal_table
from radlens.evaluate.distance_table import TrainDistances, distance_table, train_distances
from radlens.evaluate.log_odds import to_logits
from radlens.evaluate.metrics.by_frequency import by_frequency
from radlens.evaluate.scoring import score
from radlens.evaluate.selective import selective_table
from radlens.evaluate.tables import SettingResult
from radlens.stages.context import Context
from radlens.stages.evaluate import write_csv

_BANDS = ("f1", "auroc", "average_precision")


def write_statistics(context: Context, cohort: Cohort, results: Sequence[SettingResult]) -> None:
    """`tables/` calibration, calibration_error, recalibration, reliability, conformal, selective, frequency and
    distance_to_train."""
    folder = context.run.folder / "tables"
    spec = context.spec
    keys = [stage.key for name, stage in context.run.stages.items() if name.startswith("setting:")]
    key = fingerprint(
        keys, cohort.groups().tolist(), spec.seed, spec.evaluate.model_dump(), source_digest("radlens.evaluate")
    )

    def make() -> Iterable[Path]:
        written = []
        with context.tell.bar("calibrating") as progress:
            tables = _tables(context, cohort, results, progress)
        for name, table in tables.items():
            path = folder / f"{name}.csv"
            write_csv(path, table)
            written.append(path)
        return written

    context.run.stage("statistics", key, make)


def _tables(
    context: Context, cohort: Cohort, results: Sequence[SettingResult], progress: Callable[[int, int], None]
) -> Mapping[str, pl.DataFrame]:
    labels, seed, alpha = cohort.vocabulary.names, context.spec.seed, context.spec.evaluate.alpha
    spaces: dict[str, tuple[TrainDistances, ...]] = {}
    train_positives = (cohort.targets()[cohort.where("train")] == 1).sum(axis=0)
    found: dict[str, list[pl.DataFrame]] = {}

    def add(name: str, setting: str, table: pl.DataFrame, probabilities: str | None = None) -> None:
        marks = [pl.lit(setting).alias("setting")]
        marks += [] if probabilities is None else [pl.lit(probabilities).alias("probabilities")]
        found.setdefault(name, []).append(table.select(*marks, pl.all()))

    for done, result in enumerate(results, 1):
        val, test = result.val, result.test
        logits = to_logits(val.probabilities)
        fitted = fit_calibration(logits, val.targets, val.groups, "auto", seed)
        add("calibration", result.setting, fitted.table(labels, logits, val.targets))
        versions = {"as they are": test.probabilities, "calibrated": fitted.apply(to_logits(test.probabilities))}
        for words, probabilities in versions.items():
            common = (labels, probabilities, test.targets, test.groups)
            add("recalibration", result.setting, recalibration_table(*common), words)
            add("reliability", result.setting, reliability_table(*common), words)
            add("calibration_error", result.setting, calibration_error_table(*common, seed), words)
        add(
            "conformal",
            result.setting,
            conformal_table(
                labels,
                (val.probabilities, val.targets, val.groups),
                (test.probabilities, test.targets, test.groups),
                alpha,
            ),
        )
        add(
            "selective",
            result.setting,
            selective_table(
                labels, (val.probabilities, val.targets), (test.probabilities, test.targets), result.thresholds
            ),
        )
        values = score(result.inputs(), "label")
        bands = {name: np.asarray(values[name]) for name in _BANDS if name in values}
        add("frequency", result.setting, by_frequency(bands, train_positives))
        if result.train_embeddings is not None:
            if result.embedding_key not in spaces:
                spaces[result.embedding_key] = train_distances(result.train_embeddings(), val, test, seed)
            told = distance_table(result.setting, spaces[result.embedding_key], val, test, result.thresholds, seed)
            found.setdefault("distance_to_train", []).append(told)
        progress(done, len(results))
    return {name: pl.concat(tables, how="diagonal_relaxed") for name, tables in found.items()}
