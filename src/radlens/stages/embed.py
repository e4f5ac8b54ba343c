"""Embed the images of a cohort and the sentences of a setting, through the cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from radlens.core.cohort import Cohort
from radlens.core.crew import Crew
from radlens.core.errors import DataError, ImageError
from radlens.core.image_facts import ImageFacts
from radlens.core.parts import Floats
from radlens.core.store import fingerprint, source_digest
from radlens.data.decoding import Decoding
from radlens.data.near_duplicates import perceptual_hash
from radlens.models.embed import ImageEmbeddings, cached_image_embeddings, cached_text_embeddings
from radlens.stages.context import Context

if TYPE_CHECKING:
    from radlens.core.classifier import Encoder

_DECODING = tuple(
    f"radlens.data.{name}" for name in ("images", "decoded", "dicom", "dicom_grey", "dicom_tables", "windowing")
)

_SHARED = ("radlens.core.transform", "radlens.core.regions", "radlens.core.class_token")
_SHOWN = 20
"""Notes of so many images are listed in run.json, beside their number."""


def embed_images(context: Context, cohort: Cohort, digests: Sequence[str | None]) -> ImageEmbeddings:
    """Embeddings of all images by the model as it is, in the cohort's order; what was found goes into run.json.

    The first image that cannot be decoded raises `DataError` with its row, unless bad images are skipped; what was
    encoded before it stays in the cache.
    """
    facts = ImageFacts(context.cache.folder)
    found = _embed(context, cohort, digests, context.source.fingerprint, context.encoder, "images", context.run.crew)
    if found.failures and not context.skip_bad_images:
        row, error = next(iter(found.failures.items()))
        raise DataError(_bad(cohort, row, error))
    known = facts.notes(digests)
    noted = [(row, known[digest]) for row, digest in enumerate(digests) if digest in known]
    examples = {cohort.table["image_id"][row]: text for row, text in noted[:_SHOWN]}
    context.run.facts["image_notes"] = {"images": len(noted), "first": examples}
    seconds = max(found.seconds, 1e-9)
    context.run.facts["embedding"] = {
        "seconds": round(found.seconds, 3),
        "images": len(cohort),
        "images_per_second": None if found.cached else round(len(cohort) / seconds, 2),
        "cached": found.cached,
    }
    context.run.facts["agreement_bfloat16"] = found.agreement
    if found.agreement is not None:
        context.tell.say(f"  bfloat16 against float32 on the first images: least cosine {found.agreement:.5f}")
    return found


def embed_with(
    context: Context,
    cohort: Cohort,
    digests: Sequence[str | None],
    encoder_fingerprint: str,
    make_encoder: Callable[[], Encoder],
    title: str,
    crew: Crew | None = None,
) -> Floats:
    """(N, D) embeddings of all images by another encoder, through the cache. An image that fails raises `DataError`.

    crew: the processes that share the work; all of them must call this.
    """
    found = _embed(context, cohort, digests, encoder_fingerprint, make_encoder, title, crew or Crew())
    for row, error in found.failures.items():
        raise DataError(_bad(cohort, row, error))
    return found.array


def _embed(
    context: Context,
    cohort: Cohort,
    digests: Sequence[str | None],
    encoder_fingerprint: str,
    make_encoder: Callable[[], Encoder],
    title: str,
    crew: Crew,
) -> ImageEmbeddings:
    compute = context.spec.compute
    paths = [Path(path) for path in cohort.table["path"]]
    rows = {path: row for row, path in enumerate(paths)}
    facts = ImageFacts(context.cache.folder)

    def load(path: Path) -> npt.NDArray[np.uint8]:
        try:
            image = decoding.read(path)
        except ImageError as error:
            if context.skip_bad_images:
                raise
            raise DataError(_bad(cohort, rows[path], error)) from error
        digest = digests[rows[path]]
        if digest is not None:
            height, width = image.pixels.shape[:2]
            facts.remember(digest, width, height, image.note, perceptual_hash(image.pixels))
        return image.pixels

    with (
        Decoding(cohort.table["path"].to_list(), compute.workers) as decoding,
        context.tell.bar(f"encoding {title}") as progress,
    ):
        return cached_image_embeddings(
            context.cache,
            encoder_fingerprint,
            make_encoder,
            paths,
            digests,
            load,
            load_fingerprint=source_digest(*_DECODING),
            batch_size=compute.batch_size,
            precision=compute.precision,
            workers=compute.workers,
            progress=progress,
            crew=crew,
        )


def embed_texts(context: Context, texts: Sequence[str]) -> Floats:
    """(T, D) un-normalised embeddings of sentences."""
    return cached_text_embeddings(context.cache, context.source.fingerprint, context.encoder, texts).array


def embedding_key(context: Context, digests: Sequence[str | None], encoder_fingerprint: str | None = None) -> str:
    """Fingerprint of the embeddings of these images by an encoder (the study's model) at the study's precision."""
    encoding = source_digest("radlens.models", *_SHARED)
    decoding = source_digest(*_DECODING)
    encoder = encoder_fingerprint or context.source.fingerprint
    return fingerprint(encoder, context.spec.compute.precision, list(digests), decoding, encoding)


def _bad(cohort: Cohort, row: int, error: ImageError) -> str:
    image_id = cohort.table["image_id"][row]
    what = str(error).rstrip(".")
    return f"row {row + 1}, image id {image_id!r}: {what}; mend or remove it, or go on with --skip-bad-images."
