"""Convolutional towers: the same embeddings as open_clip's own, stages as blocks, and what is refused of them."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from radlens.core.classifier import Encoder
from radlens.core.errors import ExplainError, ModelError
from radlens.core.spec import ModelSpec
from radlens.core.store import Cache
from radlens.models.encoder import OpenClipEncoder
from radlens.models.loading import load_encoder, resolve

MADE = runpy.run_path(str(Path(__file__).parent / "convolutional_miniature.py"))
CNNS: tuple[str, ...] = MADE["CNNS"]
CUT = {"resnet": 96, "resnet, perceptron": 512, "convnext": 64}


def load(folder: Path, cache: Path) -> OpenClipEncoder:
    encoder = load_encoder(resolve(ModelSpec(path=str(folder)), Path(), Cache(cache)), "cpu")
    assert isinstance(encoder, OpenClipEncoder)
    return encoder


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, OpenClipEncoder]:
    place = tmp_path_factory.mktemp("cnns")
    folders = {kind: MADE["build"](place / str(number), kind) for number, kind in enumerate(CNNS)}
    return {kind: load(folder, place / "cache") for kind, folder in folders.items()}


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.randn(2, 3, 160, 160, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", CNNS)
def test_stages_and_pooling_make_open_clips_embedding(
    kind: str, encoders: dict[str, OpenClipEncoder], pixels: torch.Tensor
) -> None:
    encoder = encoders[kind]
    assert isinstance(encoder, Encoder)
    assert (encoder.grid, encoder.prefix_tokens, len(encoder.blocks), encoder.dimension) == ((5, 5), 0, 4, 24)
    with torch.no_grad():
        expected = encoder.model.visual(pixels)
        assert 1e-3 < expected.std() < 1e3 and (expected[0] - expected[1]).abs().max() > 1e-3 * expected.abs().max()
        torch.testing.assert_close(encoder.encode_images(pixels), expected)
        maps = encoder.tokens(pixels)
        sides = []
        for block in encoder.blocks:
            maps = block(maps)
            sides.append(maps.shape[-2:])
        torch.testing.assert_close(encoder.pool(maps), expected)
    assert sides == [(40, 40), (20, 20), (10, 10), (5, 5)]
    torch.testing.assert_close(encoder.encode_images(pixels).detach(), expected)


@pytest.mark.parametrize("kind", CNNS)
def test_features_before_the_projection_where_there_are_any(
    kind: str, encoders: dict[str, OpenClipEncoder], pixels: torch.Tensor
) -> None:
    encoder = encoders[kind]
    if kind not in CUT:
        with pytest.raises(ModelError, match="has no features before a projection; use the projection"):
            encoder.without_projection()
        return
    cut = encoder.without_projection()
    with torch.no_grad():
        features = cut.encode_images(pixels)
        torch.testing.assert_close(encoder.model.visual.head(features), encoder.encode_images(pixels))
    assert cut.dimension == features.shape[1] == CUT[kind]


def test_a_copy_with_other_tensors(encoders: dict[str, OpenClipEncoder], pixels: torch.Tensor) -> None:
    encoder = encoders["resnet"]
    name = "trunk.layer4.0.bn1.running_mean"
    changed = encoder.with_image_tensors({name: encoder.image_module.state_dict()[name] + 1})
    assert changed.fingerprint != encoder.fingerprint
    with torch.no_grad():
        assert not torch.allclose(changed.encode_images(pixels), encoder.encode_images(pixels), rtol=1e-2)
        alike = encoder.with_image_tensors({})
        assert torch.equal(alike.encode_images(pixels), encoder.encode_images(pixels))
    assert {id(p) for p in alike.blocks[0].parameters()} <= {id(p) for p in alike.image_module.parameters()}


def test_only_the_last_stage_is_pooled(encoders: dict[str, OpenClipEncoder], pixels: torch.Tensor) -> None:
    encoder = encoders["resnet"]
    with pytest.raises(ModelError, match=r"after its last stage alone \(96 channels, found 32\).*last_k_blocks"):
        encoder.pool(encoder.tokens(pixels))


def test_a_tower_that_is_not_known_encodes_but_is_not_explained(
    miniature_parts: dict[str, Any], tmp_path: Path
) -> None:
    vision = {"timm_model_name": "test_efficientnet", "timm_pool": "avg", "timm_proj": "linear", "image_size": 64}
    encoder = load(miniature_parts["build_miniature"](tmp_path / "model", vision=vision), tmp_path / "cache")
    with torch.no_grad():
        assert encoder.encode_images(torch.randn(1, 3, 64, 64)).shape == (1, 24)
    sentence = r"is a EfficientNet, neither a plain vision transformer nor a ResNet or ConvNeXt.* leave out `explain`"
    with pytest.raises(ExplainError, match=sentence):
        _ = encoder.blocks


def test_loading_again_is_the_same_model(tmp_path: Path) -> None:
    folder = MADE["build"](tmp_path / "model", "resnet")
    one, two = (load(folder, tmp_path / "cache") for _ in range(2))
    assert one.fingerprint == two.fingerprint
    pixels = torch.ones(1, 3, 160, 160)
    with torch.no_grad():
        np.testing.assert_array_equal(one.encode_images(pixels).numpy(), two.encode_images(pixels).numpy())
