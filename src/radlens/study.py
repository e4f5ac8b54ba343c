"""A study's stages in order. This is the only place where the rooms meet."""

from __future__ import annotations

import platform
import shlex
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from rich.console import Console

from radlens.core.errors import DataError, SpecError, unknown_name
from radlens.core.registry import get
from radlens.core.run_folder import RunFolder
from radlens.core.spec import StudySpec, build_part
from radlens.core.store import Cache, default_cache
from radlens.draws import run_draws
from radlens.models.loading import resolve
from radlens.progress import Teller
from radlens.stages.adapt import fit_settings
from radlens.stages.cohort import missing, read_cohort, refuse_empty, save_evidence, skipped, split_cohort
from radlens.stages.context import Context
from radlens.stages.embed import embed_images, embed_texts, embedding_key
from radlens.stages.evaluate import write_tables
from radlens.stages.explain import explain
from radlens.stages.fitted import Learning
from radlens.stages.intervals import write_intervals
from radlens.stages.label import labeler_of
from radlens.stages.plan import plan_explanation
from radlens.stages.report import save_study, summarise, write_page
from radlens.stages.statistics import write_statistics

_VERSIONS = ("torch", "torchvision", "open_clip_torch", "timm", "transformers", "numpy", "polars", "pydicom", "Pillow")


def run_study(spec: StudySpec, out: Path, tell: Teller | None = None, *, skip_bad_images: bool = False) -> Path:
    """Run a study into the folder `out` and return the path of its report.

    A split of several folds or repeats is run one by one, each in a folder of its own inside `out`.
    What was done before with the same content is not done again; a run that was stopped goes on where it was.
    Raises a `RadlensError` of one sentence for anything that the user can mend. Phantoms are rendered in processes of
    their own: a script of yours that calls this needs the usual `if __name__ == "__main__":`.
    """
    tell = tell or Teller(Console(stderr=True))
    check_names(spec)
    if spec.split.draws > 1:
        return run_draws(spec, out, tell, lambda one, folder: run_one(one, folder, tell, skip_bad_images))
    return run_one(spec, out, tell, skip_bad_images)


def run_one(spec: StudySpec, out: Path, tell: Teller, skip_bad_images: bool) -> Path:
    """Run a study on one split."""
    cache = Cache(default_cache())
    source = resolve(spec.model, spec.folder, cache)
    run = RunFolder(out)
    context = Context(spec, run, cache, tell, source, skip_bad_images)
    run.facts |= facts(spec)
    save_study(context)
    revision = str(source.card.get("weights", {}).get("revision", ""))
    if revision.startswith("unknown"):
        tell.warn(f"the weights in {source.location} are {revision}.")

    tell.say(f"reading cohort {spec.cohort.dataset}")
    read = read_cohort(spec, cache, skip_bad_images, tell)
    dataset, cohort = read.dataset, read.cohort
    if read.labelled is not None:
        save_evidence(context, read.labelled)
    gone = missing(cohort) if skip_bad_images else {}
    with tell.bar("reading files") as progress:
        digests = cache.file_digests([Path(path) for path in cohort.table["path"]], progress)

    tell.say(f"encoding {len(cohort)} images")
    found = embed_images(context, cohort, digests)
    failures = found.failures | gone
    run.facts["skipped_images"] = skipped(cohort, failures)
    good = np.array([row not in failures for row in range(len(cohort))])
    cohort, embeddings = cohort.keep(good), found.array[good]
    digests = [digest for digest, kept in zip(digests, good, strict=True) if kept]
    refuse_empty(cohort)

    cohort = split_cohort(context, cohort, digests)
    key = embedding_key(context, digests)
    learning = Learning(cohort, digests, embeddings, key, lambda texts: embed_texts(context, texts))
    plan = plan_explanation(context, dataset, cohort, digests)
    results = fit_settings(context, spec.settings, learning)
    write_tables(context, cohort, results)
    write_statistics(context, cohort, results)
    write_intervals(context, cohort, results)
    if plan is not None:
        explain(context, plan, cohort, results)
    summarise(context, cohort)
    return write_page(context)


def check_names(spec: StudySpec) -> None:
    """Refuse unknown names and options before any work is done."""
    build_part("datasets", spec.cohort.dataset, spec.cohort.options())
    labeler = labeler_of(spec)
    if labeler is not None:
        build_part("labelers", labeler.name, labeler.options())
    for variant in (v for setting in spec.settings for v in setting.variants(spec.seed)):
        build_part("settings", variant.name, dict(variant.options))
    if spec.explain is not None:
        for method in spec.explain.methods:
            get("saliency", method)
        known = set(type(spec.explain).model_fields)
        if spec.explain.format is not None:
            known |= set(get("formats", spec.explain.format).model_fields)
        for option in spec.explain.options():
            if option not in known:
                raise SpecError(f"explain: {unknown_name('key', option, known)}")
        if spec.explain.annotations is not None and spec.explain.format is not None:
            build_part("formats", spec.explain.format, spec.explain.options())
            annotations = spec.folder / spec.explain.annotations
            if not annotations.is_file():
                raise DataError(f"explain.annotations: {annotations} does not exist.")


def facts(spec: StudySpec) -> dict[str, object]:
    """What run.json says of the program and the machine."""
    return {
        "radlens": version("radlens"),
        "name": spec.name,
        "command": shlex.join(["radlens", *sys.argv[1:]]) if Path(sys.argv[0]).stem in ("radlens", "cli") else None,
        "seed": spec.seed,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: found for name in _VERSIONS if (found := _version(name)) is not None},
        "precision": spec.compute.precision,
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
