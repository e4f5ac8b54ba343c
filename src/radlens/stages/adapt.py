"""Fit each setting, choose its thresholds on validation, and write down what it predicts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from radlens.core.cohort import SPLITS, Cohort
from radlens.core.parts import AdaptationTask, Floats, Setting
from radlens.core.predictions import Predictions
from radlens.core.spec import SettingSpec, build_part
from radlens.core.store import fingerprint, source_digest, writing
from radlens.evaluate.tables import SettingResult
from radlens.evaluate.thresholds import choose_thresholds, prevalence
from radlens.stages.context import Context


@dataclass(frozen=True)
class Learning:
    """A cohort with its split, the embeddings of its images, and what identifies them."""

    cohort: Cohort
    embeddings: Floats
    key: str
    encode_texts: Callable[[Sequence[str]], Floats]


def fit_setting(context: Context, setting: SettingSpec, learning: Learning) -> SettingResult:
    """From embeddings to predictions; writes `classifiers/<setting>/` and `predictions/<setting>.parquet`."""
    folder = context.run.folder
    place, table = folder / "classifiers" / setting.title, folder / "predictions" / f"{setting.title}.parquet"
    part: Setting = build_part("settings", setting.name, setting.options())
    cohort = learning.cohort
    code = source_digest(
        "radlens.adapt", "radlens.evaluate.thresholds", "radlens.core.classifier", type(part).__module__
    )
    key = fingerprint(
        *(cohort.table["image_id"].to_list(), _model_reference(context)),
        *(learning.key, cohort.targets(), cohort.table["split"].to_list(), cohort.vocabulary.to_dict()),
        *(setting.name, setting.title, part.model_dump(), context.spec.evaluate.model_dump(), context.spec.seed, code),
    )
    context.run.stage(f"setting:{setting.title}", key, lambda: _fit(context, part, setting, learning, place, table))
    return _result(setting.title, place, table, learning)


def _fit(
    context: Context, part: Setting, setting: SettingSpec, learning: Learning, place: Path, table: Path
) -> Iterable[Path]:
    cohort, spec = learning.cohort, context.spec
    targets, rows = cohort.targets(), {split: cohort.where(split) for split in SPLITS}
    encoder = context.encoder()
    with context.tell.bar(f"fitting {setting.title}") as progress:
        task = AdaptationTask(
            vocabulary=cohort.vocabulary,
            embeddings={split: learning.embeddings[rows[split]] for split in ("train", "val")},
            targets={split: targets[rows[split]] for split in ("train", "val")},
            encode_texts=learning.encode_texts,
            logit_scale=encoder.logit_scale,
            seed=spec.seed,
            progress=progress,
            encoder=encoder,
        )
        classifier = part.fit(task)
    probabilities = classifier.probabilities(learning.embeddings)
    if classifier.thresholds is None:
        chosen = choose_thresholds(
            probabilities[rows["val"]],
            targets[rows["val"]],
            prevalence(targets[rows["train"]]),
            spec.evaluate.thresholds,
        )
        values, rules = chosen.values, chosen.rule
    else:
        values, rules = classifier.thresholds, ("fixed by the setting",) * len(cohort.vocabulary)
    source = context.source
    about = {
        "threshold_rules": list(rules),
        "encoder": {"fingerprint": source.fingerprint, "name": source.card["name"]},
        "model": _model_reference(context),
        "precision": spec.compute.precision,
        "embeddings": learning.key,
        "seed": spec.seed,
    }
    replace(classifier, setting=setting.title, thresholds=values, card=dict(classifier.card) | about).save(place)
    columns: dict[str, Any] = {"image_id": cohort.table["image_id"], "split": cohort.table["split"]}
    columns |= {label: probabilities[:, i] for i, label in enumerate(cohort.vocabulary.names)}
    with writing(table) as aside:
        pl.DataFrame(columns).write_parquet(aside)
    return place / "head.safetensors", place / "card.json", table


def _result(title: str, place: Path, table: Path, learning: Learning) -> SettingResult:
    card = json.loads((place / "card.json").read_text("utf-8"))
    cohort = learning.cohort
    labels = cohort.vocabulary.names
    probabilities = pl.read_parquet(table, columns=list(labels)).to_numpy().astype(np.float64, copy=False)
    targets, groups, ids = cohort.targets(), cohort.groups(), cohort.table["image_id"].to_list()

    def on(split: str) -> Predictions:
        rows = np.flatnonzero(cohort.where(split))
        return Predictions(
            setting=title,
            split=split,
            labels=labels,
            image_ids=tuple(ids[row] for row in rows),
            groups=tuple(str(group) for group in groups[rows]),
            probabilities=probabilities[rows],
            targets=targets[rows],
            embeddings=learning.embeddings[rows],
        )

    return SettingResult(
        setting=title,
        test=on("test"),
        val=on("val"),
        thresholds=np.asarray(card["thresholds"], np.float64),
        threshold_rules=tuple(card["threshold_rules"]),
        train_seconds=card.get("train_seconds"),
        trainable_parameters=card.get("trainable_parameters"),
        embedding_key=learning.key,
    )


def _model_reference(context: Context) -> dict[str, str]:
    """How `radlens predict` finds the model again: the study's `model:`, a path made absolute."""
    asked = context.spec.model.model_dump(exclude_none=True)
    if "path" in asked:
        asked["path"] = str((context.spec.folder / Path(asked["path"]).expanduser()).resolve())
    return asked
