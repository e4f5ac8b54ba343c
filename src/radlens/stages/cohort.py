"""Read the cohort, leave out images that cannot be read, split it, and write it down."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from radlens.core.cohort import Cohort, LeftOut
from radlens.core.crew import crew
from radlens.core.errors import DataError, ImageError
from radlens.core.image_facts import ImageFacts
from radlens.core.parts import Dataset
from radlens.core.reports import LabelledReports
from radlens.core.spec import StudySpec, build_part
from radlens.core.store import Cache, fingerprint, source_digest, write_json, writing
from radlens.data.decoding import Decoding
from radlens.data.near_duplicates import near_duplicates, perceptual_hash
from radlens.data.presence import missing_images, require_images
from radlens.data.split_card import split_card
from radlens.data.splits import divide_cohort
from radlens.progress import Teller
from radlens.stages.context import Context
from radlens.stages.label import label_cohort, labeler_of

_SPLITTING = (
    "radlens.data.splits",
    "radlens.data.split_card",
    "radlens.data.split_file",
    "radlens.data.stratification",
    "radlens.data.near_duplicates",
)


@dataclass(frozen=True)
class ReadCohort:
    """A data set, its cohort (divided, without images that no split holds), and what a labeler found in its reports."""

    dataset: Dataset
    cohort: Cohort
    labelled: LabelledReports | None = None


def read_cohort(spec: StudySpec, cache: Cache, skip_bad_images: bool, tell: Teller) -> ReadCohort:
    """Read, label and divide the cohort. A missing image raises `DataError` unless bad ones are skipped."""
    dataset: Dataset = build_part("datasets", spec.cohort.dataset, spec.cohort.options())
    labelled = None
    labeler = labeler_of(spec)
    with crew().first_goes_ahead():
        with tell.bar("reading cohort") as progress:
            cohort = dataset.load(spec.folder, cache.folder, progress)
        if labeler is not None:
            with tell.bar("labelling reports") as progress:
                cohort, labelled = label_cohort(cohort, dataset, labeler, spec.folder, cache, progress)
    if np.isnan(cohort.targets()).all():
        raise DataError(
            f"cohort {cohort.name} has no labels: name a labeler for its reports (`labeler: rules`), or a table."
        )
    # refused now, not after hours of encoding
    cohort = divide(cohort, spec)
    placed = cohort.table["split"].is_not_null()
    if not placed.all():
        outside = cohort.table.filter(~placed)["image_id"].to_list()
        what = "images that the split file does not name" if spec.split.file else "images outside the official split"
        cohort = cohort.keep(placed.to_numpy()).leaving_out(LeftOut.of(what, outside))
    if not skip_bad_images:
        require_images(cohort)
    return ReadCohort(dataset, cohort, labelled)


def missing(cohort: Cohort) -> dict[int, ImageError]:
    """Row -> error of the images that are not there."""
    paths = cohort.table["path"]
    return {int(row): ImageError(paths[int(row)], "does not exist") for row in np.flatnonzero(missing_images(cohort))}


def skipped(cohort: Cohort, failures: dict[int, ImageError]) -> list[dict[str, Any]]:
    """What run.json and the report say of images that were left out; rows count from 1."""
    ids = cohort.table["image_id"]
    return [{"image_id": ids[row], "row": row + 1, "reason": e.reason} for row, e in sorted(failures.items())]


def split_cohort(context: Context, cohort: Cohort, digests: Sequence[str | None]) -> Cohort:
    """Give the cohort its split; write `cohort.parquet` and `split_card.json`."""
    spec = context.spec.split
    folder = context.run.folder
    code = source_digest(*_SPLITTING)
    given = cohort.table["split"].to_list()
    key = fingerprint(
        cohort_fingerprint(cohort), cohort.table["path"].to_list(), spec.model_dump(), given, code, digests
    )

    def make() -> Iterable[Path]:
        divided = divide(cohort, context.spec)
        near = near_duplicates(picture_hashes(context, divided, digests), divided.table["split"].to_numpy())
        card = split_card(divided, spec, digests, near)
        with writing(folder / "cohort.parquet") as aside:
            divided.table.write_parquet(aside)
        write_json(folder / "split_card.json", card)
        return folder / "cohort.parquet", folder / "split_card.json"

    context.run.stage("split", key, make)
    import polars as pl

    table = pl.read_parquet(folder / "cohort.parquet", columns=["split"])
    for warning in json.loads((folder / "split_card.json").read_text("utf-8")).get("warnings", []):
        context.tell.warn(warning)
    return cohort.with_split(table["split"].to_list())


def divide(cohort: Cohort, spec: StudySpec) -> Cohort:
    """The cohort with its split; one that cannot be split raises `DataError`."""
    return divide_cohort(cohort, spec.split, spec.folder)


def picture_hashes(context: Context, cohort: Cohort, digests: Sequence[str | None]) -> list[bytes | None]:
    """(N,) perceptual hashes; an image that was not decoded for its embedding (which was cached) is decoded now."""
    facts = ImageFacts(context.cache.folder)
    known = facts.hashes(digests)
    absent = [row for row, value in enumerate(known) if value is None and digests[row] is not None]
    if not absent:
        return known
    paths = cohort.table["path"]

    def look(row: int) -> None:
        digest = digests[row]
        try:
            image = decoding.read(Path(paths[row]))
        except ImageError:
            return
        if digest is not None:
            height, width = image.pixels.shape[:2]
            facts.remember(digest, width, height, image.note, perceptual_hash(image.pixels))

    workers = context.spec.compute.workers
    with (
        Decoding([paths[row] for row in absent], workers) as decoding,
        context.tell.bar("comparing images") as progress,
        ThreadPoolExecutor(workers) as pool,
    ):
        for done, _ in enumerate(pool.map(look, absent), 1):
            progress(done, len(absent))
    return facts.hashes(digests)


def save_evidence(context: Context, labelled: LabelledReports) -> None:
    """`label_evidence.csv`: for every label that a report decided, the sentence or code that did it."""
    path = context.run.folder / "label_evidence.csv"

    def make() -> Iterable[Path]:
        with writing(path) as aside:
            labelled.evidence.write_csv(aside)
        return (path,)

    context.run.stage("labels", fingerprint(labelled.evidence.write_csv(), labelled.origin), make)


def cohort_fingerprint(cohort: Cohort) -> str:
    """Changes with any cell of the table and with the vocabulary; paths do not count, contents of files do."""
    buffer = io.BytesIO()
    cohort.table.drop("path", "split").write_ipc(buffer)
    return fingerprint(buffer.getvalue(), cohort.vocabulary.to_dict())


def refuse_empty(cohort: Cohort) -> None:
    """All images skipped leaves nothing to study."""
    if len(cohort) == 0:
        raise DataError(f"cohort {cohort.name}: none of its images can be read.")
