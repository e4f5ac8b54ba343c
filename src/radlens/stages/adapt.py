"""Fit each setting, choose its thresholds on validation, and write down what it predicts."""

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
from radlens.core.errors import ModelError, RadlensError
from radlens.core.parts import AdaptationTask, Floats, Setting, TrainingPlace
from radlens.core.predictions import Predictions
from radlens.core.spec import SettingSpec, Variant, build_part
from radlens.core.store import fingerprint, source_digest, writing
from radlens.data.image_files import ImageFiles
from radlens.evaluate.calibration.fit import fit_calibration
from radlens.evaluate.log_odds import to_logits
from radlens.evaluate.tables import SettingResult
from radlens.evaluate.thresholds import choose_thresholds, prevalence
from radlens.stages.context import Context
from radlens.stages.embed import embed_with, embedding_key
from radlens.stages.evidence import evidence

_CODE = (
    "radlens.adapt",
    *(f"radlens.evaluate.{name}" for name in ("thresholds", "threshold_cuts", "calibration", "log_odds")),
    *(f"radlens.core.{name}" for name in ("classifier", "heads")),
)
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


def fit_settings(context: Context, settings: Sequence[SettingSpec], learning: Learning) -> list[SettingResult]:
    """From embeddings to predictions; writes `classifiers/<title>/` and `predictions/<title>.parquet` of each.

    What a sweep or several seeds ask for of one setting is fitted together where the setting can. A variant that
    fails stops the study when the others of its setting are written.
    """
    results: list[SettingResult] = []
    for setting in settings:
        family = _Family(context, learning, setting.variants(context.spec.seed))
        failed: RadlensError | None = None
        for number in range(len(family.variants)):
            try:
                results.append(family.result(number))
            except RadlensError as error:
                failed = failed or error
        if failed is not None:
            raise failed
    return results


class _Family:
    """The variants of one setting. Those that are not known yet are fitted in one go, when the first is asked for."""

    def __init__(self, context: Context, learning: Learning, variants: Sequence[Variant]) -> None:
        self.context, self.learning, self.variants = context, learning, variants
        self.parts: list[Setting] = [build_part("settings", v.name, dict(v.options)) for v in variants]
        self.keys = [self._key(number) for number in range(len(variants))]
        known = [context.run.is_done(f"setting:{v.title}", k) for v, k in zip(variants, self.keys, strict=True)]
        self.absent = [number for number, done in enumerate(known) if not done]
        self._fitted: dict[int, Classifier | RadlensError] = {}

    def result(self, number: int) -> SettingResult:
        """Fit one variant, or find what was fitted before."""
        context, variant = self.context, self.variants[number]
        folder = context.run.folder
        place, table = folder / "classifiers" / variant.title, folder / "predictions" / f"{variant.title}.parquet"
        together = type(self.parts[number]).collective

        def make() -> Iterable[Path]:
            return _write(context, self._classifier(number), variant, self.learning, place, table, together)

        context.run.stage(f"setting:{variant.title}", self.keys[number], make, together=together)
        return _result(context, variant, place, table, self.learning)

    def _classifier(self, number: int) -> Classifier:
        if number not in self._fitted:
            kind = type(self.parts[number])
            # a stage may be done again though its key was known: its files are gone
            wanted = self.absent if kind.batched and number in self.absent else [number]
            title = self.variants[number].family if len(wanted) > 1 else self.variants[number].title
            with self.context.tell.bar(f"fitting {title}") as progress:
                tasks = [self._task(each, progress) for each in wanted]
                fitted = kind.fit_together([self.parts[each] for each in wanted], tasks)
            self._fitted |= dict(zip(wanted, fitted, strict=True))
        made = self._fitted.pop(number)
        if isinstance(made, RadlensError):
            raise made
        return made

    def _task(self, number: int, progress: Callable[[int, int], None]) -> AdaptationTask:
        context, learning, variant = self.context, self.learning, self.variants[number]
        cohort, compute = learning.cohort, context.spec.compute
        targets = cohort.targets()
        rows = {split: np.flatnonzero(cohort.where(split)) for split in ("train", "val")}
        ids, paths = cohort.table["image_id"], cohort.table["path"]
        encoder = context.encoder()

        def trunk() -> dict[str, Floats]:
            cut = encoder.without_projection()
            found = embed_with(context, cohort, learning.digests, cut.fingerprint, lambda: cut, "trunk features")
            return {split: found[here] for split, here in rows.items()}

        return AdaptationTask(
            vocabulary=cohort.vocabulary,
            embeddings={split: learning.embeddings[here] for split, here in rows.items()},
            targets={split: targets[here] for split, here in rows.items()},
            encode_texts=learning.encode_texts,
            logit_scale=encoder.logit_scale,
            seed=variant.seed,
            progress=progress,
            encoder=encoder,
            images={split: ImageFiles(ids[here].to_list(), paths[here].to_list()) for split, here in rows.items()},
            trunk=trunk,
            place=TrainingPlace(
                context.run.folder / "training" / variant.title, compute.device, compute.devices, compute.workers
            ),
            tell=lambda line: context.tell.say(f"  {line}"),
        )

    def _key(self, number: int) -> str:
        context, learning, variant = self.context, self.learning, self.variants[number]
        part, cohort = self.parts[number], learning.cohort
        code = source_digest(*_CODE, type(part).__module__)
        return fingerprint(
            *(cohort.table["image_id"].to_list(), _model_reference(context)),
            *(learning.key, cohort.targets(), cohort.table["split"].to_list(), cohort.vocabulary.to_dict()),
            *(
                variant.name,
                variant.title,
                part.model_dump(),
                context.spec.evaluate.model_dump(include={"thresholds", "value"}),
                variant.seed,
                code,
            ),
        )


def _write(
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
        "model": _model_reference(context),
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


def _result(context: Context, variant: Variant, place: Path, table: Path, learning: Learning) -> SettingResult:
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


def _model_reference(context: Context) -> dict[str, str]:
    """How `radlens predict` finds the model again: the study's `model:`, a path made absolute."""
    asked = context.spec.model.model_dump(exclude_none=True)
    if "path" in asked:
        asked["path"] = str((context.spec.folder / Path(asked["path"]).expanduser()).resolve())
    return asked
