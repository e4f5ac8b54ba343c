"""Shared passes against plain autograd, and Grad-CAM against pytorch-grad-cam run layer by layer, label by label."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from radlens.core.classifier import Classifier
from radlens.core.errors import ExplainError
from radlens.core.registry import get
from radlens.explain.passes import SharedPasses
from radlens.explain.sites import resolve_sites

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget


def plain(classifier: Classifier, pixels: Tensor, names: tuple[str, ...], label: int) -> list[tuple[Tensor, Tensor]]:
    """Activations and gradients by a whole forward and a whole backward, with every weight asking for its own."""
    outputs: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            output.retain_grad()
            outputs[name] = output

        return hook

    trunk = classifier.encoder.trunk  # type: ignore[union-attr]
    handles = [trunk.get_submodule(name).register_forward_hook(keep(name)) for name in names]
    classifier.logits(pixels)[:, label].sum().backward()
    for handle in handles:
        handle.remove()
    found = [(outputs[name][:, 1:].detach(), outputs[name].grad[:, 1:]) for name in names]  # type: ignore[index]
    trunk.zero_grad()
    return found


@pytest.mark.parametrize("options", [{}, {"init_values": 0.5, "qk_norm": True, "qkv_bias": False}, {"pool": "avg"}])
@pytest.mark.parametrize(
    "layers", [(-1, -3), ("blocks.2", "blocks.1.attn", -1, "blocks.0.mlp"), ("blocks.3.attn.qkv",)]
)
@pytest.mark.parametrize("normalise", [True, False])
def test_equals_plain_autograd(
    options: dict[str, Any],
    layers: tuple[int | str, ...],
    normalise: bool,
    make_encoder: Callable[..., Any],
    make_classifier: Callable[..., Classifier],
    pixels: Tensor,
) -> None:
    encoder = make_encoder(**options)
    classifier = make_classifier(encoder, normalise=normalise)
    sites = resolve_sites(encoder, layers)
    passes = SharedPasses(classifier, sites)
    assert passes.class_token_only == ("pool" not in options and "blocks.3.attn.qkv" not in layers)
    found = passes(pixels)
    torch.testing.assert_close(found.logits.detach(), classifier.logits(pixels).detach(), rtol=1e-4, atol=1e-4)
    for label, gradients in found.gradients():
        expected = plain(classifier, pixels, tuple(site.name for site in sites), label)
        for activation, gradient, (a, g) in zip(found.activations, gradients, expected, strict=True):
            torch.testing.assert_close(activation, a, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(gradient, g, rtol=1e-3, atol=float(1e-5 * g.abs().max()))
            assert g.any()


class RawGradCAM(GradCAM):  # type: ignore[misc]
    """pytorch-grad-cam, keeping its map before it is scaled and enlarged."""

    def get_cam_image(self, *arguments: Any, **options: Any) -> Any:
        self.raw = super().get_cam_image(*arguments, **options)
        return self.raw


class Logits(nn.Module):
    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.encoder, self.head, self.classifier = classifier.encoder, classifier.head, classifier

    def forward(self, pixels: Tensor) -> Tensor:
        return self.classifier.logits(pixels)


@pytest.mark.parametrize("normalise", [True, False])
def test_equals_pytorch_grad_cam(
    normalise: bool, make_encoder: Callable[..., Any], make_classifier: Callable[..., Classifier], pixels: Tensor
) -> None:
    classifier = make_classifier(make_encoder(), normalise=normalise)
    encoder: Any = classifier.encoder
    sites = resolve_sites(encoder, (-1, -2, -3, "blocks.1"))
    grad_cam = get("saliency", "grad-cam")
    found = SharedPasses(classifier, sites)(pixels)
    encoder.requires_grad_(False)
    compared = 0
    for label, gradients in found.gradients():
        for site, activation, gradient in zip(sites, found.activations, gradients, strict=True):
            ours = grad_cam(activation, gradient).reshape(-1, 4, 4).numpy()
            with RawGradCAM(
                Logits(classifier), [site.module(encoder)], lambda t: t[:, 1:].reshape(-1, 4, 4, 32).permute(0, 3, 1, 2)
            ) as library:
                library(pixels.clone().requires_grad_(True), [ClassifierOutputTarget(label)] * len(pixels))
                theirs = np.maximum(library.raw, 0)
            np.testing.assert_allclose(ours, theirs, atol=1e-4 * theirs.max())
            compared += int(theirs.max() > 0)
    assert compared == 20


def test_leaves_no_trace(classifier: Classifier, pixels: Tensor) -> None:
    encoder: Any = classifier.encoder
    encoder.train()
    encoder.trunk.blocks[0].requires_grad_(False)
    before = [weight.requires_grad for weight in encoder.parameters()]
    for _ in SharedPasses(classifier, resolve_sites(encoder, (-1, -2)))(pixels).gradients():
        pass
    assert [weight.requires_grad for weight in encoder.parameters()] == before
    assert encoder.training and all(weight.grad is None for weight in encoder.parameters())
    assert not any(module._forward_hooks for module in encoder.modules())


def test_lower_blocks_keep_no_graph_and_labels_can_be_chosen(classifier: Classifier, pixels: Tensor) -> None:
    sites = resolve_sites(classifier.encoder, (-1,))  # type: ignore[arg-type]
    found = SharedPasses(classifier, sites)(pixels)
    (lowest,) = found._outputs
    assert lowest.is_leaf
    assert [label for label, _ in found.gradients([3, 1])] == [3, 1]
    with pytest.raises(RuntimeError):
        next(found.gradients())


class Foreign(nn.Module):
    """A block that is not timm's: post-attention only, named otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(32)
        self.mixing = nn.MultiheadAttention(32, 4, batch_first=True)

    def forward(self, tokens: Tensor) -> Tensor:
        normed = self.ln_1(tokens)
        return tokens + self.mixing(normed, normed, normed, need_weights=False)[0]


def test_foreign_blocks_run_whole(
    make_encoder: Callable[..., Any], make_classifier: Callable[..., Classifier], pixels: Tensor
) -> None:
    encoder = make_encoder()
    encoder.trunk.blocks = nn.Sequential(*(Foreign() for _ in range(3)))
    classifier = make_classifier(encoder)
    sites = resolve_sites(encoder, (-1, -3))
    passes = SharedPasses(classifier, sites)
    assert not passes.class_token_only
    found = passes(pixels)
    label, gradients = next(found.gradients())
    expected = plain(classifier, pixels, ("blocks.2.ln_1", "blocks.0.ln_1"), label)
    for gradient, (_, g) in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, g, rtol=1e-3, atol=float(1e-5 * g.abs().max()))


def test_bfloat16_agrees(classifier: Classifier, pixels: Tensor) -> None:
    sites = resolve_sites(classifier.encoder, (-1, -3))  # type: ignore[arg-type]
    full, half = SharedPasses(classifier, sites), SharedPasses(classifier, sites, precision="bfloat16")
    for (_, a), (_, b) in zip(full(pixels).gradients(), half(pixels).gradients(), strict=True):
        for x, y in zip(a, b, strict=True):
            assert y.dtype == torch.float32
            assert torch.cosine_similarity(x.flatten(), y.flatten(), dim=0) > 0.99


def test_no_encoder() -> None:
    from radlens.core.classifier import Head
    from radlens.core.vocabulary import Vocabulary

    bare = Classifier("probe", Head(torch.ones(1, 2), torch.zeros(1), normalise=False), Vocabulary("v", ()))
    with pytest.raises(ExplainError, match="no encoder"):
        SharedPasses(bare, ())
