"""Re-drawn weights: a detector that learned its marker loses its maps, one that sees contrast alone keeps them."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from radlens.core.classifier import Classifier, Head
from radlens.core.errors import ExplainError
from radlens.core.patient_means import patient_means
from radlens.core.regions import SaliencyMaps
from radlens.core.spec import ModelSpec
from radlens.core.store import Cache, default_cache
from radlens.core.transform import ImageTransform
from radlens.core.vocabulary import Label, Vocabulary
from radlens.explain.maps import saliency_maps
from radlens.explain.trust.randomisation import MARGIN, randomisation, redraw
from radlens.models.loading import load_encoder, resolve

SIDE, PATCH, WIDTH = 8, 8, 8
LABELS = ("Marker", "Other")
VOCABULARY = Vocabulary("test", tuple(Label(name, None, ("p",), ("n",)) for name in LABELS))


class Block(nn.Module):
    """The class token gathers what patches say of themselves; patches stay as they are."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.Identity()
        self.value = nn.Linear(WIDTH, WIDTH, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        seen = self.norm1(tokens)
        return torch.cat([tokens[:, :1] + self.value(seen[:, 1:]).mean(dim=1, keepdim=True), tokens[:, 1:]], dim=1)


class Tower(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, WIDTH, PATCH, stride=PATCH, bias=False)
        self.blocks = nn.ModuleList([Block(), Block(), Block()])
        self.out = nn.Linear(WIDTH, WIDTH, bias=False)


class Detector:
    """Filters a patch; with `contrast` it squares them and all weights above are positive, so any filters will do."""

    name, fingerprint, dimension, logit_scale = "detector", "test", WIDTH, 1.0
    transform = ImageTransform(SIDE * PATCH, (0.5,) * 3, (0.5,) * 3)
    grid, prefix_tokens, device = (SIDE, SIDE), 1, torch.device("cpu")
    card: Mapping[str, Any] = {}

    def __init__(self, contrast: bool = False) -> None:
        torch.manual_seed(0)
        self.contrast = contrast
        self.image_module = Tower()
        self.image_module.requires_grad_(False)
        if contrast:
            for weight in (*(block.value.weight for block in self.blocks), self.image_module.out.weight):
                weight.copy_(torch.rand(WIDTH, WIDTH) + 0.1)  # type: ignore[operator]

    @property
    def blocks(self) -> Sequence[nn.Module]:
        return list(self.image_module.blocks)

    def with_image_tensors(self, tensors: Mapping[str, Tensor]) -> Detector:
        other = copy.copy(self)
        other.image_module = copy.deepcopy(self.image_module)
        other.image_module.load_state_dict(dict(tensors), strict=False)
        return other

    def tokens(self, pixels: Tensor) -> Tensor:
        patches = self.image_module.embed(pixels).flatten(2).transpose(1, 2)
        patches = patches.square() if self.contrast else patches
        return torch.cat([torch.zeros(len(patches), 1, WIDTH), patches], dim=1)

    def pool(self, tokens: Tensor) -> Tensor:
        return self.image_module.out(tokens[:, 0])

    def encode_images(self, pixels: Tensor) -> Tensor:
        tokens = self.tokens(pixels)
        for block in self.blocks:
            tokens = block(tokens)
        return self.pool(tokens)


def classifier_of(contrast: bool = False) -> Classifier:
    weight = torch.rand(2, WIDTH) + 0.1 if contrast else torch.randn(2, WIDTH)
    head = Head(weight, torch.zeros(2), normalise=False)
    return Classifier("probe", head, VOCABULARY, Detector(contrast))  # type: ignore[arg-type]


def images_of(count: int, contrast: bool = False) -> Tensor:
    """Noise; with `contrast` each patch has a contrast of its own."""
    random = torch.Generator().manual_seed(4)
    pixels = torch.randn(count, 3, SIDE, PATCH, SIDE, PATCH, generator=random)
    if contrast:
        pixels *= torch.rand(count, 1, SIDE, 1, SIDE, 1, generator=random) * 3
    return pixels.reshape(count, 3, SIDE * PATCH, SIDE * PATCH)


def checked(
    classifier: Classifier, pixels: Tensor, **options: Any
) -> tuple[SaliencyMaps, pl.DataFrame, pl.DataFrame, list[tuple[str, str]], dict[str, str]]:
    ids = tuple(f"i{at}" for at in range(len(pixels)))
    # the first two images are of one patient
    patients = {image: f"p{max(at, 1)}" for at, image in enumerate(ids)}
    maps = saliency_maps(classifier, [pixels], ids, ("grad-cam", "hires-cam"), (-1, -3))
    targets = [(image, label) for image in ids for label in LABELS if (image, label) != ("i3", "Other")]
    found, curve = randomisation(classifier, list(pixels.split(5)), patients, maps, targets, seed=1, **options)
    return maps, found, curve, targets, patients


def test_a_learned_marker_passes_and_a_contrast_detector_fails() -> None:
    _, learned, _, _, _ = checked(classifier_of(), images_of(40), stages=(1,))
    assert learned["passed"].to_list() == [True] * len(learned) and len(learned) == 3 * 2 * 2
    assert learned["value"].abs().max() < 0.15  # type: ignore[operator]
    _, edges, _, _, _ = checked(classifier_of(contrast=True), images_of(16, contrast=True), stages=(1,))
    assert edges["passed"].to_list() == [False] * len(edges)
    assert edges["value"].min() > 0.5 and edges["rival"].abs().max() < 0.15  # type: ignore[operator]
    assert "with all weights re-drawn 15 times the map is like its own by 0." in edges["reason"][0]


def test_figures_by_slow_loops() -> None:
    classifier, pixels = classifier_of(), images_of(16)
    maps, found, curve, targets, patients = checked(classifier, pixels, draws=12)
    # patients in order of their images are dealt out among the draws
    order = list(dict.fromkeys(patients.values()))
    label, method, layer = 1, 1, 0
    images = [maps.image_ids.index(image) for image, of in targets if of == "Other"]
    own: dict[int | None, list[float]] = {1: [], None: []}
    between, units = [], []
    for image in images:
        draw = order.index(patients[f"i{image}"]) % 12
        units.append(str(draw))
        flat = maps.maps[image, label, method, layer].ravel()
        for blocks, values in own.items():
            anew = saliency_maps(
                redraw(classifier, blocks, seed=1, draw=draw), [pixels[[image]]], ("x",), maps.methods, maps.layers
            )
            values.append(spearmanr(flat, anew.maps[0, label, method, layer].ravel())[0])
        strangers = [i for i in images if patients[f"i{i}"] != patients[f"i{image}"]]
        between.append(
            np.mean([spearmanr(flat, maps.maps[other, label, method, layer].ravel())[0] for other in strangers])
        )
    row = found.filter(label="Other", method="hires-cam", layer="-1").row(0, named=True)
    expected = patient_means(np.array(between) - own[None], units, seed=1)
    assert row["value"] == pytest.approx(np.mean(own[None]), abs=1e-9)
    assert row["rival"] == pytest.approx(np.mean(between), abs=1e-9)
    assert (row["difference"], row["low"], row["high"]) == pytest.approx(
        (expected.value[0], expected.low[0], expected.high[0]), abs=1e-9
    )
    assert (row["images"], row["patients"]) == (15, 14)
    assert row["passed"] is (True if row["low"] > -MARGIN else False if row["high"] <= -MARGIN else None)
    assert "re-drawn 12 times" in row["reason"] and "14 patients" in row["reason"]
    steps = curve.filter(label="Other", method="hires-cam", layer="-1")
    assert steps["stage"].to_list() == [
        "head", "head and last 1 blocks", "head and last 2 blocks", "all weights", "other patients",
    ]  # fmt: skip
    assert steps["blocks"].to_list() == [0, 1, 2, None, None]
    assert steps["similarity"].to_list()[1:] == pytest.approx(
        [np.mean(own[1]), steps["similarity"][2], row["value"], row["rival"]], abs=1e-9
    )
    assert steps["patients"].to_list() == [14] * 5


def test_too_few_draws_give_no_interval() -> None:
    _, found, _, _, _ = checked(classifier_of(), images_of(16), draws=9, stages=(1,))
    assert found["passed"].to_list() == [None] * len(found)
    assert "9 draws with own patients, an interval needs 10" in found["reason"][0]


def test_weights_are_permuted_from_the_top_on_a_copy() -> None:
    classifier = classifier_of()
    before = {name: weight.clone() for name, weight in classifier.encoder.image_module.state_dict().items()}  # type: ignore[union-attr]
    stages = [redraw(classifier, blocks, seed=3) for blocks in (0, 2, None)]
    for name, weight in classifier.encoder.image_module.state_dict().items():  # type: ignore[union-attr]
        assert torch.equal(weight, before[name])
    redrawn = [one.encoder.image_module.state_dict() for one in stages]  # type: ignore[union-attr]
    changed = [{name for name in before if not torch.equal(state[name], before[name])} for state in redrawn]
    upper = {"out.weight", "blocks.1.value.weight", "blocks.2.value.weight"}
    assert changed == [{"out.weight"}, upper, upper | {"blocks.0.value.weight", "embed.weight"}]
    for name in upper:
        assert torch.equal(redrawn[1][name], redrawn[2][name])
    for name, weight in redrawn[2].items():
        assert torch.equal(weight.flatten().sort()[0], before[name].flatten().sort()[0])
    assert not torch.equal(stages[0].head.weight, classifier.head.weight)
    assert torch.equal(stages[0].head.weight, stages[2].head.weight)
    again, other = redraw(classifier, None, seed=3), redraw(classifier, None, seed=3, draw=1)
    assert torch.equal(again.encoder.image_module.embed.weight, redrawn[2]["embed.weight"])  # type: ignore[union-attr]
    assert not torch.equal(other.encoder.image_module.embed.weight, redrawn[2]["embed.weight"])  # type: ignore[union-attr]


def test_one_patient_is_compared_with_images_of_others_and_gets_no_answer() -> None:
    classifier, pixels = classifier_of(), images_of(4)
    ids = ("a", "b", "c", "d")
    patients = {"a": "1", "b": "1", "c": "2", "d": "3"}
    maps = saliency_maps(classifier, [pixels], ids, layers=(-1,))
    targets = [("a", "Marker"), ("b", "Marker")]
    found, _ = randomisation(classifier, list(pixels.split(5)), patients, maps, targets, seed=0)
    flat = maps.maps[:, 0, 0, 0].reshape(4, -1)
    slow = np.mean([spearmanr(flat[i], flat[j])[0] for i in (0, 1) for j in (2, 3)])
    row = found.row(0, named=True)
    assert row["rival"] == pytest.approx(slow) and row["passed"] is None
    assert "1 draws with own patients, an interval needs 10" in row["reason"]
    constant = replace(maps, maps=np.zeros_like(maps.maps))
    nothing, _ = randomisation(classifier, list(pixels.split(5)), patients, constant, targets, seed=0)
    assert np.isnan(nothing["value"][0]) and nothing["passed"][0] is None and "cannot be told" in nothing["reason"][0]


def test_refusals() -> None:
    classifier, pixels = classifier_of(), images_of(2)
    maps = saliency_maps(classifier, [pixels], ("a", "b"), layers=(-1,))
    patients, targets = {"a": "1", "b": "2"}, [("a", "Marker")]
    with pytest.raises(ValueError, match="stages must rise to 1"):
        randomisation(classifier, [pixels], patients, maps, targets, seed=0, stages=(0.5,))
    with pytest.raises(ValueError, match="maps of 2 images, but pixels of 1"):
        randomisation(classifier, [pixels[:1]], patients, maps, targets, seed=0)
    with pytest.raises(ExplainError, match="'probe' has no encoder"):
        randomisation(replace(classifier, encoder=None), [pixels], patients, maps, targets, seed=0)
    empty, curve = randomisation(classifier, [pixels], patients, maps, [], seed=0)
    assert empty.is_empty() and curve.is_empty()


def test_the_embedded_model_is_redrawn_as_a_whole() -> None:
    encoder = load_encoder(resolve(ModelSpec(name="radlens-tiny"), Path(), Cache(default_cache())))
    head = Head(torch.randn(2, encoder.dimension), torch.zeros(2), normalise=True)
    classifier = Classifier("zero-shot", head, VOCABULARY, encoder)
    changed = redraw(classifier, None, seed=0).encoder
    assert changed is not None
    before, after = (one.image_module.state_dict() for one in (encoder, changed))
    same = {name for name in before if torch.equal(before[name], after[name])}
    # nothing learned is left where it was; a tensor of one value cannot change
    assert all(before[name].unique().numel() == 1 for name in same)
    pixels = torch.randn(2, 3, encoder.transform.size, encoder.transform.size)
    maps = saliency_maps(classifier, [pixels], ("a", "b"), ("grad-cam", "attention-rollout"), (-1,))
    targets = [("a", "Other"), ("b", "Other")]
    found, _ = randomisation(classifier, [pixels], {"a": "1", "b": "2"}, maps, targets, seed=0, stages=(1,))
    assert found["label"].to_list() == ["Other", "Other", "all", "all"]
    assert found["passed"].to_list() == [None] * 4 and found["value"].is_between(-1, 1).all()
