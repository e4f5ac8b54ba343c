"""Deletion, insertion and ROAD on an encoder whose labels provably rest on one patch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor, nn

from radlens.core.classifier import Classifier, Encoder, Head
from radlens.core.errors import ExplainError
from radlens.core.regions import SaliencyMaps
from radlens.core.spec import ModelSpec
from radlens.core.store import Cache, default_cache
from radlens.core.transform import ImageTransform
from radlens.core.vocabulary import Label, Vocabulary
from radlens.explain.maps import saliency_maps
from radlens.explain.trust.curves import CHECKS, area
from radlens.explain.trust.evidence import SCHEMA
from radlens.explain.trust.faithfulness import faithfulness
from radlens.explain.trust.faithfulness_tables import CURVES
from radlens.models.loading import load_encoder, resolve

SIDE, GRID = 8, 6
LABELS = ("Upright", "Lying")
METHODS = ("true", "random", "inverted")
STEPS = 8
CORNERS = (7, 28)


class Stripes(nn.Module):
    """Two features: how strongly a patch is striped down, and across; smooth grey, blur or noise have neither."""

    name, fingerprint, dimension, prefix_tokens, logit_scale = "stripes", "test", 2, 0, 1.0
    card: Mapping[str, Any] = {}
    grid = (GRID, GRID)
    transform = ImageTransform(SIDE * GRID, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    device = torch.device("cpu")
    blocks: Sequence[nn.Module] = ()

    @property
    def image_module(self) -> nn.Module:
        return self

    def with_image_tensors(self, tensors: Mapping[str, Tensor]) -> Encoder:
        raise NotImplementedError

    def without_projection(self) -> Encoder:
        raise NotImplementedError

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        raise NotImplementedError

    def tokens(self, pixels: Tensor) -> Tensor:
        patches = pixels.unfold(2, SIDE, SIDE).unfold(3, SIDE, SIDE)
        down, across = (patches.diff(dim=axis).abs().mean(dim=(1, 4, 5)) for axis in (-1, -2))
        return torch.relu(torch.stack([down, across], dim=-1).flatten(1, 2) - 0.3)

    def pool(self, tokens: Tensor) -> Tensor:
        return tokens.sum(dim=1)

    def encode_images(self, pixels: Tensor) -> Tensor:
        return self.pool(self.tokens(pixels))


def striped(images: int, *, places: Sequence[int] | None = None) -> tuple[Tensor, np.ndarray]:
    """Smooth images with one patch of stripes for each label, (N, 3, 48, 48), and where: (N, labels)."""
    random = np.random.default_rng(3)
    line = np.linspace(-1, 1, SIDE * GRID)
    pixels = np.stack([np.outer(a + b * line, c + d * line) for a, b, c, d in random.normal(size=(images, 4))])
    at = np.array([places if places is not None else random.choice(GRID * GRID, 2, False) for _ in range(images)])
    for image, pair in zip(pixels, at, strict=True):
        for label, place in enumerate(pair):
            y, x = place // GRID * SIDE, place % GRID * SIDE
            stripes = random.uniform(2, 4) * (np.arange(SIDE) // 2 % 2 - 0.5) * np.ones((SIDE, SIDE))
            image[y : y + SIDE, x : x + SIDE] += stripes if label == 0 else stripes.T
    return torch.from_numpy(np.repeat(pixels[:, None], 3, axis=1)).float(), at


def stripes_classifier() -> Classifier:
    vocabulary = Vocabulary("test", tuple(Label(name, None, ("p",), ("n",)) for name in LABELS))
    head = Head(10 * torch.eye(2), torch.tensor([-3.0, 2.0]), normalise=False)
    encoder = Stripes()
    assert isinstance(encoder, Encoder)
    return Classifier("synthetic", head, vocabulary, encoder)


def known_maps(at: np.ndarray, ids: Sequence[str]) -> SaliencyMaps:
    """The patch itself, noise, and all but the patch."""
    maps = np.zeros((len(ids), 2, 3, 1, GRID * GRID), np.float16)
    for image, label in np.ndindex(at.shape):
        maps[image, label, 0, 0, at[image, label]] = 1
        maps[image, label, 2, 0] = 1 - maps[image, label, 0, 0]
    maps[:, :, 1] = np.random.default_rng(8).random(maps[:, :, 1].shape)
    return SaliencyMaps(tuple(ids), LABELS, METHODS, ("-1",), maps.reshape(len(ids), 2, 3, 1, GRID, GRID))


class Study:
    """Everything that a test asks of 12 images of 12 patients."""

    def __init__(self, images: int = 12, **options: Any) -> None:
        self.classifier = stripes_classifier()
        self.pixels, self.at = striped(images, **options)
        self.ids = [f"image {i}" for i in range(images)]
        self.patients = [f"patient {i}" for i in range(images)]
        self.maps = known_maps(self.at, self.ids)
        self.targets = [(image_id, label) for image_id in self.ids for label in LABELS]

    def run(self, **options: Any) -> tuple[pl.DataFrame, pl.DataFrame]:
        given = {"maps": self.maps, "targets": self.targets, "steps": STEPS} | options
        return faithfulness(self.classifier, self.pixels.split(7), self.ids, self.patients, **given)


@pytest.fixture(scope="module")
def study() -> Study:
    return Study()


@pytest.fixture(scope="module")
def tables(study: Study) -> tuple[pl.DataFrame, pl.DataFrame]:
    return study.run()


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("label", [*LABELS, "all"])
def test_the_true_map_passes_and_noise_and_the_inverse_do_not(
    tables: tuple[pl.DataFrame, pl.DataFrame], check: str, label: str
) -> None:
    evidence, _ = tables
    assert evidence.schema == pl.Schema(SCHEMA)
    rows = {row["method"]: row for row in evidence.filter(check=check, label=label).iter_rows(named=True)}
    assert rows["true"]["passed"] is True
    assert 0 < rows["true"]["low"] <= rows["true"]["difference"] <= rows["true"]["high"]
    assert rows["random"]["passed"] is not True
    assert rows["inverted"]["passed"] is False
    assert rows["inverted"]["high"] < 0
    for row in rows.values():
        assert row["setting"] == "synthetic"
        assert row["layer"] == "-1"
        assert row["images"] == (24 if label == "all" else 12)
        assert row["patients"] == 12
        assert row["difference"] == pytest.approx(row["value"] - row["rival"])
        assert f" {abs(row['value']):.2f} on average" in row["reason"]
        assert "random order" in row["reason"]


def test_areas_are_what_one_patch_that_goes_first_or_last_must_give(
    study: Study, tables: tuple[pl.DataFrame, pl.DataFrame]
) -> None:
    evidence, curves = tables
    with torch.no_grad():
        heights = (study.classifier.logits(study.pixels) - study.classifier.head.bias).numpy().mean(axis=0)
    # one step of a straight fall from the whole height, and nothing after it
    counts = np.floor(np.arange(STEPS + 1) * GRID * GRID / STEPS + 0.5)
    first, last = counts[1] / counts[-1] / 2, (counts[-1] - counts[-2]) / counts[-1] / 2
    expected = {
        ("deletion", "true"): 1 - first,
        ("insertion", "true"): 1 - first,
        ("road", "true"): 1 - counts[1] / counts[-2] / 2,
        ("deletion", "inverted"): last,
        ("insertion", "inverted"): last,
    }
    for (check, method), share in expected.items():
        for label, height in zip(LABELS, heights, strict=True):
            (value,) = evidence.filter(check=check, method=method, label=label)["value"]
            # stripes at the edge of the image leave a trace in the blur, hence not to the last digit
            assert value == pytest.approx(share * height, rel=0.03)
    assert curves.schema == pl.Schema(CURVES)
    true = curves.filter(check="deletion", order="map", method="true", label="Upright").sort("share")
    np.testing.assert_allclose(true["share"], counts / counts[-1])
    np.testing.assert_allclose(true["logit"], [heights[0] - 3] + [-3] * STEPS, atol=0.03 * heights[0])
    random = curves.filter(check="deletion", order="random", label="Upright").sort("share")
    # a patch in random order is still there with the share of those that are; it falls from half of its height on
    # average, exactly so, as each order is also followed backwards
    assert random["logit"].is_sorted(descending=True)
    assert area(random["logit"].to_numpy() + 3, counts / counts[-1]) == pytest.approx(heights[0] / 2, rel=0.03)
    assert random["method"].null_count() == len(random) == STEPS + 1
    assert curves.filter(check="road", order="prior", label="all").height == STEPS
    assert set(curves["order"]) == {"map", "random", "prior"}


def test_a_map_that_knows_no_more_than_the_prior_does_not_pass() -> None:
    fixed = Study(places=CORNERS)
    assert fixed.run(checks=["deletion"])[0].filter(method="true", label="Upright")["passed"][0] is True
    priors = {
        label: np.eye(GRID * GRID)[place].reshape(GRID, GRID) for label, place in zip(LABELS, CORNERS, strict=True)
    }
    evidence, _ = fixed.run(priors=priors)
    true = evidence.filter(pl.col("method") == "true")
    assert true["passed"].to_list() == [False] * 9
    np.testing.assert_allclose(true["difference"], 0)
    assert "for the label's mean region" in true.filter(label="Lying")["reason"][0]
    # the same priors, given target by target
    again, _ = fixed.run(priors={target: priors[target[1]] for target in fixed.targets}, checks=["deletion"])
    assert again.equals(evidence.filter(check="deletion"))
    # a prior of one label leaves the other its spot at the centre
    half, _ = fixed.run(priors={"Lying": priors["Lying"]}, checks=["insertion"])
    assert half.filter(method="true", label="Upright")["passed"][0] is True


def test_few_patients_give_no_answer_and_constant_maps_fail(study: Study) -> None:
    few = Study(9)
    rows = few.run(checks=["deletion"])[0].filter(method="true")
    assert rows["passed"].to_list() == [None] * 3
    assert rows["low"].is_nan().all()
    assert "9 patients, an interval needs 10" in rows["reason"][0]
    flags = {(image, 0, 1, 0): "constant" for image in range(12)} | {(0, 1, 0, 0): "constant"}
    maps = SaliencyMaps(study.maps.image_ids, LABELS, METHODS, ("-1",), study.maps.maps, flags)
    evidence, _ = study.run(maps=maps, checks=["insertion"])
    flagged = evidence.filter(method="random", label="Upright")
    assert flagged["passed"].to_list() == [False]
    assert "12 of 12 maps are constant" in flagged["reason"][0]
    part = evidence.filter(method="true", label="Lying")
    assert part["passed"].to_list() == [True]
    assert "1 of 12 maps are constant" in part["reason"][0]


def test_an_images_figures_do_not_depend_on_others_on_batches_or_on_its_place(study: Study) -> None:
    some = [study.targets[at] for at in (9, 12, 13)]
    whole = study.run(checks=["road"], targets=some, batch_size=5)[1]
    ids = ["image 6", "image 4"]
    alone = faithfulness(
        study.classifier,
        [study.pixels[[6, 4]].numpy()],
        ids,
        ["patient 6", "patient 4"],
        study.maps,
        some,
        checks=["road"],
        steps=STEPS,
    )[1]
    assert whole.drop("logit").equals(alone.drop("logit"))
    np.testing.assert_allclose(whole["logit"], alone["logit"], atol=1e-4)
    other = study.run(checks=["road"], targets=some, seed=1)[1]
    assert np.abs(other["logit"].to_numpy() - whole["logit"].to_numpy()).max() > 0.1


def test_progress_counts_images_with_a_target(study: Study) -> None:
    seen: list[tuple[int, int]] = []
    targets = [("image 3", "Lying"), ("image 8", "Lying"), ("image 3", "Upright")]
    study.run(targets=targets, checks=["deletion"], progress=lambda *at: seen.append(at))
    assert seen == [(1, 2), (2, 2)]
    evidence, curves = study.run(targets=[])
    assert evidence.is_empty()
    assert curves.is_empty()


def test_refusals(study: Study) -> None:
    with pytest.raises(ExplainError, match="'image 99', whose 'Lying' is to be tested, is not among"):
        study.run(targets=[("image 99", "Lying")])
    with pytest.raises(ExplainError, match=r"'image 1': unknown label 'Lyin'.*Did you mean 'Lying'"):
        study.run(targets=[("image 1", "Lyin")])
    with pytest.raises(ExplainError, match="'Lying' of image 'image 1' is to be tested twice"):
        study.run(targets=[("image 1", "Lying")] * 2)
    with pytest.raises(ExplainError, match="no map of label 'Lying' of image 'image 5'"):
        study.run(maps=known_maps(study.at[:3], study.ids[:3]), targets=[("image 5", "Lying")])
    with pytest.raises(ValueError, match="unknown checks"):
        study.run(checks=["delete"])
    with pytest.raises(ValueError, match="prior of 'Lying' has shape"):
        study.run(priors={"Lying": np.ones((3, 3))})
    with pytest.raises(ValueError, match="at least one random order"):
        study.run(random_orders=0)
    broken = study.pixels.clone()
    broken[2, 0, 3, 3] = float("nan")
    with pytest.raises(ExplainError, match="logits of image 'image 2' are not finite"):
        faithfulness(
            study.classifier, [broken], study.ids, study.patients, study.maps, [("image 2", "Lying")], steps=STEPS
        )
    with pytest.raises(ValueError, match="12 image ids, but pixels of 9"):
        faithfulness(study.classifier, [broken[:9]], study.ids, study.patients, study.maps, [])


def test_radlens_tiny_can_be_put_to_it() -> None:
    encoder = load_encoder(resolve(ModelSpec(name="radlens-tiny"), Path(), Cache(default_cache())))
    vocabulary = Vocabulary("test", tuple(Label(name, None, ("p",), ("n",)) for name in LABELS))
    weight = torch.randn(2, encoder.dimension, generator=torch.Generator().manual_seed(0))
    classifier = Classifier("linear-probe", Head(weight, torch.zeros(2), normalise=False), vocabulary, encoder)
    pixels = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    maps = saliency_maps(classifier, [pixels], ["a", "b"], layers=(-1,))
    evidence, curves = faithfulness(
        classifier, [pixels], ["a", "b"], ["a", "b"], maps, [("a", "Lying"), ("b", "Upright")], steps=3, random_orders=1
    )
    assert evidence.height == 9
    assert evidence["value"].is_finite().all()
    assert evidence["passed"].null_count() == 9
    with torch.no_grad():
        untouched = classifier.logits(pixels)
    start = curves.filter(label="Lying", check="road", order="map", share=0)["logit"][0]
    assert start == pytest.approx(float(untouched[0, 1]), abs=1e-3)
