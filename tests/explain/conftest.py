"""A small real ViT with random weights behind the `Encoder` protocol, and classifiers on top of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from radlens.core.classifier import Classifier, Head
from radlens.core.transform import ImageTransform
from radlens.core.vocabulary import Label, Vocabulary


class TimmEncoder(nn.Module):
    """timm's ViT and a bias-free projection."""

    card: Mapping[str, Any] = {}
    logit_scale = 20.0
    fingerprint = "test"
    name = "test-vit"

    def __init__(self, pool: str = "token", depth: int = 4, **options: Any) -> None:
        super().__init__()
        torch.manual_seed(3)
        shape = {"img_size": 64, "patch_size": 16, "embed_dim": 32, "depth": depth, "num_heads": 4, "num_classes": 0}
        self.trunk = VisionTransformer(**shape, global_pool=pool, **options)
        self.projection = nn.Linear(32, 16, bias=False)
        self.dimension = 16
        with torch.no_grad():
            for weight in self.parameters():
                weight.copy_(torch.randn(weight.shape) * 0.25 + (weight.ndim == 1) * 0.5)
        self.transform = ImageTransform(64, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
        self.grid = (4, 4)
        self.prefix_tokens = 1
        self.eval()

    @property
    def device(self) -> torch.device:
        return self.projection.weight.device

    @property
    def blocks(self) -> Sequence[nn.Module]:
        return list(self.trunk.blocks)

    def encode_images(self, pixels: Tensor) -> Tensor:
        return self.projection(self.trunk(pixels))

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        raise NotImplementedError

    def tokens(self, pixels: Tensor) -> Tensor:
        return self.trunk.norm_pre(self.trunk._pos_embed(self.trunk.patch_embed(pixels)))

    def pool(self, tokens: Tensor) -> Tensor:
        return self.projection(self.trunk.forward_head(self.trunk.norm(tokens)))


LABELS = ("Edema", "Fracture", "Pneumonia", "Lung Opacity", "Cardiomegaly")
VOCABULARY = Vocabulary("test", tuple(Label(name, None, ("p",), ("n",)) for name in LABELS))


def classifier_of(encoder: Any, *, normalise: bool = True) -> Classifier:
    generator = torch.Generator().manual_seed(5)
    weight = torch.randn(len(LABELS), 16, generator=generator)
    head = Head(weight, torch.zeros(len(LABELS)), normalise=normalise, scale=20.0 if normalise else 1.0)
    return Classifier("zero-shot", head, VOCABULARY, encoder)


@pytest.fixture
def encoder() -> TimmEncoder:
    return TimmEncoder()


@pytest.fixture
def classifier(encoder: TimmEncoder) -> Classifier:
    return classifier_of(encoder)


@pytest.fixture
def make_encoder() -> Callable[..., TimmEncoder]:
    return TimmEncoder


@pytest.fixture
def make_classifier() -> Callable[..., Classifier]:
    return classifier_of


@pytest.fixture
def pixels() -> Tensor:
    return torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(7))
