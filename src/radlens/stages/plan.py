"""What a study explains: which images, and which regions are known of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from radlens.core.cohort import Cohort
from radlens.core.image_facts import ImageFacts
from radlens.core.parts import AnnotationFormat, Dataset
from radlens.core.regions import Annotations
from radlens.core.spec import ExplainSpec, build_part
from radlens.explain.sites import check_sites, resolve_sites
from radlens.stages.context import Context
from radlens.stages.films import Films


@dataclass(frozen=True)
class Drawn:
    """Images of one split that are explained, their files' digests, and the regions that are known of them."""

    image_ids: tuple[str, ...]
    content: tuple[str | None, ...]
    annotations: Annotations | None


@dataclass(frozen=True)
class Plan:
    """What is to be explained: test images, and validation images on whose regions a map's threshold is chosen."""

    spec: ExplainSpec
    films: Films
    test: Drawn
    val: Drawn


def plan_explanation(context: Context, dataset: Dataset, cohort: Cohort, digests: Sequence[str | None]) -> Plan | None:
    """Check layers and annotations, and draw the images, before anything is fitted. None where nothing is asked for."""
    spec = context.spec.explain
    if spec is None:
        return None
    if context.loaded:
        check_sites(context.encoder(), resolve_sites(context.encoder(), spec.layers))
    films = Films(cohort, digests, ImageFacts(context.cache.folder))
    given = _given(context, spec, cohort, films)
    content = dict(zip(cohort.table["image_id"], digests, strict=True))

    def drawn(split: str, limit: int) -> Drawn:
        ids = _draw(given, cohort, split, limit, context.spec.seed)
        known = given.of(ids) if given is not None else dataset.annotations(cohort, ids)
        return Drawn(tuple(ids), tuple(content[image_id] for image_id in ids), known)

    test = drawn("test", spec.images)
    if not test.image_ids:
        context.tell.warn("no test image has a finding to explain; no maps will be drawn.")
        return None
    # without regions there is nothing to tune on
    val = drawn("val", spec.tuning_images if test.annotations is not None and test.annotations.regions else 0)
    if (known := given or test.annotations) is not None:
        context.run.facts["annotations"] = {
            "source": known.source,
            "regions": len(known.regions),
            "images": len(known.image_ids()),
            "left_out": known.left_out,
        }
    return Plan(spec, films, test, val)


def _given(context: Context, spec: ExplainSpec, cohort: Cohort, films: Films) -> Annotations | None:
    """The regions of the study's annotation file; None where it names none."""
    if spec.annotations is None or spec.format is None:
        return None
    reader: AnnotationFormat = build_part("formats", spec.format, spec.options())
    return reader.read(context.spec.folder / spec.annotations, cohort.vocabulary.names, films)


def _draw(given: Annotations | None, cohort: Cohort, split: str, limit: int, seed: int) -> list[str]:
    """At most `limit` images of a split that show a finding (or carry a region), rare labels first, seeded."""
    table = cohort.table.filter(pl.col("split") == split)
    ids = table["image_id"].to_list()
    if given is not None:
        marked = {(region.image_id, region.label) for region in given.regions}
        candidates = {label: [i for i in ids if (i, label) in marked] for label in cohort.vocabulary.names}
    else:
        findings = [label for label in cohort.vocabulary.names if label != cohort.vocabulary.no_finding]
        candidates = {label: table.filter(pl.col(label) == 1)["image_id"].to_list() for label in findings}
    generator = np.random.default_rng(seed)
    turns = [list(generator.permutation(found)) for found in sorted(candidates.values(), key=len) if found]
    drawn: dict[str, None] = {}
    for turn in range(max(map(len, turns), default=0)):
        for queue in turns:
            if turn < len(queue) and len(drawn) < limit:
                drawn[str(queue[turn])] = None
    return list(drawn)
