"""Examples of maps for the report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from radlens.core.regions import Annotations, Geometry, SaliencyMaps
from radlens.evaluate.tables import SettingResult
from radlens.explain.gallery import RULE, Example, choose_examples, write_gallery
from radlens.stages.films import Films

_EXAMPLES = 6
_WITHOUT_REGIONS = "Not picked by eye: test images by a seeded draw, rare labels first; no regions are at hand."


def show_examples(
    folder: Path,
    annotations: Annotations | None,
    films: Films,
    maps: Mapping[str, SaliencyMaps],
    results: Sequence[SettingResult],
    geometries: Mapping[str, Geometry],
    pairs: pl.DataFrame | None,
    seed: int,
) -> list[Path]:
    """Write a few images with their regions and maps for the report into `folder`; returns the files.

    pairs: scores of each map against each region, None without regions. With several methods a map is named by its
    method and layer, else by its layer alone.
    """
    drawn = list(geometries)
    if annotations is not None and annotations.regions:
        chosen, rule = choose_examples(annotations, drawn, seed=seed, limit=_EXAMPLES), RULE
    else:
        chosen, rule = films.positives(drawn)[:_EXAMPLES], _WITHOUT_REGIONS
    examples = []
    for image_id, label in chosen:
        width, height = films[image_id]
        region = annotations.mask(image_id, label, height, width) if annotations is not None else None
        scored = {} if pairs is None else _scores(pairs.filter(image_id=image_id, label=label))
        grids: dict[str, dict[str, Any]] = {}
        flags: dict[str, dict[str, str]] = {}
        scores: dict[str, dict[str, Mapping[str, float]]] = {}
        probabilities = {}
        for result in results:
            setting, found = result.setting, maps[result.setting]
            row, column = found.image_ids.index(image_id), found.labels.index(label)
            for method, layer, name in found.distinct():
                title = _title(found, method, name)
                grids.setdefault(setting, {})[title] = found.maps[row, column, method, layer].astype(np.float32)
                flags.setdefault(setting, {})
                if (why := found.flags.get((row, column, method, layer))) is not None:
                    flags[setting][title] = why
                own = scored.get((setting, found.methods[method], name))
                if own is not None:
                    scores.setdefault(setting, {})[title] = own
            probabilities[setting] = float(result.test.probabilities[result.test.image_ids.index(image_id), column])
        pixels = films.pixels(image_id)
        grey = pixels if pixels.ndim == 2 else np.round(pixels.mean(axis=2)).astype(np.uint8)
        geometry = geometries[image_id]
        examples.append(Example(image_id, label, grey, geometry, region, grids, scores, probabilities, flags))
    methods = " · ".join(next(iter(maps.values())).methods)
    listed = write_gallery(folder, examples, method=methods, rule=rule)
    return [listed, *(folder / name for name in _pictures(json.loads(listed.read_text("utf-8"))["examples"]))]


def _title(maps: SaliencyMaps, method: int, layer: str) -> str:
    if len(maps.methods) == 1:
        return layer
    return f"{maps.methods[method]} {layer}" if maps.has_depth[method] else maps.methods[method]


def _scores(rows: pl.DataFrame) -> dict[tuple[str, str, str], dict[str, float]]:
    """(setting, method, layer) -> scores of one image's maps for one label."""
    return {
        (r["setting"], r["method"], r["layer"]): {"hit": r["hit_rate"], "lift": r["lift"], "iou": r["iou"]}
        for r in rows.iter_rows(named=True)
    }


def _pictures(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """Every picture that examples.json names, each once."""
    named: dict[str, None] = {}
    for entry in entries:
        maps = (path for layers in entry["maps"].values() for path in layers.values())
        named |= dict.fromkeys(path for path in (entry["image"], entry["region"], *maps) if path is not None)
    return list(named)
