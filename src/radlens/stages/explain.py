"""Draw the maps of every setting on the same images, score them against regions, and say whether to believe them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from radlens.core.classifier import load_classifier
from radlens.core.cohort import Cohort
from radlens.core.regions import SaliencyMaps
from radlens.core.registry import get
from radlens.core.store import fingerprint, source_digest
from radlens.evaluate.tables import SettingResult
from radlens.explain.maps import load_maps, saliency_maps, save_maps
from radlens.stages.context import Context
from radlens.stages.localization import score_maps
from radlens.stages.plan import Drawn, Plan
from radlens.stages.trust import judge_maps

_BATCH = 4
_CODE = (
    *(f"radlens.explain.{name}" for name in ("maps", "drawing", "passes", "sites", "attention", "quantities")),
    *(f"radlens.explain.{name}" for name in ("readout", "recording", "class_token")),
    "radlens.core.class_token",
)


def explain(context: Context, plan: Plan, cohort: Cohort, results: Sequence[SettingResult]) -> None:
    """`saliency/` and, where there are regions, the tables of localisation; then the trust cards."""
    context.tell.say(f"explaining {len(plan.test.image_ids)} test images by {', '.join(plan.spec.methods)}")
    maps = {result.setting: _maps(context, plan, plan.test, result.setting, "saliency") for result in results}
    tuning = {}
    if plan.val.image_ids:
        tuning = {r.setting: _maps(context, plan, plan.val, r.setting, "saliency/validation") for r in results}
    pairs = score_maps(context, plan, cohort, maps, tuning, results)
    judge_maps(context, plan, maps, pairs)


def _maps(context: Context, plan: Plan, drawn: Drawn, setting: str, place: str) -> SaliencyMaps:
    """Maps of the images of one split, drawn or found; they do not depend on the regions."""
    spec, films, ids = plan.spec, plan.films, drawn.image_ids
    run, folder = context.run, context.run.folder / place
    drawers = {get("saliency", method).__module__ for method in spec.methods}
    made_with = run.stages[f"setting:{setting}"].key
    code = source_digest(*_CODE, *sorted(drawers))
    key = fingerprint(made_with, list(ids), list(drawn.content), list(spec.methods), list(spec.layers), code)

    def make() -> Iterable[Path]:
        encoder = context.encoder()
        classifier = load_classifier(run.folder / "classifiers" / setting, encoder)

        def batches() -> Iterator[npt.NDArray[np.float32]]:
            for start in range(0, len(ids), _BATCH):
                yield np.stack([encoder.transform(films.pixels(i)) for i in ids[start : start + _BATCH]])

        with context.tell.bar(f"maps of {setting}") as progress:
            maps = saliency_maps(
                classifier, batches(), ids, spec.methods, spec.layers, batch_size=_BATCH, progress=progress
            )
        return (save_maps(folder, setting, maps),)

    name = f"maps:{setting}" if place == "saliency" else f"validation-maps:{setting}"
    run.stage(name, key, make)
    return load_maps(folder, setting)
