"""Which process trains on which image in which step, and the images on their way there."""

from __future__ import annotations

import runpy
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from radlens.adapt.training.augmentation import Augmentation
from radlens.adapt.training.stream import Images, Stream, divide, validation_plan
from radlens.core.errors import DataError
from radlens.core.transform import ImageTransform

TOY = runpy.run_path(str(Path(__file__).parent / "training_toy.py"))
TRANSFORM = ImageTransform(32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
NOTHING: dict[str, Any] = dict.fromkeys(
    ("rotation", "translation", "scale", "brightness", "contrast", "gamma", "noise"), 0.0
)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 13), st.integers(1, 4), st.integers(1, 4), st.integers(0, 9))
def test_all_pieces_of_all_processes_are_the_epoch(count: int, batch: int, world: int, pieces: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    order = generator.integers(0, count, count)
    known = generator.integers(0, 4, count)
    plans = [divide(order, known, batch, rank, world, pieces) for rank in range(world)]
    assert len({len(plan) for plan in plans}) == 1  # else the processes would wait for each other for ever
    for step, start in enumerate(range(0, count, batch)):
        rows = order[start : start + batch]
        micros = [micro for plan in plans for micro in plan if micro.step == step]
        assert [micro.last for micro in micros] == [number == pieces for number in range(1, pieces + 1)] * world
        assert all(len(micro.rows) for micro in micros)
        assert {micro.assessed for micro in micros} == {int(known[rows].sum())}
        counted = np.concatenate([micro.rows[: micro.real] for micro in micros])
        np.testing.assert_array_equal(np.sort(counted), np.sort(rows))
    draws = [(int(r), int(d)) for plan in plans for m in plan for r, d in zip(m.rows[: m.real], m.draws, strict=False)]
    assert len(set(draws)) == count  # an image that is drawn twice is changed in two ways


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 13), st.integers(1, 4))
def test_validation_sees_every_image_once(count: int, batch: int, world: int) -> None:
    plans = [validation_plan(count, batch, rank, world) for rank in range(world)]
    assert len({len(plan) for plan in plans}) == 1
    rows = np.concatenate([micro.rows[: micro.real] for plan in plans for micro in plan])
    np.testing.assert_array_equal(np.sort(rows), np.arange(count))


def stream(films: Any, workers: int = 3, epoch: int = 1, augmentation: Augmentation | None = None) -> list[Any]:
    images = Images(films, films.targets, TRANSFORM, augmentation, 0)
    plan = divide(np.arange(len(films))[::-1], np.full(len(films), 2), 4, 0, 1, 3)
    return list(Stream(images, plan, epoch, workers, False))


def test_batches_are_what_the_plan_says_and_padding_does_not_count() -> None:
    films = TOY["Films"](10, 1)
    batches = stream(films)
    rows = [batch["rows"].tolist() for batch in batches]
    assert rows == [[9, 8], [7], [6], [5, 4], [3], [2], [1], [0], []]
    for batch in batches:
        for place, row in enumerate(batch["rows"].tolist()):
            np.testing.assert_array_equal(batch["pixels"][place], TRANSFORM(films[row]))
            np.testing.assert_array_equal(batch["targets"][place], films.targets[row])
    assert batches[-1]["pixels"].shape == (1, 3, 32, 32) and bool(batches[-1]["targets"].isnan().all())


def test_random_changes_follow_from_the_place_alone() -> None:
    films, augmentation = TOY["Films"](10, 1), Augmentation()
    first, again, other = (
        np.concatenate([batch["pixels"] for batch in stream(films, workers, epoch, augmentation)])
        for workers, epoch in ((1, 1), (4, 1), (1, 2))
    )
    np.testing.assert_array_equal(first, again)
    assert all((a != b).any() for a, b in zip(first, other, strict=True))


def test_an_image_that_cannot_be_decoded_is_told_by_its_id_and_no_thread_stays() -> None:
    films = TOY["Films"](10, 1)
    films.broken = {3}
    with pytest.raises(DataError, match=r"image 'film-1-3' cannot be decoded: /films/3.png: is truncated"):
        stream(films)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("radlens-decode")]


def film(seed: int = 0, size: tuple[int, int] = (60, 48)) -> Any:
    smooth = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (6, 5)).astype(np.uint8))
    return np.asarray(smooth.resize(size[::-1], Image.Resampling.BICUBIC))


@pytest.mark.parametrize("shape", [(60, 48), (60, 48, 3)])
def test_no_change_asked_for_is_no_change(shape: tuple[int, ...]) -> None:
    pixels = film() if len(shape) == 2 else np.stack([film(seed) for seed in range(3)], axis=-1)
    changed = Augmentation(**NOTHING)(pixels, 32, np.random.default_rng(0))
    np.testing.assert_array_equal(changed, pixels)
    assert changed.dtype == np.uint8


def test_flips_are_off_unless_asked_for() -> None:
    off = Augmentation()
    assert not off.flip_horizontal and not off.flip_vertical
    both = Augmentation(**NOTHING, flip_horizontal=True, flip_vertical=True)
    pixels, found = film(), set()
    for seed in range(20):
        changed = both(pixels, 32, np.random.default_rng(seed))
        ways = {"as it is": pixels, "h": pixels[:, ::-1], "v": pixels[::-1], "both": pixels[::-1, ::-1]}
        found |= {way for way, expected in ways.items() if np.array_equal(changed, expected)}
    assert found == {"as it is", "h", "v", "both"}


@pytest.mark.parametrize(
    ("option", "amount"), [("rotation", 10), ("translation", 0.1), ("scale", 0.2), ("brightness", 0.2),
                           ("contrast", 0.5), ("gamma", 0.5), ("noise", 0.05)]
)  # fmt: skip
def test_each_change_stays_within_its_amount(option: str, amount: float) -> None:
    """Against what the change is, done in another way; the drawn amount is found again by trying all."""
    changed = Augmentation(**NOTHING | {option: amount})(film(), 32, np.random.default_rng(4))
    drawn = np.random.default_rng(4).uniform(-1, 1, 7)
    z = film().astype(float)
    turned = Image.fromarray(film())
    match option:
        case "rotation":
            expected = np.asarray(turned.rotate(-drawn[0] * amount, Image.Resampling.BILINEAR), float)
        case "translation":
            shift = (drawn[1] * amount * 48, drawn[2] * amount * 48)
            expected = np.asarray(turned.rotate(0, Image.Resampling.BILINEAR, translate=shift), float)
        case "scale":
            zoom = (1 + amount) ** drawn[3]
            data = (1 / zoom, 0, 24 - 24 / zoom, 0, 1 / zoom, 30 - 30 / zoom)
            expected = np.asarray(
                turned.transform((48, 60), Image.Transform.AFFINE, data, Image.Resampling.BILINEAR), float
            )
        case "brightness":
            expected = np.clip(z + 255 * drawn[4] * amount, 0, 255)
        case "contrast":
            expected = np.clip((z - 127.5) * (1 + amount) ** drawn[5] + 127.5, 0, 255)
        case "gamma":
            expected = 255 * (z / 255) ** ((1 + amount) ** drawn[6])
        case _:
            inside = (z > 60) & (z < 195)
            spread = (changed - z)[inside].std()
            loudness = np.random.default_rng(4).uniform(0, 1, 10)[7:8]
            assert 0 < spread < 255 * amount and loudness.size
            return
    # the edge, where black comes in, is interpolated in more than one way
    edge = 12 if option in ("rotation", "translation", "scale") else 0
    inner = (slice(edge, 60 - edge), slice(edge, 48 - edge))
    assert np.abs(changed.astype(float) - expected)[inner].max() < 3
    assert np.abs(changed.astype(float) - z)[inner].max() > 3


def test_a_large_film_is_shrunk_first() -> None:
    changed = Augmentation()(film(size=(640, 320)), 32, np.random.default_rng(0))
    assert changed.shape == (128, 64)
