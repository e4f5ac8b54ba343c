"""Embeddings from the cache, or made and cached. No torch is imported, and no model loaded, where all is cached."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from radlens.core.crew import Crew
from radlens.core.errors import ImageError
from radlens.core.parts import Progress
from radlens.core.store import Cache, fingerprint, source_digest

if TYPE_CHECKING:
    from radlens.core.classifier import Encoder

CHUNK = 256
"""Images in one cache entry, about: a killed run loses at most four times as many."""
_TEXTS = 64


@dataclass(frozen=True)
class ImageEmbeddings:
    """array: float32 (N, D), un-normalised, NaN where the image failed. failures: row -> why.

    cached: nothing had to be encoded. agreement: least cosine between bfloat16 and float32 on the first images; None
    in float32. seconds: this call took.
    """

    array: npt.NDArray[np.float32]
    failures: dict[int, ImageError]
    cached: bool
    agreement: float | None
    seconds: float


@dataclass(frozen=True)
class TextEmbeddings:
    """array: float32 (T, D), un-normalised. cached: nothing had to be encoded. seconds: this call took."""

    array: npt.NDArray[np.float32]
    cached: bool
    seconds: float


def cached_image_embeddings(
    cache: Cache,
    encoder_fingerprint: str,
    make_encoder: Callable[[], Encoder],
    paths: Sequence[Path],
    digests: Sequence[str | None],
    load: Callable[[Path], npt.NDArray[np.uint8]],
    *,
    load_fingerprint: str = "",
    batch_size: int = 32,
    precision: str = "float32",
    workers: int = 2,
    progress: Progress | None = None,
    crew: Crew | None = None,
) -> ImageEmbeddings:
    """Embeddings of images in order, through the cache in chunks, so that a killed run goes on where it was.

    make_encoder: called at most once, and only when something is missing. digests: sha256 of each file, None where it
    cannot be read (such an image fails with what `load` says of it). load: decodes one file, or raises `ImageError`.
    load_fingerprint: of all that changes what `load` returns (its options, its code). crew: processes that share the
    work, each calling this with the same arguments and one cache.
    """
    crew = crew or Crew()
    from_start = time.perf_counter()
    encoder = _Once(make_encoder)
    code = source_digest(*_CODE)
    arrays: list[npt.NDArray[np.float32]] = []
    failures: dict[int, ImageError] = {}
    agreements: list[float] = []
    all_cached = True
    options = {"batch_size": batch_size, "precision": precision, "workers": workers}
    pieces = list(chunks(digests))

    def key_of(start: int, stop: int) -> str:
        known = list(digests[start:stop])
        return fingerprint("images", encoder_fingerprint, code, load_fingerprint, precision, known)

    def encode_piece(start: int, stop: int) -> Callable[[], Mapping[str, npt.NDArray[Any]]]:
        known = list(digests[start:stop])
        return partial(_encode_chunk, encoder, paths[start:stop], known, load, progress, start, len(paths), options)

    if crew.world > 1:
        # each process encodes its share into the cache that all of them then read
        for piece in crew.mine(len(pieces)):
            cache.arrays("embeddings", key_of(*pieces[piece]), encode_piece(*pieces[piece]))
        crew.barrier()
    for start, stop in pieces:
        chunk, known = paths[start:stop], list(digests[start:stop])
        key, encode = key_of(start, stop), encode_piece(start, stop)
        entry, was_cached = cache.arrays("embeddings", key, encode)
        reasons = json.loads(bytes(entry["failures"]).decode())
        if was_cached and any(_loads(load, chunk[int(row)]) for row in reasons):
            # what failed then decodes now (a decoder was installed, there is more memory): make the entry anew
            cache.path("embeddings", key).unlink()
            entry, was_cached = cache.arrays("embeddings", key, encode)
            reasons = json.loads(bytes(entry["failures"]).decode())
        failures |= {start + int(row): ImageError(str(chunk[int(row)]), why) for row, why in reasons.items()}
        failures |= {start + i: _refusal(load, chunk[i]) for i, digest in enumerate(known) if digest is None}
        arrays.append(entry["embeddings"])
        agreements.append(float(entry["agreement"][0]))
        all_cached &= was_cached
        if progress is not None:
            progress(stop, len(paths))
    array = np.concatenate(arrays) if arrays else np.empty((0, encoder().dimension), np.float32)
    measured = [value for value in agreements if not np.isnan(value)]
    agreement = min(measured) if measured else None
    seconds = time.perf_counter() - from_start
    return ImageEmbeddings(array, dict(sorted(failures.items())), all_cached, agreement, seconds)


def chunks(digests: Sequence[str | None]) -> Iterator[tuple[int, int]]:
    """(start, stop) of chunks of about `CHUNK` images, cut by content.

    An image that is added or left out changes its own chunk and leaves the others in the cache.
    """
    start = 0
    for stop, digest in enumerate(digests, 1):
        ends = digest is not None and int(digest[:8], 16) % CHUNK == 0
        if ends or stop - start == 4 * CHUNK or stop == len(digests):
            yield start, stop
            start = stop


def cached_text_embeddings(
    cache: Cache, encoder_fingerprint: str, make_encoder: Callable[[], Encoder], texts: Sequence[str]
) -> TextEmbeddings:
    """Embeddings of sentences in order, in float32. make_encoder: called only when they are not cached."""
    from_start = time.perf_counter()
    key = fingerprint("texts", encoder_fingerprint, source_digest(*_CODE), list(texts))
    entry, was_cached = cache.arrays("embeddings", key, lambda: {"embeddings": _encode_texts(make_encoder(), texts)})
    return TextEmbeddings(entry["embeddings"], was_cached, time.perf_counter() - from_start)


# what turns pixels and sentences into embeddings
_CODE = (
    *(f"radlens.core.{name}" for name in ("class_token", "regions", "transform")),
    *(
        f"radlens.models.{name}"
        for name in (
            *("encode", "encoder", "image_tower", "convolutional_tower", "in_place_blocks", "open_clip", "tokenizer"),
            *("transformers_clip", "transformers_tower", "weights"),
        )
    ),
)


class _Once:
    def __init__(self, make: Callable[[], Encoder]) -> None:
        self._make = make
        self._made: Encoder | None = None

    def __call__(self) -> Encoder:
        if self._made is None:
            self._made = self._make()
        return self._made


def _encode_chunk(
    make_encoder: Callable[[], Encoder],
    paths: Sequence[Path],
    digests: Sequence[str | None],
    load: Callable[[Path], npt.NDArray[np.uint8]],
    progress: Progress | None,
    offset: int,
    total: int,
    options: Mapping[str, Any],
) -> Mapping[str, npt.NDArray[Any]]:
    from radlens.models.encode import encode_images

    encoder = make_encoder()
    # a file without a digest has no content to be remembered by: it stays a NaN row
    rows = [i for i, digest in enumerate(digests) if digest is not None]
    embeddings = np.full((len(paths), encoder.dimension), np.nan, np.float32)
    reasons: dict[int, str] = {}
    agreement = np.nan
    for batch in encode_images(encoder, [paths[i] for i in rows], load, **options):
        stop = batch.start + len(batch.embeddings)
        embeddings[rows[batch.start : stop]] = batch.embeddings
        reasons |= {rows[i]: error.reason for i, error in batch.failures.items()}
        agreement = agreement if batch.agreement is None else batch.agreement
        if progress is not None:
            progress(offset + min(stop, len(paths)), total)
    told = np.frombuffer(json.dumps(reasons).encode(), np.uint8)
    return {"embeddings": embeddings, "failures": told, "agreement": np.array([agreement], np.float64)}


def _encode_texts(encoder: Encoder, texts: Sequence[str]) -> npt.NDArray[np.float32]:
    import torch

    array = np.empty((len(texts), encoder.dimension), np.float32)
    # sentences of like length together need the least padding
    order = sorted(range(len(texts)), key=lambda i: (len(texts[i]), i))
    with torch.inference_mode():
        for start in range(0, len(order), _TEXTS):
            rows = order[start : start + _TEXTS]
            array[rows] = encoder.encode_texts([texts[i] for i in rows]).float().cpu().numpy()
    return array


def _loads(load: Callable[[Path], npt.NDArray[np.uint8]], path: Path) -> bool:
    try:
        load(path)
    except ImageError:
        return False
    return True


def _refusal(load: Callable[[Path], npt.NDArray[np.uint8]], path: Path) -> ImageError:
    try:
        load(path)
    except ImageError as error:
        return error
    return ImageError(str(path), "changed while the study ran; run it again.")
