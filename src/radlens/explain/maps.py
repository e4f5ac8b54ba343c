"""Saliency maps of a classifier for many images, and their file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor

from radlens.core.classifier import Classifier
from radlens.core.errors import ExplainError, StoreError
from radlens.core.parts import Progress
from radlens.core.regions import SaliencyMaps
from radlens.core.store import writing
from radlens.explain.drawing import Drawing, methods_named
from radlens.explain.passes import Precision
from radlens.explain.sites import Site, resolve_sites

CONSTANT = "constant"
LABEL_INVARIANT = "label-invariant"
# a map whose spread is below this share of its maximum is constant
_SPREAD = 1e-6
_COSINE = 0.9999


def saliency_maps(
    classifier: Classifier,
    pixels: Iterable[Tensor | npt.NDArray[np.float32]],
    image_ids: Sequence[str],
    methods: Sequence[str] = ("grad-cam",),
    layers: Sequence[int | str] = (-1, -3, -5),
    *,
    batch_size: int = 4,
    precision: Precision = "float32",
    progress: Progress | None = None,
) -> SaliencyMaps:
    """Maps of every image, label, method and layer.

    pixels: batches (b, 3, H, W) in the order of `image_ids`, of any size; at most `batch_size` images run at once, so
    that memory stays flat. Each map is divided by its own maximum (float16 neither overflows nor underflows): its
    values lie in [0, 1], and a map of zeros stays so; `strengths` keeps what it was divided by, in the method's own
    unit. A method that follows attention takes the block that a layer stands in; one that has no depth (input-gradient,
    smooth-grad, occlusion) gives the same map at every layer, and `has_depth` says so. All maps are on the encoder's
    grid; in a convolutional tower that is the last stage's, and maps of earlier, finer stages are averaged over the
    area of each of its cells.
    Flags: `constant` (spread below 1e-6 of the maximum, or all zero); `label-invariant` (all non-constant maps of an
    image at a layer have pairwise cosine above 0.9999, so they say nothing about the label).
    Raises `ExplainError` for a site without gradient or a method that the tower cannot serve, `SpecError` for an
    unknown method.
    """
    if classifier.encoder is None:
        raise ExplainError(f"setting {classifier.setting!r} has no encoder attached; load its model to explain it.")
    if not image_ids:
        raise ExplainError("there is no image to explain.")
    named = methods_named(methods)
    sites = resolve_sites(classifier.encoder, layers)
    drawing = Drawing(classifier, sites, named, precision=precision)
    rows, columns = classifier.encoder.grid
    shape = (len(image_ids), len(classifier.vocabulary), len(methods), len(sites), rows, columns)
    maps, strengths = np.zeros(shape, np.float16), np.zeros(shape[:4], np.float32)
    flags: dict[tuple[int, int, int, int], str] = {}
    done = 0
    for batch in _small(pixels, batch_size):
        if done + len(batch) > len(image_ids):
            raise ValueError(f"more images than the {len(image_ids)} image ids.")
        raw = drawing(batch)
        if not np.isfinite(raw).all():
            broken = int(np.argwhere(~np.isfinite(raw))[0][0])
            raise ExplainError(f"the map of image {image_ids[done + broken]!r} is not finite; check its pixels.")
        flags |= {(done + i, *rest): why for (i, *rest), why in _flags(raw).items()}  # type: ignore[misc]
        top = raw.max(axis=-1, keepdims=True)
        scaled = np.divide(raw, top, out=np.zeros_like(raw), where=top > 0)
        maps[done : done + len(batch)] = scaled.reshape(len(batch), *shape[1:])
        strengths[done : done + len(batch)] = np.maximum(top[..., 0], 0)
        done += len(batch)
        if progress is not None:
            progress(done, len(image_ids))
    if done != len(image_ids):
        raise ValueError(f"{len(image_ids)} image ids, but pixels of {done} images.")
    if drawing.differentiates:
        _refuse_unreached(classifier, sites, drawing.reached)
    return SaliencyMaps(
        tuple(image_ids),
        classifier.vocabulary.names,
        tuple(methods),
        tuple(site.layer for site in sites),
        maps,
        flags,
        strengths,
        tuple(method.has_depth for method in named),
    )


def save_maps(folder: Path, setting: str, maps: SaliencyMaps) -> Path:
    """Write `<setting>.safetensors`, whole or not at all: maps and strengths, and all else as JSON in its header."""
    header = {
        "image_ids": maps.image_ids,
        "labels": maps.labels,
        "methods": maps.methods,
        "layers": maps.layers,
        "flags": [[*position, why] for position, why in maps.flags.items()],
        "has_depth": maps.has_depth,
    }
    tensors: dict[str, npt.NDArray[Any]] = {"maps": np.ascontiguousarray(maps.maps)}
    if maps.strengths is not None:
        tensors["strengths"] = np.ascontiguousarray(maps.strengths)
    path = folder / f"{setting}.safetensors"
    with writing(path) as aside:
        save_file(tensors, aside, {"radlens": json.dumps(header)})
    return path


def load_maps(folder: Path, setting: str) -> SaliencyMaps:
    """Read what `save_maps` wrote, or an older radlens (no strengths, every method taken to have depth).

    A missing or damaged file raises `StoreError`.
    """
    path = folder / f"{setting}.safetensors"
    try:
        with safe_open(path, framework="numpy") as file:
            header = json.loads(file.metadata()["radlens"])
            maps = file.get_tensor("maps")
            strengths = file.get_tensor("strengths") if "strengths" in file.keys() else None  # noqa: SIM118
        names = {key: tuple(header[key]) for key in ("image_ids", "labels", "methods", "layers")}
        flags = {(i, label, method, layer): why for i, label, method, layer, why in header["flags"]}
        return SaliencyMaps(
            **names, maps=maps, flags=flags, strengths=strengths, has_depth=tuple(header.get("has_depth", ()))
        )
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{path} does not hold saliency maps (expected what radlens wrote): {error}.") from error


def _small(pixels: Iterable[Tensor | npt.NDArray[np.float32]], batch_size: int) -> Iterator[Tensor]:
    for batch in pixels:
        images = torch.as_tensor(batch)
        for start in range(0, len(images), batch_size):
            yield images[start : start + batch_size]


def _flags(maps: npt.NDArray[np.float32]) -> dict[tuple[int, int, int, int], str]:
    """Positions (image, label, method, layer) of degenerate maps among (B, L, methods, layers, P)."""
    top, low = maps.max(axis=-1), maps.min(axis=-1)
    constant = top - low <= _SPREAD * np.abs(top)
    size = np.linalg.norm(maps, axis=-1, keepdims=True)
    unit = np.moveaxis(np.divide(maps, size, out=np.zeros_like(maps), where=size > 0), 1, -2)
    cosine = unit @ unit.swapaxes(-1, -2)
    usable = np.moveaxis(~constant, 1, -1)
    pairs = usable[..., :, None] & usable[..., None, :]
    least = np.where(pairs, cosine, 1.0).min(axis=(-1, -2))
    invariant = (least > _COSINE) & (usable.sum(axis=-1) > 1)
    flags = {tuple(map(int, at)): CONSTANT for at in np.argwhere(constant)}
    for image, method, layer in np.argwhere(invariant):
        for label in np.flatnonzero(usable[image, method, layer]):
            flags[int(image), int(label), int(method), int(layer)] = LABEL_INVARIANT
    return flags  # type: ignore[return-value]


def _refuse_unreached(classifier: Classifier, sites: Sequence[Site], reached: Tensor) -> None:
    for site, any_gradient in zip(sites, reached.tolist(), strict=True):
        if not any_gradient:
            raise ExplainError(
                f"setting {classifier.setting!r}: no label has any gradient at site {site.name!r} (layer "
                f"{site.layer}), so its maps would be empty; are the head's weights all zero?"
            )
