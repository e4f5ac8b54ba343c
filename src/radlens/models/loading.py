"""From a study's `model:` to an encoder. Resolving needs no torch, so that a cached study never imports it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from radlens.core.errors import ModelError
from radlens.core.registry import get
from radlens.core.spec import ModelSpec, build_part
from radlens.core.store import Cache, fingerprint
from radlens.models.card import ModelCard, read_card
from radlens.models.folder import ModelFiles, find_files
from radlens.models.hub import fetch

if TYPE_CHECKING:
    from radlens.core.classifier import Encoder

Device = Literal["auto", "cpu", "cuda", "mps"]


@dataclass(frozen=True)
class ModelSource:
    """A model found, not yet loaded.

    location: its folder. card: what the report tells of it. fingerprint: of the content of all its files.
    loader_name: which registered loader reads it.
    """

    location: Path
    card: Mapping[str, Any]
    fingerprint: str
    loader_name: str


def resolve(spec: ModelSpec, folder: Path, cache: Cache | Path) -> ModelSource:
    """Find the files of a study's model, downloading them where it must.

    folder: what `path:` starts from. cache: where digests of files are remembered. A card's model comes from the
    folder that the card's environment variable names (`RADLENS_BIOMEDCLIP`), else from the hub or the package.
    Raises `SpecError` for an unknown name, `ModelError` for a missing file, folder or network.
    """
    cache = cache if isinstance(cache, Cache) else Cache(cache)
    if spec.path is not None:
        location = folder / Path(spec.path).expanduser()
        return _source(location, spec.path, None, {"name": location.resolve().name}, cache)
    if spec.hub is not None:
        return _source(fetch(spec.hub), spec.hub, None, {"name": spec.hub, "hub": spec.hub}, cache)
    assert spec.name is not None
    path: Path = get("models", spec.name)
    card = read_card(path)
    told = card.model_dump(exclude={"files", "folder", "environment"}, exclude_none=True)
    named = os.environ.get(card.environment) if card.environment else None
    if named:
        location = Path(named).expanduser()
        if not location.is_dir():
            raise ModelError(f"{card.environment} names {location}, which is not a folder; correct it or unset it.")
    elif card.folder is not None:
        location = path.parent / card.folder
    else:
        assert card.hub is not None
        location = fetch(card.hub, card.revision)
    return _source(location, spec.name, card, {"name": spec.name} | told, cache)


def load_encoder(source: ModelSource, device: Device | str = "auto") -> Encoder:
    """The frozen encoder, in float32, on a device (`auto`: cuda, else mps, else cpu). Raises `ModelError`."""
    loader = build_part("loaders", source.loader_name, {})
    card = dict(source.card) | {"fingerprint": source.fingerprint}
    encoder: Encoder = loader.load(card, source.location, device)
    return encoder


def _source(location: Path, asked: str, card: ModelCard | None, told: dict[str, Any], cache: Cache) -> ModelSource:
    files = find_files(location, card.loader if card is not None else None)
    digests = _digests(files, cache)
    told |= {
        "asked_for": asked,
        "location": str(location),
        "weights": {
            "file": files.weights.name,
            "bytes": files.weights.stat().st_size,
            "sha256": digests[files.weights],
        },
    }
    if card is not None and card.files:
        told["weights"]["revision"] = _revision(card, files, digests[files.weights])
    content = {path.name: digest for path, digest in digests.items()}
    return ModelSource(location, told, fingerprint(files.loader, content), files.loader)


def _digests(files: ModelFiles, cache: Cache) -> dict[Path, str]:
    paths = list(files)
    digests = dict(zip(paths, cache.file_digests(paths), strict=True))
    for path, digest in digests.items():
        if digest is None:
            raise ModelError(f"cannot read {path}; check its permissions.")
    return {path: digest for path, digest in digests.items() if digest is not None}


def _revision(card: ModelCard, files: ModelFiles, digest: str) -> str:
    known = {file.name: file for file in card.files}.get(files.weights.name)
    if known is None:
        return f"unknown to the card, which describes {', '.join(file.name for file in card.files)}"
    if digest in known.sha256:
        return known.sha256[digest]
    size = files.weights.stat().st_size
    other = f" ({size} bytes, the known ones have {known.bytes})" if known.bytes not in (None, size) else ""
    return f"unknown to the card: its sha256 is none of the {len(known.sha256)} known ones{other}"
