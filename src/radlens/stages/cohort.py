"""Read the cohort, leave out images that cannot be read, split it, and write it down."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from radlens.core.cohort import SPLITS, Cohort
from radlens.core.errors import DataError, ImageError
from radlens.core.parts import Dataset, Progress, unheard
from radlens.core.spec import SplitSpec, StudySpec, build_part
from radlens.core.store import fingerprint, source_digest, write_json, writing
from radlens.data.presence import missing_images, require_images
from radlens.data.splits import assign_split, split_card
from radlens.stages.context import Context


def read_cohort(
    spec: StudySpec, work: Path, skip_bad_images: bool, progress: Progress = unheard
) -> tuple[Dataset, Cohort]:
    """The data set and its cohort, without a split. A missing image raises `DataError` unless bad ones are skipped."""
    dataset: Dataset = build_part("datasets", spec.cohort.dataset, spec.cohort.options())
    cohort = dataset.load(spec.folder, work, progress)
    if not skip_bad_images:
        require_images(cohort)
    return dataset, cohort


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
    code = source_digest("radlens.data.splits", "radlens.data.stratification")
    key = fingerprint(cohort_fingerprint(cohort), cohort.table["path"].to_list(), spec.model_dump(), code, digests)

    def make() -> Iterable[Path]:
        divided = divide(cohort, spec)
        card = split_card(divided, spec, digests)
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


def divide(cohort: Cohort, spec: SplitSpec) -> Cohort:
    """The cohort with its split; one that cannot be split raises `DataError`."""
    return assign_split(cohort, {name: getattr(spec, name) for name in SPLITS}, spec.seed)


def cohort_fingerprint(cohort: Cohort) -> str:
    """Changes with any cell of the table and with the vocabulary; paths do not count, contents of files do."""
    buffer = io.BytesIO()
    cohort.table.drop("path", "split").write_ipc(buffer)
    return fingerprint(buffer.getvalue(), cohort.vocabulary.to_dict())


def refuse_empty(cohort: Cohort) -> None:
    """All images skipped leaves nothing to study."""
    if len(cohort) == 0:
        raise DataError(f"cohort {cohort.name}: none of its images can be read.")
