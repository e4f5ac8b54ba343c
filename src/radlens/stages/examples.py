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
from radlens.explain.localization_table import localization_table
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
    seed: int,
) -> list[Path]:
    """Write a few images with their regions and maps for the report into `folder`; returns the files."""
    drawn = list(geometries)
    if annotations is not None and annotations.regions:
        pairs, rule = choose_examples(annotations, drawn, seed=seed, limit=_EXAMPLES), RULE
    else:
        pairs, rule = films.positives(drawn)[:_EXAMPLES], _WITHOUT_REGIONS
    examples = []
    for image_id, label in pairs:
        width, height = films[image_id]
        region = annotations.mask(image_id, label, height, width) if annotations is not None else None
        one = annotations.of([image_id]) if annotations is not None else None
        grids, scores, probabilities, flags = {}, {}, {}, {}
        for result in results:
            found = maps[result.setting]
            row, column = found.image_ids.index(image_id), found.labels.index(label)
            grids[result.setting] = {
                layer: found.maps[row, column, 0, k].astype(np.float32) for k, layer in enumerate(found.layers)
            }
            flags[result.setting] = {
                layer: found.flags[row, column, 0, k]
                for k, layer in enumerate(found.layers)
                if (row, column, 0, k) in found.flags
            }
            test_row = result.test.image_ids.index(image_id)
            probabilities[result.setting] = float(result.test.probabilities[test_row, column])
            if one is not None:
                scores[result.setting] = _own_scores({result.setting: found}, one, geometries, films, label)
        pixels = films.pixels(image_id)
        grey = pixels if pixels.ndim == 2 else np.round(pixels.mean(axis=2)).astype(np.uint8)
        geometry = geometries[image_id]
        examples.append(Example(image_id, label, grey, geometry, region, grids, scores, probabilities, flags))
    method = next(iter(maps.values())).methods[0]
    listed = write_gallery(folder, examples, method=method, rule=rule)
    return [listed, *(folder / name for name in _pictures(json.loads(listed.read_text("utf-8"))["examples"]))]


def _pictures(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """Every picture that examples.json names, each once."""
    named: dict[str, None] = {}
    for entry in entries:
        maps = (path for layers in entry["maps"].values() for path in layers.values())
        named |= dict.fromkeys(path for path in (entry["image"], entry["region"], *maps) if path is not None)
    return list(named)


def _own_scores(
    maps: Mapping[str, SaliencyMaps],
    annotations: Annotations,
    geometries: Mapping[str, Geometry],
    films: Films,
    label: str,
) -> dict[str, dict[str, float]]:
    """Layer -> scores of one image's maps for one label."""
    method = next(iter(maps.values())).methods[0]
    table = localization_table(maps, annotations, geometries, films.patients)
    rows = table.filter((pl.col("label") == label) & (pl.col("method") == method) & (pl.col("setting") != "baseline"))
    return {r["layer"]: {"hit": r["hit_rate"], "lift": r["lift"], "iou": r["iou"]} for r in rows.to_dicts()}
