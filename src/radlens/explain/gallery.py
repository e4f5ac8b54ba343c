"""Example maps as small pictures for the report, and the rule that chose them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from radlens.core.regions import Annotations, Geometry
from radlens.core.store import write_json, writing

SIDE = 384
"""Longest side of a picture, in pixels."""
RULE = (
    "Not picked by eye: labels from the rarest region on, one image each by a seeded draw, in turns until the limit "
    "is reached; scores play no part."
)


@dataclass(frozen=True)
class Example:
    """One image and one label to show.

    pixels: uint8 (H, W) of the original. region: boolean (H, W), or None. maps: setting -> layer -> grid (h, w).
    scores: setting -> layer -> {"lift", "iou", "hit"}. probabilities: setting -> [0, 1].
    flags: setting -> layer -> what makes the map meaningless (`SaliencyMaps.flags`); flagged maps only.
    """

    image_id: str
    label: str
    pixels: npt.NDArray[np.uint8]
    geometry: Geometry
    region: npt.NDArray[np.bool_] | None
    maps: Mapping[str, Mapping[str, npt.NDArray[np.floating]]]
    scores: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)
    probabilities: Mapping[str, float] = field(default_factory=dict)
    flags: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def choose_examples(
    annotations: Annotations, image_ids: Collection[str], *, seed: int = 0, limit: int = 6
) -> list[tuple[str, str]]:
    """At most `limit` (image id, label) by `RULE`, among `image_ids`; the same for the same input in any order."""
    images: dict[str, set[str]] = {}
    for region in annotations.of(image_ids).regions:
        images.setdefault(region.label, set()).add(region.image_id)
    generator = np.random.default_rng(seed)
    ranked = sorted(images, key=lambda label: (len(images[label]), label))
    drawn = {label: [str(image) for image in generator.permutation(sorted(images[label]))] for label in ranked}
    turns = max(map(len, drawn.values()), default=0)
    chosen = [(drawn[label][turn], label) for turn in range(turns) for label in ranked if turn < len(drawn[label])]
    return chosen[:limit]


def write_gallery(folder: Path, examples: Sequence[Example], *, method: str = "grad-cam", rule: str = RULE) -> Path:
    """Write `examples.json` and its pictures in `folder` (a run's `saliency/`); paths in it start from `folder`.

    Pictures are 8-bit grey, at most 384 pixels on the long side: the film, the region (0 or 255), and each map enlarged
    through its geometry with its maximum at 255. Returns the path of `examples.json`, which is written last.
    """
    entries = [_entry(folder, example) for example in examples]
    path = folder / "examples.json"
    write_json(path, {"rule": rule, "method": method, "examples": entries})
    return path


def safe_name(text: str) -> str:
    """A file name for any id: letters, digits, `.`, `_` and `-`; a changed or long one ends in a digest of the id."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", text).lstrip(".")[:80]
    # upper case too: some file systems do not tell A from a
    return plain if plain == text == text.lower() else f"{plain}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _entry(folder: Path, example: Example) -> dict[str, Any]:
    name, pair = safe_name(example.image_id), safe_name(f"{example.image_id}__{example.label}")
    film = Image.fromarray(example.pixels)
    film.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    image = f"images/{name}.png"
    _write(folder / image, film)
    region = None
    if example.region is not None:
        region = f"regions/{pair}.png"
        bits = Image.fromarray(example.region.astype(np.uint8) * np.uint8(255))
        _write(folder / region, bits.resize(film.size, Image.Resampling.NEAREST))
    maps: dict[str, dict[str, str]] = {}
    for setting, layers in example.maps.items():
        for layer, grid in layers.items():
            path = f"maps/{pair}__{safe_name(setting)}__{safe_name(layer)}.png"
            _write(folder / path, _picture(example.geometry.enlarge(grid), film.size))
            maps.setdefault(setting, {})[layer] = path
    return {
        "image_id": example.image_id,
        "label": example.label,
        "image": image,
        "region": region,
        "maps": maps,
        "scores": example.scores,
        "probabilities": example.probabilities,
        "flags": example.flags,
    }


def _picture(saliency: npt.NDArray[np.float32], size: tuple[int, int]) -> Image.Image:
    small = np.asarray(Image.fromarray(saliency).resize(size, Image.Resampling.BILINEAR))
    top = float(small.max())
    scaled = small / top * 255 if top > 0 else np.zeros_like(small)
    return Image.fromarray(np.clip(np.round(scaled), 0, 255).astype(np.uint8))


def _write(path: Path, picture: Image.Image) -> None:
    with writing(path) as aside:
        picture.save(aside, "PNG", optimize=True)
