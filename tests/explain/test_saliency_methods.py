"""Every saliency method against its paper's formula, written slowly with hooks, loops and autograd on a tiny ViT."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from radlens.core.classifier import Classifier
from radlens.explain.drawing import Drawing, methods_named
from radlens.explain.sites import resolve_sites

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from pytorch_grad_cam import GradCAMPlusPlus, HiResCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

LAYERS = (-1, -2, -4)
OPTIONS = [{}, {"init_values": 0.5, "class_token": True, "qkv_bias": False}, {"reg_tokens": 2}]


class Slow:
    """The same network with attention written out, every weight asking for its gradient, one image at a time."""

    def __init__(self, classifier: Classifier, image: Tensor) -> None:
        self.encoder: Any = copy.deepcopy(classifier.encoder).requires_grad_(True)
        self.head = classifier.head
        self.pixels = image[None].clone().requires_grad_(True)
        self.blocks = list(self.encoder.trunk.blocks)
        self.prefix = self.encoder.prefix_tokens
        self.seen: list[dict[str, Tensor]] = [{} for _ in self.blocks]
        self.watching = True
        for at, block in enumerate(self.blocks):
            block.attn.fused_attn = False
            block.norm1.register_forward_hook(self.keep(at, "norm1"))
            block.attn.qkv.register_forward_hook(self.keep(at, "qkv"))
            block.attn.attn_drop.register_forward_hook(self.keep(at, "attention"))
            block.attn.proj.register_forward_pre_hook(self.keep_input(at, "mixed"))
            block.register_forward_pre_hook(self.keep_input(at, "input"))
            block.register_forward_hook(self.keep(at, "output"))
        self.logits = self.head(self.encoder.encode_images(self.pixels))[0]
        self.watching = False

    def keep(self, at: int, name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            if self.watching:
                self.seen[at][name] = output

        return hook

    def keep_input(self, at: int, name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, inputs: Any) -> None:
            if self.watching:
                self.seen[at][name] = inputs[0]

        return hook

    def gradient(self, label: int, at: int, name: str) -> Tensor:
        return torch.autograd.grad(self.logits[label], self.seen[at][name], retain_graph=True)[0][0]

    def heads(self, at: int) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys, values, each (heads, N, d)."""
        query, key, value = self.seen[at]["qkv"][0].chunk(3, dim=-1)
        return tuple(part.reshape(len(part), 4, 8).transpose(0, 1) for part in (query, key, value))  # type: ignore[return-value]

    def cam(self, label: int, at: int) -> tuple[Tensor, Tensor]:
        return self.seen[at]["norm1"][0, self.prefix :], self.gradient(label, at, "norm1")[self.prefix :]


def grad_cam(slow: Slow, label: int, at: int) -> Tensor:
    a, g = slow.cam(label, at)
    return sum(g[:, c].mean() * a[:, c] for c in range(32)).clamp(min=0)  # type: ignore[union-attr]


def grad_cam_plus_plus(slow: Slow, label: int, at: int) -> Tensor:
    a, g = (x.double() for x in slow.cam(label, at))
    total = torch.zeros(len(a), dtype=torch.float64)
    for c in range(32):
        alpha = g[:, c] ** 2 / (2 * g[:, c] ** 2 + a[:, c].sum() * g[:, c] ** 3)
        total += (alpha * g[:, c].clamp(min=0)).nansum() * a[:, c]
    return total.clamp(min=0)


def hires_cam(slow: Slow, label: int, at: int) -> Tensor:
    a, g = slow.cam(label, at)
    return torch.stack([(a[p] * g[p]).sum().clamp(min=0) for p in range(len(a))])


def attention_rollout(slow: Slow, label: int, at: int) -> Tensor:
    product = torch.eye(slow.seen[0]["attention"].shape[-1])
    for seen in slow.seen[at:]:
        product = (0.5 * seen["attention"][0].mean(0) + 0.5 * torch.eye(len(product))) @ product
    return product[0, slow.prefix :]


def gradient_attention(slow: Slow, label: int, at: int) -> Tensor:
    relevance = torch.eye(slow.seen[0]["attention"].shape[-1])
    for block in range(at, len(slow.blocks)):
        weighted = slow.gradient(label, block, "attention") * slow.seen[block]["attention"][0]
        relevance = relevance + weighted.clamp(min=0).mean(0) @ relevance
    return relevance[0, slow.prefix :]


def legrad(slow: Slow, label: int, at: int) -> Tensor:
    maps = []
    for seen in slow.seen[at:]:
        logit = slow.head(slow.encoder.pool(seen["output"]))[0, label]
        gradient = torch.autograd.grad(logit, seen["attention"], retain_graph=True)[0][0]
        maps.append(gradient.clamp(min=0).mean(0).sum(0)[slow.prefix :])
    return sum(maps) / len(maps)  # type: ignore[return-value]


def grad_eclip(slow: Slow, label: int, at: int) -> Tensor:
    query, key, value = slow.heads(at)
    gradient = slow.gradient(label, at, "mixed")[0].reshape(4, 8)
    total = torch.zeros(value.shape[1] - slow.prefix)
    for head in range(4):
        cosine = torch.cosine_similarity(query[head, :1], key[head, slow.prefix :], dim=-1)
        loosened = (cosine - cosine.min()) / (cosine.max() - cosine.min())
        total += loosened * (value[head, slow.prefix :] @ gradient[head])
    return total.clamp(min=0)


def value_map(slow: Slow, label: int, at: int) -> Tensor:
    block, tokens = slow.blocks[at], slow.seen[at]["input"]
    own = tokens + block.ls1(block.attn.proj(slow.seen[at]["qkv"].chunk(3, dim=-1)[2]))
    own = own + block.ls2(block.mlp(block.norm2(own)))
    each = torch.stack([slow.head(slow.encoder.pool(own[:, p : p + 1]))[0, label] for p in range(own.shape[1])])
    patches = each[slow.prefix :]
    return (patches - patches.mean()).clamp(min=0)


def on_grid(gradient: Tensor) -> Tensor:
    size = gradient.abs().amax(0)
    return torch.stack([size[r : r + 16, c : c + 16].mean() for r in range(0, 64, 16) for c in range(0, 64, 16)])


def input_gradient(slow: Slow, label: int, at: int) -> Tensor:
    return on_grid(torch.autograd.grad(slow.logits[label], slow.pixels, retain_graph=True)[0][0])


def smooth_grad(slow: Slow, label: int, at: int) -> Tensor:
    generator, gradients = torch.Generator().manual_seed(0), []
    image = slow.pixels.detach()
    for _ in range(16):
        noise = 0.15 * (image.max() - image.min()) * torch.randn(image.shape[1:], generator=generator)
        noisy = (image + noise).requires_grad_(True)
        logit = slow.head(slow.encoder.encode_images(noisy))[0, label]
        gradients.append(torch.autograd.grad(logit, noisy)[0][0])
    return on_grid(torch.stack(gradients).mean(0))


def occlusion(slow: Slow, label: int, at: int) -> Tensor:
    falls = []
    for row in range(0, 64, 16):
        for column in range(0, 64, 16):
            covered = slow.pixels.detach().clone()
            for channel in range(3):
                covered[0, channel, row : row + 16, column : column + 16] = slow.pixels[0, channel].mean().item()
            falls.append(slow.logits[label] - slow.head(slow.encoder.encode_images(covered))[0, label])
    return torch.stack(falls).clamp(min=0)


REFERENCES: dict[str, Callable[[Slow, int, int], Tensor]] = {
    "attention-rollout": attention_rollout,
    "grad-cam": grad_cam,
    "grad-cam-plus-plus": grad_cam_plus_plus,
    "grad-eclip": grad_eclip,
    "gradient-attention": gradient_attention,
    "hires-cam": hires_cam,
    "input-gradient": input_gradient,
    "legrad": legrad,
    "occlusion": occlusion,
    "smooth-grad": smooth_grad,
    "value-map": value_map,
}


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("options", OPTIONS, ids=["plain", "layer-scale", "registers"])
def test_every_method_is_its_formula(
    options: dict[str, Any],
    normalise: bool,
    make_encoder: Callable[..., Any],
    make_classifier: Callable[..., Classifier],
    pixels: Tensor,
) -> None:
    encoder = make_encoder(**options)
    encoder.prefix_tokens = encoder.trunk.num_prefix_tokens
    classifier = make_classifier(encoder, normalise=normalise)
    pixels = pixels[:2]
    drawn = draw(classifier, pixels, tuple(REFERENCES))
    filled = np.zeros(len(REFERENCES), int)
    for image in range(2):
        slow = Slow(classifier, pixels[image])
        for at, (name, reference) in enumerate(REFERENCES.items()):
            labels = (0, 3) if name == "smooth-grad" else range(5)
            for label in labels:
                for layer, index in enumerate(LAYERS[:1] if name in ("smooth-grad", "occlusion") else LAYERS):
                    expected = reference(slow, label, index % 4).detach().numpy()
                    found = drawn[image, label, at, layer]
                    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-4 * expected.max(), err_msg=name)
                    filled[at] += expected.max() > 0
    assert (filled >= 2).all(), "a comparison of empty maps says nothing"


def draw(classifier: Classifier, pixels: Tensor, names: tuple[str, ...]) -> np.ndarray[Any, Any]:
    sites = resolve_sites(classifier.encoder, LAYERS)  # type: ignore[arg-type]
    return Drawing(classifier, sites, methods_named(names))(pixels)


class Logits(nn.Module):
    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.encoder, self.head, self.classifier = classifier.encoder, classifier.head, classifier

    def forward(self, pixels: Tensor) -> Tensor:
        return self.classifier.logits(pixels)


@pytest.mark.parametrize(
    ("name", "library"), [("grad-cam-plus-plus", GradCAMPlusPlus), ("hires-cam", HiResCAM)], ids=["plus-plus", "hires"]
)
def test_equals_pytorch_grad_cam(name: str, library: Any, classifier: Classifier, pixels: Tensor) -> None:
    class Raw(library):  # type: ignore[misc]
        """The library, keeping its map before it is scaled and enlarged."""

        def get_cam_image(self, *arguments: Any, **options: Any) -> Any:
            self.raw = super().get_cam_image(*arguments, **options)
            return self.raw

    sites = resolve_sites(classifier.encoder, LAYERS)  # type: ignore[arg-type]
    drawn = draw(classifier, pixels, (name,))
    encoder: Any = classifier.encoder
    encoder.requires_grad_(False)
    compared = 0
    for layer, site in enumerate(sites):
        for label in range(5):
            with Raw(
                Logits(classifier), [site.module(encoder)], lambda t: t[:, 1:].reshape(-1, 4, 4, 32).permute(0, 3, 1, 2)
            ) as cam:
                cam(pixels.clone().requires_grad_(True), [ClassifierOutputTarget(label)] * len(pixels))
                theirs = np.maximum(cam.raw, 0).reshape(len(pixels), -1)
            # the library adds 1e-6 to a denominator of squared gradients
            tolerance = 2e-2 if library is GradCAMPlusPlus else 1e-4
            np.testing.assert_allclose(drawn[:, label, 0, layer], theirs, atol=tolerance * max(theirs.max(), 1e-9))
            compared += int(theirs.max() > 0)
    assert compared >= 10


def test_methods_do_not_depend_on_company_or_batch(classifier: Classifier, pixels: Tensor) -> None:
    names = tuple(REFERENCES)
    together = draw(classifier, pixels, names)
    for at, name in enumerate(names):
        alone = np.concatenate([draw(classifier, image[None], (name,)) for image in pixels])
        scale = together[:, :, at].max()
        np.testing.assert_allclose(alone[:, :, 0], together[:, :, at], rtol=1e-3, atol=1e-5 * scale, err_msg=name)
