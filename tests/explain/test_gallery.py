"""Examples are drawn by a rule, not picked, and written where the report looks for them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from radlens.core.regions import Annotations, Box, Geometry, Region
from radlens.explain.gallery import Example, choose_examples, safe_name, write_gallery


def regions(counts: dict[str, int]) -> tuple[Region, ...]:
    return tuple(Region(f"i{k}", label, Box(0, 0, 1, 1)) for label, n in counts.items() for k in range(n))


def test_choice_is_by_rule() -> None:
    found = regions({"common": 9, "rare": 1, "some": 3})
    images = {region.image_id for region in found}
    chosen = choose_examples(Annotations(found, "t"), images, seed=1)
    assert [label for _, label in chosen] == ["rare", "some", "common", "some", "common", "some"]
    assert len(set(chosen)) == 6
    assert choose_examples(Annotations(found[::-1], "t"), sorted(images), seed=1) == chosen
    assert {tuple(choose_examples(Annotations(found, "t"), images, seed=s)) for s in range(9)} != {tuple(chosen)}
    assert choose_examples(Annotations(found, "t"), ["i8"], limit=2) == [("i8", "common")]
    assert choose_examples(Annotations(found, "t"), []) == []


def test_names_are_safe_and_distinct() -> None:
    names = ["a/b", "a_b", "../../x", "A", "a", "ü" * 300, ".hidden", "a b"]
    safe = [safe_name(name) for name in names]
    assert len({name.lower() for name in safe}) == len(names)
    assert all(len(name) < 100 and "/" not in name and not name.startswith(".") for name in safe)
    assert safe_name("00000061_012.png") == "00000061_012.png"


def test_written_pictures(tmp_path: Path) -> None:
    geometry = Geometry(1000, 500, 64)
    film = np.tile(np.linspace(0, 255, 1000).astype(np.uint8), (500, 1))
    region = Box(500, 0, 250, 250).mask(500, 1000)
    grid = np.zeros((4, 4), np.float16)
    grid[0, 2:] = 0.5
    example = Example(
        "site/7",
        "Lung Opacity",
        film,
        geometry,
        region,
        {"zero-shot": {"-1": grid, "-3": np.zeros((4, 4))}},
        {"zero-shot": {"-1": {"lift": 2.0, "iou": float("nan"), "hit": 1.0}}},
        {"zero-shot": 0.25},
        {"zero-shot": {"-3": "constant"}},
    )
    path = write_gallery(tmp_path / "saliency", [example])
    content = json.loads(path.read_text())
    (entry,) = content["examples"]
    assert "seeded draw" in content["rule"] and content["method"] == "grad-cam"
    assert entry["image_id"] == "site/7" and entry["probabilities"] == {"zero-shot": 0.25}
    assert entry["scores"]["zero-shot"]["-1"] == {"lift": 2.0, "iou": None, "hit": 1.0}
    assert entry["flags"] == {"zero-shot": {"-3": "constant"}}
    named = [entry["image"], entry["region"], *entry["maps"]["zero-shot"].values()]
    pictures = [Image.open(path.parent / name) for name in named]
    assert {(picture.size, picture.mode) for picture in pictures} == {((384, 192), "L")}
    image, mask, warm, cold = (np.asarray(picture).astype(int) for picture in pictures)
    assert image[:, -1].min() > 250 and image[:, 0].max() < 5
    assert set(np.unique(mask)) == {0, 255} and mask[40, 240] == 255 and mask[140, 240] == 0
    assert warm.max() == 255 and cold.max() == 0
    assert warm[5, 250] > 200 and warm[5, 120] < 60 and warm[180, 250] == 0
    files = {str(file.relative_to(path.parent)) for file in path.parent.rglob("*") if file.is_file()}
    assert files == {"examples.json", *named}
