"""Text controls: a model that reads negation and sides passes, one that hears only the finding's name fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor, nn

from radlens.core.classifier import Classifier, Head
from radlens.core.regions import SaliencyMaps
from radlens.core.transform import ImageTransform
from radlens.core.vocabulary import Label, Vocabulary
from radlens.explain.maps import saliency_maps
from radlens.explain.trust.text_controls import NO_TEXT, NONSENSE, made_of_texts, side_of, text_controls

SIDE, PATCH = 6, 4
VOCABULARY = Vocabulary("test", (Label("Nodule", None, ("a nodule",), ("no nodule", "clear lungs without nodule")),))
COUNT = 14
IDS = tuple(f"i{at}" for at in range(COUNT))
PATIENTS = {image: f"p{at}" for at, image in enumerate(IDS)}


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.Identity()

    def forward(self, tokens: Tensor) -> Tensor:
        seen = self.norm1(tokens)
        return torch.cat([tokens[:, :1] + seen[:, 1:].mean(dim=1, keepdim=True), tokens[:, 1:]], dim=1)


class Reader:
    """Patches say in channels how bright they are: anywhere, in the patient's left, in the right; and other colours.

    reads: whether its text tower knows `no` and sides, or hears the finding's name alone.
    """

    name, fingerprint, dimension, logit_scale = "reader", "test", 6, 1.0
    transform = ImageTransform(SIDE * PATCH, (0.5,) * 3, (0.5,) * 3)
    grid, prefix_tokens, device = (SIDE, SIDE), 1, torch.device("cpu")
    card: Mapping[str, Any] = {}

    def __init__(self, reads: bool = True, sides: bool = True) -> None:
        self.reads, self.sides = reads, sides
        self.image_module = nn.ModuleList([Block(), Block()])
        self.blocks = list(self.image_module)

    def tokens(self, pixels: Tensor) -> Tensor:
        patches = nn.functional.avg_pool2d(pixels, PATCH).flatten(2).transpose(1, 2)
        # the patient's left is at the image's right
        left = (torch.arange(SIDE * SIDE) % SIDE >= SIDE // 2).float()[:, None]
        bright, others = patches[..., :1], patches[..., 1:]
        channels = torch.cat([bright, bright * left, bright * (1 - left), others, others[..., :1] * 0], dim=-1)
        return torch.cat([torch.zeros(len(pixels), 1, 6), channels], dim=1)

    def pool(self, tokens: Tensor) -> Tensor:
        # a constant keeps embeddings away from zero
        return tokens[:, 0] + torch.eye(6)[5]

    def encode_images(self, pixels: Tensor) -> Tensor:
        tokens = self.tokens(pixels)
        for block in self.blocks:
            tokens = block(tokens)
        return self.pool(tokens)

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        unit = torch.eye(6)

        def direction(text: str) -> Tensor:
            if text in NONSENSE:
                return unit[3] + 0.1 * NONSENSE.index(text) * unit[4]
            if self.reads and ("no " in text or "without" in text):
                return unit[4]
            if self.sides and text.endswith("left"):
                return unit[1]
            if self.sides and text.endswith("right"):
                return unit[2]
            return unit[0]

        return torch.stack([direction(text) for text in texts])


def regions_and_pixels(middle: bool = False) -> tuple[dict[tuple[str, str], np.ndarray], Tensor]:
    random = np.random.default_rng(0)
    pixels = torch.from_numpy(random.uniform(0, 0.3, (COUNT, 3, SIDE * PATCH, SIDE * PATCH)).astype(np.float32))
    regions = {}
    for at, image in enumerate(IDS):
        row, column = int(random.integers(SIDE)), int(random.integers(SIDE))
        pixels[at, 0, row * PATCH : (row + 1) * PATCH, column * PATCH : (column + 1) * PATCH] += 4
        grid = np.zeros((SIDE, SIDE), np.float32)
        grid[row, 0 if middle else column : SIDE if middle else column + 1] = 1
        regions[image, "Nodule"] = grid
    return regions, pixels


def run(encoder: Reader, middle: bool = False, keep: int = COUNT) -> tuple[pl.DataFrame, SaliencyMaps]:
    regions, pixels = regions_and_pixels(middle)
    card = {"prompts": {"Nodule": {}}, "trainable_parameters": 0}
    head = Head(torch.eye(6)[:1], torch.zeros(1), normalise=True)
    classifier = Classifier("zero-shot", head, VOCABULARY, encoder, card=card)  # type: ignore[arg-type]
    maps = saliency_maps(classifier, [pixels], IDS, ("grad-cam",), (-1, -2))
    some = {key: grid for key, grid in regions.items() if key[0] in IDS[:keep]}
    return text_controls(classifier, list(pixels.split(5)), PATIENTS, maps, some), maps


def test_a_model_that_reads_passes() -> None:
    table, _ = run(Reader())
    assert table["label"].to_list() == ["Nodule", "Nodule", "all", "all"]
    assert table["check"].unique().to_list() == ["text"]
    assert table["passed"].to_list() == [True] * 4
    assert all(word in table["reason"][0] for word in ("for nonsense", "denies it", "naming the finding's side"))
    assert table["images"].to_list() == [COUNT] * 4
    few, _ = run(Reader(), keep=9)
    assert few["passed"].to_list() == [None] * 4 and "9 patients, an interval needs 10" in few["reason"][0]


def test_a_model_that_ignores_denials_or_sides_fails() -> None:
    deaf, _ = run(Reader(reads=False))
    row = deaf.row(0, named=True)
    assert row["passed"] is False and row["value"] == pytest.approx(row["rival"], abs=1e-3)
    one_sided, _ = run(Reader(sides=False))
    row = one_sided.row(0, named=True)
    assert row["passed"] is False and row["difference"] == 0
    # a finding without a side is not asked for one
    across, _ = run(Reader(sides=False), middle=True)
    assert across["passed"].to_list() == [True] * 4 and "sides were not compared" in across["reason"][0]


def test_nonsense_by_a_slow_loop() -> None:
    encoder = Reader()
    table, maps = run(encoder)
    regions, pixels = regions_and_pixels()
    differences = []
    for at, image in enumerate(IDS):
        region = regions[image, "Nodule"]
        own = maps.maps[at, 0, 0, 0].astype(float)
        mine = (own * region).sum() / own.sum()
        theirs = []
        for text in NONSENSE:
            head = Head(nn.functional.normalize(encoder.encode_texts([text])), torch.zeros(1), normalise=True)
            said = Classifier("s", head, VOCABULARY, encoder)  # type: ignore[arg-type]
            grid = saliency_maps(said, [pixels[at : at + 1]], (image,), layers=(-1,)).maps[0, 0, 0, 0].astype(float)
            theirs.append((grid * region).sum() / grid.sum() if grid.sum() else region.mean())
        differences.append(mine - np.mean(theirs))
    reason = table["reason"][0].split(";")[0]
    assert f"for nonsense (difference {np.mean(differences):.2f}," in reason


def test_left_and_right_are_the_patients() -> None:
    grid = np.zeros((4, 5), np.float32)
    grid[:, 3:] = 1
    assert side_of(grid) == "left"
    assert side_of(grid[:, ::-1]) == "right"
    grid[:, 2] = 1
    assert side_of(grid) is None


def test_a_setting_without_texts_gets_no_answer() -> None:
    regions, pixels = regions_and_pixels()
    encoder = Reader()
    probe = Classifier("probe", Head(torch.eye(6)[:1], torch.zeros(1), normalise=False), VOCABULARY, encoder)  # type: ignore[arg-type]
    maps = saliency_maps(probe, [pixels], IDS, layers=(-1,))
    table = text_controls(probe, [pixels], PATIENTS, maps, regions)
    assert table["reason"].unique().to_list() == [NO_TEXT] and table["passed"].to_list() == [None, None]
    trained = replace(probe, card={"prompts": {}, "trainable_parameters": 512})
    assert not made_of_texts(trained)
    assert made_of_texts(replace(probe, card={"prompts": {}, "trainable_parameters": 0}))
    zero_shot = replace(probe, card={"prompts": {}, "trainable_parameters": 0})
    with pytest.raises(ValueError, match="14 images with maps, but pixels of 2"):
        text_controls(zero_shot, [pixels[:2]], PATIENTS, maps, regions)
