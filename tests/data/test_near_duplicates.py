"""Near-duplicates across splits: what counts as the same picture, and a search that misses none."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from radlens.data.near_duplicates import SAME_WITHIN, near_duplicates, perceptual_hash


def bits(first: bytes, second: bytes) -> int:
    return (int.from_bytes(first) ^ int.from_bytes(second)).bit_count()


def picture(seed: int, size: int = 200) -> npt.NDArray[np.uint8]:
    coarse = np.random.default_rng(seed).integers(20, 235, (40, 40)).astype(np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC))


def test_the_same_picture_in_another_file_is_near() -> None:
    original = picture(0, 400)
    image = Image.fromarray(original)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=50)
    changed = {
        "jpeg": np.asarray(Image.open(buffer)),
        "half": np.asarray(image.resize((200, 200), Image.Resampling.BICUBIC)),
        "colour": np.repeat(original[..., None], 3, axis=2),
        "gamma": (255 * (original / 255.0) ** 1.2).astype(np.uint8),
    }
    for name, pixels in changed.items():
        assert bits(perceptual_hash(original), perceptual_hash(pixels)) <= SAME_WITHIN, name
    assert bits(perceptual_hash(original), perceptual_hash(picture(1))) > 3 * SAME_WITHIN


def test_different_radiographs_are_far_apart(shared: Path) -> None:
    paths = sorted((shared / "nih_dev" / "images").glob("*.png"))[:80]
    hashes = [perceptual_hash(np.asarray(Image.open(path).convert("L"))) for path in paths]
    sides = np.asarray(["train" if k % 2 else "test" for k in range(len(paths))], dtype=object)
    assert near_duplicates(hashes, sides) == []
    half = np.asarray(Image.open(paths[3]).convert("L").resize((150, 150), Image.Resampling.LANCZOS))
    found = near_duplicates([*hashes, perceptual_hash(half)], np.append(sides, "val"))
    assert [(pair.first, pair.second) for pair in found] == [(3, 80)]


def test_the_search_finds_what_a_plain_loop_finds() -> None:
    rng = np.random.default_rng(5)
    base = rng.integers(0, 2, (40, 256), dtype=np.uint8)
    rows = []
    for _ in range(300):
        row = base[rng.integers(40)].copy()
        row[rng.choice(256, rng.integers(0, 14), replace=False)] ^= 1
        rows.append(np.packbits(row).tobytes())
    hashes: list[bytes | None] = [None if k % 17 == 0 else row for k, row in enumerate(rows)]
    sides = rng.choice(np.array(["train", "val", "test", None], dtype=object), 300)
    expected = set()
    for i in range(300):
        for j in range(i + 1, 300):
            a, b = hashes[i], hashes[j]
            if a is None or b is None or None in (sides[i], sides[j]) or sides[i] == sides[j]:
                continue
            if bits(a, b) <= SAME_WITHIN:
                expected.add((i, j, bits(a, b)))
    found = near_duplicates(hashes, sides)
    assert {(p.first, p.second, p.bits) for p in found} == expected
    assert len(expected) > 100
    assert [p.bits for p in found] == sorted(p.bits for p in found)


def test_blank_films_are_no_duplicates() -> None:
    blank = [perceptual_hash(np.full((50, 60), grey, np.uint8)) for grey in (0, 7, 128, 255)]
    assert near_duplicates(blank, np.array(["train", "val", "test", "test"], dtype=object)) == []
