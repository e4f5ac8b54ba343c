"""What is written of a fitted setting, and read back: its classifier, its thresholds, its predictions."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from radlens.core.classifier import Classifier, Encoder, load_classifier
from radlens.core.cohort import Cohort
from radlens.core.crew import Crew
from radlens.core.errors import ModelError
from radlens.core.parts import Floats
from radlens.core.predictions import Predictions
from radlens.core.spec import Variant
from radlens.core.store import writing
from radlens.evaluate.calibration.fit import fit_calibration
from radlens.evaluate.log_odds import to_logits
from radlens.evaluate.tables import SettingResult
from radlens.evaluate.thresholds import choose_thresholds, prevalence
from radlens.stages.context import Context
from radlens.stages.embed import embed_with, embedding_key
from radlens.stages.evidence import evidence

FIXED = "fixed by the setting"
"""Rule of thresholds that come with a setting."""


@dataclass(frozen=True)
class Learning:
    """A cohort with its split, the embeddings of its images, and what identifies them."""

    cohort: Cohort
    digests: Sequence[str | None]
    embeddings: Floats
    key: str
    encode_texts: Callable[[Sequence[str]], Floats]


def write_fitted(
    context: Context,
    classifier: Classifier,
    variant: Variant,
    learning: Learning,
    place: Path,
    table: Path,
    together: bool,
) -> Iterable[Path]:
    """Predict, choose thresholds and save. Where several processes fitted together, all predict and the first saves."""
    cohort, spec = learning.cohort, context.spec
    embeddings, key = learning.embeddings, learning.key
    crew = context.run.crew if together else Crew()
    if _changed(classifier):
        own = classifier.encoder
        if own is None:
            raise ModelError(f"setting {variant.title} changed its encoder, but has none attached.")
        title = f"images of {variant.title}"
        embeddings = embed_with(context, cohort, learning.digests, own.fingerprint, lambda: own, title, crew)
        key = embedding_key(context, learning.digests, own.fingerprint)
    if not crew.first:
        return ()
    probabilities = classifier.probabilities(embeddings)
    if classifier.thresholds is None:
        values, rules = thresholds_on_validation(context, cohort, probabilities[cohort.where("val")])
    else:
        values, rules = classifier.thresholds, (FIXED,) * len(cohort.vocabulary)
    source = context.source
    about = {
        "threshold_rules": list(rules),
        "encoder": {"fingerprint": source.fingerprint, "name": source.card["name"]},
        "own_encoder": classifier.encoder.fingerprint if _changed(classifier) and classifier.encoder else None,
        "model": model_reference(context),
        "licence": source.card.get("licence"),
        "precision": spec.compute.precision,
        "embeddings": key,
        "seed": variant.seed,
        **evidence(cohort, probabilities, values),
    }
    whole = replace(classifier, setting=variant.title, thresholds=values, card=dict(classifier.card) | about)
    written = whole.save(place)
    columns: dict[str, Any] = {"image_id": cohort.table["image_id"], "split": cohort.table["split"]}
    columns |= {label: probabilities[:, i] for i, label in enumerate(cohort.vocabulary.names)}
    with writing(table) as aside:
        pl.DataFrame(columns).write_parquet(aside)
    return *written, table


def thresholds_on_validation(
    context: Context, cohort: Cohort, probabilities: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], tuple[str, ...]]:
    """One threshold a label and how it came about, from probabilities (V, L) of the validation images."""
    asked, targets = context.spec.evaluate, cohort.targets()
    val, train = cohort.where("val"), cohort.where("train")
    share = prevalence(targets[train])
    if asked.thresholds != "half-f1":
        chosen = choose_thresholds(probabilities, targets[val], share, asked.thresholds, value=asked.value)
        return chosen.values, chosen.rule
    logits = to_logits(probabilities)
    fitted = fit_calibration(logits, targets[val], [str(g) for g in cohort.groups()[val]], "auto", context.spec.seed)
    chosen = choose_thresholds(fitted.cross_fitted, targets[val], share, "half-f1", calibrated=fitted.calibrated)
    # the same decisions on the probabilities as they are
    return fitted.raw_thresholds(chosen.values), chosen.rule


def _changed(classifier: Classifier) -> bool:
    """Whether its head reads other embeddings than those of the model as it is."""
    return bool(classifier.image_tensors) or classifier.features != "projection"


def read_fitted(context: Context, variant: Variant, place: Path, table: Path, learning: Learning) -> SettingResult:
    card = json.loads((place / "card.json").read_text("utf-8"))
    cohort = learning.cohort
    labels = cohort.vocabulary.names
    probabilities = pl.read_parquet(table, columns=list(labels)).to_numpy().astype(np.float64, copy=False)
    targets, groups, ids = cohort.targets(), cohort.groups(), cohort.table["image_id"].to_list()

    def own() -> Encoder:
        encoder = load_classifier(place, context.encoder()).encoder
        if encoder is None:
            raise ModelError(f"{place} has lost its encoder; run the study again.")
        return encoder

    def every() -> Floats:
        if card["own_encoder"] is None:
            return learning.embeddings
        title = f"images of {variant.title}"
        return embed_with(context, cohort, learning.digests, card["own_encoder"], own, title)

    embeddings = every()

    def on(split: str) -> Predictions:
        rows = np.flatnonzero(cohort.where(split))
        return Predictions(
            setting=variant.title,
            split=split,
            labels=labels,
            image_ids=tuple(ids[row] for row in rows),
            groups=tuple(str(group) for group in groups[rows]),
            probabilities=probabilities[rows],
            targets=targets[rows],
            embeddings=embeddings[rows],
        )

    return SettingResult(
        setting=variant.title,
        test=on("test"),
        val=on("val"),
        thresholds=np.asarray(card["thresholds"], np.float64),
        threshold_rules=tuple(card["threshold_rules"]),
        train_seconds=card.get("train_seconds"),
        trainable_parameters=card.get("trainable_parameters"),
        embedding_key=card["embeddings"],
        train_embeddings=lambda: every()[cohort.where("train")],
    )


def model_reference(context: Context) -> dict[str, str]:
    """How `radlens predict` finds the model again: the study's `model:`, a path made absolute."""
    asked = context.spec.model.model_dump(exclude_none=True)
    if "path" in asked:
        asked["path"] = str((context.spec.folder / Path(asked["path"]).expanduser()).resolve())
    return asked
