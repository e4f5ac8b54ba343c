"""Flags of the maps reach the report's examples, by setting and layer."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np

from radlens.core.regions import Annotations, Box, Geometry, Region, SaliencyMaps
from radlens.stages.examples import show_examples


class Grey(dict[str, tuple[int, int]]):
    """Films of one grey, by id."""

    patients: ClassVar = {"a": "a", "b": "b"}

    def pixels(self, image_id: str) -> Any:
        return np.full(self[image_id][::-1], 90, np.uint8)


def test_flags_of_an_example_are_those_of_its_image_and_label(tmp_path: Path) -> None:
    flags = {
        (1, 0, 0, 1): "constant",
        (1, 1, 0, 0): "label-invariant",
        (0, 0, 0, 0): "constant",
        (1, 0, 1, 0): "constant",
    }
    grids = np.ones((2, 2, 2, 2, 4, 4), np.float16)
    maps = SaliencyMaps(("a", "b"), ("A", "B"), ("grad-cam", "other"), ("-1", "-3"), grids, flags)
    regions = Annotations((Region("b", "A", Box(0, 0, 20, 20)), Region("b", "B", Box(0, 0, 20, 20))), "t")
    test = SimpleNamespace(image_ids=("a", "b"), probabilities=np.full((2, 2), 0.5))
    results: list[Any] = [SimpleNamespace(setting="probe", test=test)]
    geometries = {image: Geometry(40, 40, 32) for image in "ab"}
    films: Any = Grey(a=(40, 40), b=(40, 40))
    written = show_examples(tmp_path, regions, films, {"probe": maps}, results, geometries, None, 0)
    found = {one["label"]: one["flags"] for one in json.loads(written[0].read_text("utf-8"))["examples"]}
    assert found == {
        "A": {"probe": {"grad-cam -3": "constant", "other -1": "constant"}},
        "B": {"probe": {"grad-cam -1": "label-invariant"}},
    }
