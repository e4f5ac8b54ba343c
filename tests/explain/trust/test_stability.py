"""Maps of moved images and of several seeds: against slow loops, and on encoders whose stability is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.stats import spearmanr
from torch import Tensor, nn

from radlens.core.classifier import Classifier, Head
from radlens.core.errors import ExplainError
from radlens.core.regions import Geometry, SaliencyMaps
from radlens.core.transform import ImageTransform
from radlens.core.vocabulary import Label, Vocabulary
from radlens.explain.maps import saliency_maps
from radlens.explain.trust.evidence import SCHEMA
from radlens.explain.trust.shifts import shifted
from radlens.explain.trust.stability import rank_correlation, seed_stability, shift_stability

LABELS = ("Bright", "Dark")


class Mixing(nn.Module):
    """The class token takes the mean of the patches, so that Grad-CAM at the norm shows what patches hold."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.Identity()

    def forward(self, tokens: Tensor) -> Tensor:
        normed = self.norm1(tokens)
        return torch.cat([tokens[:, :1] + normed[:, 1:].mean(dim=1, keepdim=True), normed[:, 1:]], dim=1)


class Brightness(nn.Module):
    """A patch holds its mean and its darkness; or (`chaotic`) a hash of its mean that any move changes."""

    name, fingerprint, dimension, prefix_tokens, logit_scale = "brightness", "test", 2, 1, 1.0
    card: Mapping[str, Any] = {}
    grid = (6, 6)
    transform = ImageTransform(48, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    device = torch.device("cpu")

    def __init__(self, chaotic: bool = False) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Mixing()])
        self.chaotic = chaotic

    def tokens(self, pixels: Tensor) -> Tensor:
        means = pixels.unfold(2, 8, 8).unfold(3, 8, 8).mean(dim=(1, 4, 5)).flatten(1)
        if self.chaotic:
            means = (1e4 * torch.sin(1e3 * means)).frac().abs()
        held = torch.stack([means + 5, 5 - means], dim=-1)
        return torch.cat([torch.zeros_like(held[:, :1]), held], dim=1)

    def pool(self, tokens: Tensor) -> Tensor:
        return tokens[:, 0]

    def encode_images(self, pixels: Tensor) -> Tensor:
        return self.pool(self.blocks[0](self.tokens(pixels)))


def brightness_classifier(chaotic: bool = False) -> Classifier:
    vocabulary = Vocabulary("test", tuple(Label(name, None, ("p",), ("n",)) for name in LABELS))
    head = Head(torch.eye(2), torch.zeros(2), normalise=False)
    return Classifier("synthetic", head, vocabulary, Brightness(chaotic))  # type: ignore[arg-type]


def smooth_images(count: int) -> Tensor:
    random = np.random.default_rng(5)
    drawn = np.stack([gaussian_filter(random.normal(size=(48, 48)), 7.0) for _ in range(count)])
    return torch.from_numpy(np.repeat((drawn / drawn.std())[:, None], 3, axis=1)).float()


IDS = tuple(f"image {i}" for i in range(14))
PATIENTS = tuple(f"patient {i // 2 if i < 4 else i}" for i in range(14))
TARGETS = [(image_id, "Bright") for image_id in IDS] + [(image_id, "Dark") for image_id in IDS[:12]]


def stability_of(classifier: Classifier, **options: Any) -> pl.DataFrame:
    given: dict[str, Any] = {"targets": TARGETS, "methods": ("grad-cam",), "layers": (-1,)} | options
    return shift_stability(classifier, smooth_images(14).split(5), IDS, PATIENTS, **given)


def test_maps_that_follow_the_image_pass_and_those_of_a_hash_do_not() -> None:
    follows = stability_of(brightness_classifier())
    assert follows.schema == pl.Schema(SCHEMA)
    assert follows["label"].to_list() == ["Bright", "Dark", "all"]
    assert follows["passed"].to_list() == [True] * 3
    assert follows["images"].to_list() == [14, 12, 26]
    assert follows["patients"].to_list() == [12, 10, 12]
    hashed = stability_of(brightness_classifier(chaotic=True))
    assert hashed.filter(label="Bright")["passed"][0] is False
    assert "0.50 for the floor" in hashed["reason"][0]


@pytest.mark.parametrize("shift", [(8, 0), (-8, 0), (0, 8), (0, -8), (3, -5)])
def test_moved_images_repeat_their_edges(shift: tuple[int, int]) -> None:
    image = torch.randn(3, 20, 30, generator=torch.Generator().manual_seed(0))
    down, right = shift
    padded = np.pad(image.numpy(), ((0, 0), (10, 10), (10, 10)), mode="edge")
    expected = padded[:, 10 - down : 30 - down, 10 - right : 40 - right]
    np.testing.assert_array_equal(shifted(image, shift).numpy(), expected)


def test_figures_are_those_of_a_loop_with_scipy(classifier: Classifier) -> None:
    pixels = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(7))
    ids, patients = ["a", "b", "c", "d"], ["p", "p", "q", "r"]
    targets = [("a", "Edema"), ("c", "Edema"), ("b", "Fracture")]
    shifts = ((8, 0), (0, -5))
    found = shift_stability(
        classifier, [pixels], ids, patients, targets, ("grad-cam", "hires-cam"), (-1, -2), shifts=shifts, batch_size=3
    )
    geometry = Geometry(64, 64, 64)
    still = saliency_maps(classifier, [pixels], ids, ("grad-cam", "hires-cam"), (-1, -2))
    moved = [
        saliency_maps(classifier, [shifted(pixels, shift)], ids, ("grad-cam", "hires-cam"), (-1, -2))
        for shift in shifts
    ]
    # the other image of the label is of another patient; one without such takes the next of any
    rivals = {"Edema": {"a": "c", "c": "a"}, "Fracture": {"b": "c"}}

    def alike(first: np.ndarray, second: np.ndarray, down: int, right: int) -> float:
        one, two = geometry.enlarge(first), geometry.enlarge(second)
        pairs = [
            (one[y, x], two[y + down, x + right])
            for y in range(max(0, -down) + 4, 64 - max(0, down), 8)
            for x in range(max(0, -right) + 4, 64 - max(0, right), 8)
        ]
        left, other = np.array(pairs).T
        return float(spearmanr(left, other).statistic) if np.ptp(left) and np.ptp(other) else float("nan")

    for row in found.filter(pl.col("label") != "all").iter_rows(named=True):
        column = still.labels.index(row["label"])
        at = (still.methods.index(row["method"]), still.layers.index(row["layer"]))
        own, between = [], []
        for image_id, label in targets:
            if label == row["label"]:
                here = still.maps[ids.index(image_id), column][at]
                each = [
                    [alike(here, maps.maps[ids.index(other), column][at], *shift) for other in (image_id, rival)]
                    for maps, shift in zip(moved, shifts, strict=True)
                    for rival in [rivals[label][image_id]]
                ]
                own.append(np.nanmean([pair[0] for pair in each]))
                between.append(np.nanmean([pair[1] for pair in each]))
        floors = np.mean(own) - 0.5, np.mean(own) - np.mean(between)
        assert row["value"] == pytest.approx(np.mean(own), abs=5e-3)
        assert row["difference"] == pytest.approx(min(floors), abs=5e-3)
        assert row["passed"] is None
    assert found.height == 4 * 3


def test_constant_maps_are_left_aside_and_counted(classifier: Classifier) -> None:
    weight = classifier.head.weight.clone()
    weight[1] = 0
    silent = replace(classifier, head=Head(weight, torch.zeros(5), normalise=True))
    pixels = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(7))
    targets = [("a", "Fracture"), ("b", "Fracture"), ("b", "Edema")]
    found = shift_stability(silent, [pixels], ["a", "b", "c"], ["a", "b", "c"], targets, ("grad-cam",), (-1,))
    row = found.row(by_predicate=pl.col("label") == "Fracture", named=True)
    assert np.isnan(row["value"])
    assert row["passed"] is None
    assert "all 2 are constant" in row["reason"]
    assert "2 of 3 are constant" in found.filter(label="all")["reason"][0]


def test_rank_correlation_is_scipys_with_ties() -> None:
    random = np.random.default_rng(0)
    first, second = random.integers(0, 4, (2, 5, 30)).astype(np.float16)
    expected = [spearmanr(a, b).statistic for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(rank_correlation(first, second), expected)
    assert np.isnan(rank_correlation(np.ones((1, 30)), second[:1]))[0]


def seed_maps(kind: str, seeds: int = 3, images: int = 14) -> dict[str, SaliencyMaps]:
    random = np.random.default_rng(1)
    own = random.random((images, 2, 1, 1, 6, 6))
    place = random.random((1, 2, 1, 1, 6, 6)) * np.ones_like(own)
    noise = random.random((seeds, *own.shape))
    values = {"own": own + 0.2 * noise, "noise": noise, "place": place + 0.02 * noise}[kind]
    return {
        f"seed {i}": SaliencyMaps(IDS[:images], LABELS, ("grad-cam",), ("-1",), one.astype(np.float16))
        for i, one in enumerate(values)
    }


def seeds_of(maps: Mapping[str, SaliencyMaps], targets: Sequence[tuple[str, str]] = TARGETS) -> pl.DataFrame:
    return seed_stability(maps, dict(zip(IDS, PATIENTS, strict=True)), targets, setting="fine-tune")


def test_seeds_that_agree_on_each_image_pass_and_others_do_not() -> None:
    assert seeds_of(seed_maps("own"))["passed"].to_list()[0] is True
    noise = seeds_of(seed_maps("noise")).row(0, named=True)
    assert noise["passed"] is False
    assert noise["check"] == "seeds"
    assert noise["setting"] == "fine-tune"
    # a map that looks the same for every image agrees between seeds, and says nothing of the image
    place = seeds_of(seed_maps("place")).row(0, named=True)
    assert place["value"] > 0.9
    assert place["passed"] is not True
    assert "maps of other patients" in place["reason"]


def test_seed_figures_are_those_of_a_loop() -> None:
    maps = seed_maps("own")
    row = seeds_of(maps).row(0, named=True)
    own, between = [], []
    for at in range(14):
        # images 0 and 1, and 2 and 3, are of one patient
        rival = {0: 2, 2: 4}.get(at, (at + 1) % 14)
        pairs = list(combinations([one.maps[:, 0].reshape(14, 36) for one in maps.values()], 2))
        own.append(np.mean([spearmanr(a[at], b[at]).statistic for a, b in pairs]))
        between.append(np.mean([spearmanr(a[at], b[rival]).statistic for a, b in pairs]))
    assert row["value"] == pytest.approx(np.mean(own))
    decided = min(np.mean(own) - np.mean(between), np.mean(own) - 0.5)
    assert row["difference"] == pytest.approx(decided)
    assert f"{np.mean(between):.2f} for maps of other patients" in row["reason"]


def test_refusals(classifier: Classifier) -> None:
    maps = seed_maps("own")
    with pytest.raises(ExplainError, match="maps of 1 seed, but"):
        seeds_of({"seed 0": maps["seed 0"]})
    with pytest.raises(ExplainError, match="'seed 0' and 'other' are not of the same image_ids"):
        seeds_of({"seed 0": maps["seed 0"], "other": seed_maps("own", images=13)["seed 1"]})
    with pytest.raises(ExplainError, match="unknown label 'Grey'"):
        seeds_of(maps, [("image 1", "Grey")])
    with pytest.raises(ExplainError, match="no encoder"):
        stability_of(replace(brightness_classifier(), encoder=None))
    with pytest.raises(ValueError, match="shifts of less than 48 pixels"):
        stability_of(brightness_classifier(), shifts=((48, 0),))
    with pytest.raises(ExplainError, match="'image 77'"):
        stability_of(brightness_classifier(), targets=[("image 77", "Bright")])
    assert stability_of(brightness_classifier(), targets=[]).is_empty()
    assert seeds_of(maps, []).is_empty()
