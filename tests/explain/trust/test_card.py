"""The whole card on phantoms: a model that is given the true lesions passes for them, and for nothing else.

Lesions are painted beyond the film's range, one label's brighter and the other's darker than any tissue, and the model
reads nothing but that. Every check runs; only the region that is asked about changes.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import leaky_relu

from radlens.core.classifier import Classifier, Head
from radlens.core.regions import Annotations, Geometry, Mask, Region, SaliencyMaps
from radlens.core.transform import ImageTransform
from radlens.core.vocabulary import Label, Vocabulary
from radlens.data.phantom import SOURCE, render
from radlens.explain.baselines import label_priors
from radlens.explain.maps import saliency_maps
from radlens.explain.pair_scores import pair_scores
from radlens.explain.trust.faithfulness import faithfulness
from radlens.explain.trust.lift import lift_check
from radlens.explain.trust.randomisation import randomisation
from radlens.explain.trust.specificity import class_specificity, region_grids
from radlens.explain.trust.stability import shift_stability
from radlens.explain.trust.text_controls import text_controls
from radlens.explain.trust.verdict import map_flags, trust_cards

SIDE, PATCH, WIDTH, IMAGES = 14, 8, 8, 64
EDGE = SIDE * PATCH
LESIONS = {"Lung Lesion": 8.0, "Consolidation": -8.0}
METHODS, LAYERS = ("hires-cam",), (-1,)


def spread(weight: Tensor, random: Generator) -> Tensor:
    """A little of everything beside what counts: zeros alone would stay zeros when they are permuted."""
    return weight + 0.02 * torch.randn(weight.shape, generator=random)


class Block(nn.Module):
    """The class token gathers what patches hold; patches stay as they are."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.Identity()
        self.value = nn.Linear(WIDTH, WIDTH, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        seen = self.norm1(tokens)
        return torch.cat([tokens[:, :1] + self.value(seen[:, 1:]).sum(dim=1, keepdim=True), tokens[:, 1:]], dim=1)


class Tower(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, WIDTH, PATCH, stride=PATCH)
        self.blocks = nn.ModuleList([Block()])


class Reader:
    """Channel 0 is how far a patch is brighter than any tissue, channel 1 how far it is darker."""

    name, fingerprint, dimension, logit_scale = "reader", "test", WIDTH, 1.0
    transform = ImageTransform(EDGE, (0.5,) * 3, (0.25,) * 3)
    grid, prefix_tokens, device = (SIDE, SIDE), 1, torch.device("cpu")
    card: Mapping[str, Any] = {}

    def __init__(self) -> None:
        self.image_module = Tower()
        random = torch.Generator().manual_seed(0)
        with torch.no_grad():
            weight = self.image_module.embed.weight
            weight.copy_(0.001 * torch.randn(weight.shape, generator=random))
            weight[0], weight[1] = 1 / (3 * PATCH**2), -1 / (3 * PATCH**2)
            self.image_module.embed.bias.copy_(torch.tensor([-2.1, -2.1] + [0.0] * (WIDTH - 2)))  # type: ignore[union-attr]
            for block in self.blocks:
                block.value.weight.copy_(spread(torch.eye(WIDTH), random))  # type: ignore[operator,union-attr]
        self.image_module.requires_grad_(False)

    @property
    def blocks(self) -> Sequence[nn.Module]:
        return list(self.image_module.blocks)

    def with_image_tensors(self, tensors: Mapping[str, Tensor]) -> Reader:
        other = copy.copy(self)
        other.image_module = copy.deepcopy(self.image_module)
        other.image_module.load_state_dict(dict(tensors), strict=False)
        return other

    def tokens(self, pixels: Tensor) -> Tensor:
        patches = leaky_relu(self.image_module.embed(pixels).flatten(2).transpose(1, 2), 0.02)
        return torch.cat([torch.zeros(len(patches), 1, WIDTH), patches], dim=1)

    def pool(self, tokens: Tensor) -> Tensor:
        return tokens[:, 0]

    def encode_images(self, pixels: Tensor) -> Tensor:
        tokens = self.tokens(pixels)
        for block in self.blocks:
            tokens = block(tokens)
        return self.pool(tokens)


class Given:
    """Films with their lesions painted in, the lesions' masks, and those of the lungs."""

    def __init__(self) -> None:
        site = SOURCE.with_prevalence(dict.fromkeys(LESIONS, 0.5))
        pixels, lesions, lungs = [], [], []
        for index in range(IMAGES):
            phantom = render(5, index, site, EDGE)
            film = (phantom.pixels / 255.0 - 0.5) / 0.25
            image_id = f"i{index}"
            for label, value in LESIONS.items():
                mask = phantom.masks.get(label)
                if mask is not None and mask.sum() >= PATCH**2:
                    film = np.where(mask, value, film)
                    lesions.append(Region(image_id, label, Mask.pack(mask)))
                    lungs.append(Region(image_id, label, Mask.pack(phantom.lungs & ~mask)))
            pixels.append(np.repeat(film[None], 3, axis=0))
        self.pixels = [torch.from_numpy(np.stack(pixels[at : at + 8])).float() for at in range(0, IMAGES, 8)]
        self.ids = tuple(f"i{index}" for index in range(IMAGES))
        self.patients = {image_id: image_id for image_id in self.ids}
        self.geometries = {image_id: Geometry(EDGE, EDGE, EDGE) for image_id in self.ids}
        self.lesions, self.lungs = Annotations(tuple(lesions), "lesions"), Annotations(tuple(lungs), "lungs")


@pytest.fixture(scope="module")
def given() -> Given:
    return Given()


def classifier_of() -> Classifier:
    vocabulary = Vocabulary("test", tuple(Label(name, None, ("p",), ("n",)) for name in LESIONS))
    weight = spread(torch.eye(len(LESIONS), WIDTH), torch.Generator().manual_seed(1))
    head = Head(weight, torch.zeros(len(LESIONS)), normalise=False)
    return Classifier("reads-lesions", head, vocabulary, Reader())  # type: ignore[arg-type]


def card(given: Given, classifier: Classifier, annotations: Annotations) -> dict[str, dict[str, Any]]:
    """Label -> its card, every check made."""
    maps = saliency_maps(classifier, given.pixels, given.ids, METHODS, LAYERS)
    regions = region_grids(annotations, given.ids, maps.labels, given.geometries, (SIDE, SIDE))
    targets = list(regions)
    priors: dict[tuple[str, str], Any] = {}
    for label in maps.labels:
        own = {image: grid for (image, of), grid in regions.items() if of == label}
        priors |= {(image, label): prior for image, prior in label_priors(own, given.patients).items()}
    results: dict[str, SaliencyMaps] = {classifier.setting: maps}
    patients = [given.patients[image] for image in given.ids]
    common = (classifier, given.pixels, given.ids, patients)
    found = pl.concat(
        [
            lift_check(pair_scores(results, annotations, given.geometries, given.patients)),
            class_specificity(results, regions, given.patients),
            faithfulness(*common, maps, targets, priors, steps=5, random_orders=2)[0],
            randomisation(classifier, given.pixels, given.patients, maps, targets, seed=0, stages=(1,))[0],
            shift_stability(*common, targets, METHODS, LAYERS),
            text_controls(classifier, given.pixels, given.patients, maps, regions),
        ]
    )
    images = {label: [image for image, of in regions if of == label] for label in maps.labels}
    return {row["label"]: row for row in trust_cards(found, map_flags(results, images)).to_dicts()}


@pytest.mark.slow
def test_a_model_given_true_lesions_passes_for_those_labels(given: Given) -> None:
    found = card(given, classifier_of(), given.lesions)
    assert {label: found[label]["verdict"] for label in LESIONS} == dict.fromkeys(LESIONS, "may be believed"), [
        c["reason"] for c in found.values()
    ]


@pytest.mark.slow
def test_the_same_model_fails_where_it_does_not_look(given: Given) -> None:
    found = card(given, classifier_of(), given.lungs)
    assert {label: found[label]["verdict"] for label in LESIONS} == dict.fromkeys(LESIONS, "contradicted"), [
        c["reason"] for c in found.values()
    ]
    assert all("lift" in found[label]["failed"] for label in LESIONS)
