"""Fit each setting, choose its thresholds on validation, and write down what it predicts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from radlens.core.classifier import Classifier
from radlens.core.errors import RadlensError
from radlens.core.parts import AdaptationTask, Floats, Setting, TrainingPlace
from radlens.core.spec import SettingSpec, Variant, build_part
from radlens.core.store import fingerprint, source_digest
from radlens.data.image_files import ImageFiles
from radlens.evaluate.tables import SettingResult
from radlens.stages.context import Context
from radlens.stages.embed import embed_with
from radlens.stages.fitted import Learning, model_reference, read_fitted, write_fitted

_CODE = (
    "radlens.adapt",
    *(f"radlens.evaluate.{name}" for name in ("thresholds", "threshold_cuts", "calibration", "log_odds")),
    *(f"radlens.core.{name}" for name in ("classifier", "heads")),
)


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
            return write_fitted(context, self._classifier(number), variant, self.learning, place, table, together)

        context.run.stage(f"setting:{variant.title}", self.keys[number], make, together=together)
        return read_fitted(context, variant, place, table, self.learning)

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
            *(cohort.table["image_id"].to_list(), model_reference(context)),
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
