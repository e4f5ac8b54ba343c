"""Draw the maps of every setting on the same test images, score them against regions, and keep examples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from radlens.core.classifier import load_classifier
from radlens.core.cohort import Cohort
from radlens.core.image_facts import ImageFacts
from radlens.core.parts import AnnotationFormat, Dataset
from radlens.core.regions import Annotations, Geometry, SaliencyMaps
from radlens.core.registry import get
from radlens.core.spec import ExplainSpec, build_part
from radlens.core.store import fingerprint, source_digest, write_json
from radlens.evaluate.tables import SettingResult
from radlens.explain.definitions import DEFINITIONS
from radlens.explain.localization_table import localization_table
from radlens.explain.maps import load_maps, saliency_maps, save_maps
from radlens.explain.sites import check_sites, resolve_sites
from radlens.stages.context import Context
from radlens.stages.evaluate import write_csv
from radlens.stages.examples import show_examples
from radlens.stages.films import Films

_BATCH = 4


@dataclass(frozen=True)
class Plan:
    """What is to be explained: which test images, their files' digests, and the regions that are known of them."""

    spec: ExplainSpec
    films: Films
    drawn: tuple[str, ...]
    content: tuple[str | None, ...]
    annotations: Annotations | None


def plan_explanation(context: Context, dataset: Dataset, cohort: Cohort, digests: Sequence[str | None]) -> Plan | None:
    """Check layers and annotations, and draw the images, before anything is fitted. None where nothing is asked for."""
    spec = context.spec.explain
    if spec is None:
        return None
    if context.loaded:
        check_sites(context.encoder(), resolve_sites(context.encoder(), spec.layers))
    films = Films(cohort, digests, ImageFacts(context.cache.folder))
    given = _given(context, spec, cohort, films)
    drawn = _draw(given, cohort, spec.images, context.spec.seed)
    if not drawn:
        context.tell.warn("no test image has a finding to explain; no maps will be drawn.")
        return None
    annotations = given.of(drawn) if given is not None else dataset.annotations(cohort, drawn)
    if (known := given or annotations) is not None:
        context.run.facts["annotations"] = {
            "source": known.source,
            "regions": len(known.regions),
            "images": len(known.image_ids()),
            "left_out": known.left_out,
        }
    content = dict(zip(cohort.table["image_id"], digests, strict=True))
    return Plan(spec, films, tuple(drawn), tuple(content[image_id] for image_id in drawn), annotations)


def explain(context: Context, plan: Plan, results: Sequence[SettingResult]) -> None:
    """`saliency/` and, where there are regions, `tables/localization.csv`."""
    context.tell.say(f"explaining {len(plan.drawn)} test images by {', '.join(plan.spec.methods)}")
    maps = {result.setting: _maps(context, plan, result.setting) for result in results}
    _score(context, plan, maps, results)


def _given(context: Context, spec: ExplainSpec, cohort: Cohort, films: Films) -> Annotations | None:
    """The regions of the study's annotation file; None where it names none."""
    if spec.annotations is None or spec.format is None:
        return None
    reader: AnnotationFormat = build_part("formats", spec.format, spec.options())
    return reader.read(context.spec.folder / spec.annotations, cohort.vocabulary.names, films)


def _draw(given: Annotations | None, cohort: Cohort, limit: int, seed: int) -> list[str]:
    """At most `limit` test images that show a finding (or carry a region), rare labels first, by a seeded draw."""
    test = cohort.table.filter(pl.col("split") == "test")
    ids = test["image_id"].to_list()
    if given is not None:
        marked = {(region.image_id, region.label) for region in given.regions}
        candidates = {label: [i for i in ids if (i, label) in marked] for label in cohort.vocabulary.names}
    else:
        findings = [label for label in cohort.vocabulary.names if label != cohort.vocabulary.no_finding]
        candidates = {label: test.filter(pl.col(label) == 1)["image_id"].to_list() for label in findings}
    generator = np.random.default_rng(seed)
    turns = [list(generator.permutation(found)) for found in sorted(candidates.values(), key=len) if found]
    drawn: dict[str, None] = {}
    for turn in range(max(map(len, turns), default=0)):
        for queue in turns:
            if turn < len(queue) and len(drawn) < limit:
                drawn[str(queue[turn])] = None
    return list(drawn)


def _maps(context: Context, plan: Plan, setting: str) -> SaliencyMaps:
    spec, films, drawn = plan.spec, plan.films, plan.drawn
    run, folder = context.run, context.run.folder / "saliency"
    outsiders = {get("saliency", method).__module__ for method in spec.methods}
    code = source_digest("radlens.explain", "radlens.core.class_token", *sorted(outsiders))
    made_with = run.stages[f"setting:{setting}"].key
    key = fingerprint(made_with, list(drawn), list(plan.content), list(spec.methods), list(spec.layers), code)

    def make() -> Iterable[Path]:
        encoder = context.encoder()
        classifier = load_classifier(run.folder / "classifiers" / setting, encoder)

        def batches() -> Iterator[npt.NDArray[np.float32]]:
            for start in range(0, len(drawn), _BATCH):
                yield np.stack([encoder.transform(films.pixels(i)) for i in drawn[start : start + _BATCH]])

        with context.tell.bar(f"maps of {setting}") as progress:
            maps = saliency_maps(
                classifier, batches(), drawn, spec.methods, spec.layers, batch_size=_BATCH, progress=progress
            )
        return (save_maps(folder, setting, maps),)

    run.stage(f"maps:{setting}", key, make)
    return load_maps(folder, setting)


def _score(context: Context, plan: Plan, maps: Mapping[str, SaliencyMaps], results: Sequence[SettingResult]) -> None:
    films, annotations = plan.films, plan.annotations
    run = context.run
    keys = [stage.key for name, stage in run.stages.items() if name.startswith("maps:")]
    code = source_digest("radlens.explain", "radlens.core.regions", "radlens.core.shapes", "radlens.stages.examples")
    key = fingerprint(keys, annotations, context.spec.seed, code)

    def make() -> Iterable[Path]:
        size = context.encoder().transform.size
        geometries = {image_id: Geometry(*films[image_id], size) for image_id in plan.drawn}
        tables: list[Path] = []
        if annotations is not None and annotations.regions:
            table = localization_table(maps, annotations, geometries, films.patients)
            tables = [run.folder / "tables" / name for name in ("localization.csv", "localization_definitions.json")]
            write_csv(tables[0], table)
            write_json(tables[1], DEFINITIONS)
        seed = context.spec.seed
        gallery = show_examples(run.folder / "saliency", annotations, films, maps, results, geometries, seed)
        return *tables, *gallery

    run.stage("localization", key, make)
