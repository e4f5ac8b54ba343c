"""Saliency by shared passes on a ViT-B/16 of random weights: against pytorch-grad-cam, and many methods against one.

`library`: Grad-CAM by shared passes against pytorch-grad-cam run layer by layer and label by label, in float32.
Both run in turn, image by image, in one process with the same threads; each library call is really made. The library
is timed twice: as it is documented (weights trainable) and at its fastest (weights frozen, only the input asks for a
gradient). The ratio that must be at least 15 (30 with bfloat16, whose rank correlation with float32 is printed) is the
one to its documented use; the other is printed beside it.

`methods`: every method (but smooth-grad and occlusion, which run the network many times by definition) at 12 depths
for 14 labels against Grad-CAM alone at one depth, in turn, best of the rounds. How far a backward goes is set by the
depth: the ratio that must be at most 1.5 is the one to Grad-CAM at the first block, whose backward goes as far as that
of all depths. With a second precision, its maps are compared with those of float32 by rank correlation.
"""

from __future__ import annotations

import argparse
import platform
import time
from typing import Any

import numpy as np
import timm
import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from scipy.stats import rankdata
from torch import Tensor, nn

from radlens.core.classifier import Classifier, Head
from radlens.core.registry import parts
from radlens.core.transform import ImageTransform
from radlens.core.vocabulary import load_vocabulary
from radlens.explain.drawing import Drawing, methods_named
from radlens.explain.passes import SharedPasses
from radlens.explain.saliency.grad_cam import grad_cam
from radlens.explain.sites import resolve_sites


class VisionTower(nn.Module):
    """timm's ViT-B/16 with random weights and a bias-free projection to 512, as in BiomedCLIP."""

    name, fingerprint, dimension, grid, prefix_tokens, logit_scale = "vit-b-16", "random", 512, (14, 14), 1, 85.23
    transform = ImageTransform(224, (0.48, 0.46, 0.41), (0.27, 0.26, 0.28))

    def __init__(self) -> None:
        super().__init__()
        self.trunk = timm.create_model("vit_base_patch16_224", num_classes=0)
        self.projection = nn.Linear(768, 512, bias=False)

    @property
    def device(self) -> torch.device:
        return self.projection.weight.device

    @property
    def blocks(self) -> list[nn.Module]:
        return list(self.trunk.blocks)

    def encode_images(self, pixels: Tensor) -> Tensor:
        return self.projection(self.trunk(pixels))

    def tokens(self, pixels: Tensor) -> Tensor:
        return self.trunk.norm_pre(self.trunk._pos_embed(self.trunk.patch_embed(pixels)))

    def pool(self, tokens: Tensor) -> Tensor:
        return self.projection(self.trunk.norm(tokens)[:, 0])


class Logits(nn.Module):
    """What the library is given: pixels to logits."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.encoder, self.head = classifier.encoder, classifier.head

    def forward(self, pixels: Tensor) -> Tensor:
        return self.head(self.encoder.encode_images(pixels))


class RawGradCAM(GradCAM):
    """The library, keeping its map before it is scaled and enlarged."""

    def get_cam_image(self, *arguments: Any, **options: Any) -> Any:
        self.raw = super().get_cam_image(*arguments, **options)
        return self.raw


def shared(passes: SharedPasses, pixels: Tensor) -> np.ndarray:
    """(layers, labels, 14, 14)."""
    found = passes(pixels)
    maps = [[grad_cam(a, g) for a, g in zip(found.activations, gs, strict=True)] for _, gs in found.gradients()]
    return np.stack([[m.reshape(14, 14).numpy() for m in row] for row in maps], axis=1)


def library(model: Logits, blocks: list[nn.Module], labels: int, pixels: Tensor) -> np.ndarray:
    """(layers, labels, 14, 14)."""

    def to_grid(tokens: Tensor) -> Tensor:
        return tokens[:, 1:].reshape(len(tokens), 14, 14, -1).permute(0, 3, 1, 2)

    maps = np.empty((len(blocks), labels, 14, 14), np.float32)
    for layer, block in enumerate(blocks):
        with RawGradCAM(model, [block.norm1], to_grid) as cam:
            for label in range(labels):
                cam(pixels, [ClassifierOutputTarget(label)])
                maps[layer, label] = np.maximum(cam.raw[0], 0)
    return maps


def clocks() -> np.ndarray:
    """Seconds by the wall and by the processor; the second holds on a machine that others use too."""
    return np.array([time.perf_counter(), time.process_time()])


SLOW = ("smooth-grad", "occlusion")


def rank_correlations(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(methods,): mean Spearman correlation over images, labels and layers of (B, L, methods, layers, P)."""
    ranks = [rankdata(maps, axis=-1) for maps in (first, second)]
    centred = [r - r.mean(axis=-1, keepdims=True) for r in ranks]
    sizes = [np.sqrt((r**2).sum(axis=-1)) for r in centred]
    both = sizes[0] * sizes[1]
    found = np.divide((centred[0] * centred[1]).sum(axis=-1), both, out=np.full_like(both, np.nan), where=both > 0)
    return np.nanmean(found, axis=(0, 1, 3))


def compare_methods(classifier: Classifier, pixels: Tensor, rounds: int, precisions: list[str]) -> None:
    names = [name for name in parts("saliency") if name not in SLOW]
    depths = tuple(range(12))
    print(f"{len(names)} methods ({', '.join(names)}), {len(depths)} depths, {len(classifier.vocabulary)} labels,")
    print(f"{len(pixels)} image(s) at once, best of {rounds} rounds")
    maps: dict[str, np.ndarray] = {}
    for precision in precisions:
        plans = {
            "grad-cam, first block": (["grad-cam"], (0,)),
            "grad-cam, last block": (["grad-cam"], (-1,)),
            "grad-cam, 12 depths": (["grad-cam"], depths),
            "all methods, 12 depths": (names, depths),
        }
        drawings = {
            name: Drawing(classifier, resolve_sites(classifier.encoder, at), methods_named(used), precision=precision)
            for name, (used, at) in plans.items()
        }
        seconds = {name: np.full(2, np.inf) for name in plans}
        for _ in range(rounds):
            for name, drawing in drawings.items():
                start = clocks()
                drawn = drawing(pixels)
                seconds[name] = np.minimum(seconds[name], clocks() - start)
        maps[precision] = drawn
        for name, (wall, busy) in seconds.items():
            ratio = seconds["all methods, 12 depths"] / seconds[name]
            print(
                f"{precision:8s} {name:24s} {wall:7.2f} s, all methods / this {ratio[0]:5.2f};   processor "
                f"{busy:7.2f} s, {ratio[1]:5.2f}"
            )
    for precision in precisions[1:]:
        for name, found in zip(names, rank_correlations(maps[precisions[0]], maps[precision]), strict=True):
            print(f"rank correlation of {name} in {precision} with {precisions[0]}: {found:.4f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("library", "methods"), nargs="?", default="library")
    parser.add_argument("--images", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precisions", nargs="+", default=["float32"], choices=("float32", "bfloat16"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    encoder = VisionTower().eval()
    vocabulary = load_vocabulary("chexpert-14")
    labels = len(vocabulary)
    head = Head(torch.randn(labels, 512) * 0.1, torch.zeros(labels), normalise=True, scale=85.23)
    classifier = Classifier("zero-shot", head, vocabulary, encoder)
    if arguments.what == "methods":
        print(f"{platform.processor() or platform.machine()}, {arguments.threads} threads, torch {torch.__version__}")
        compare_methods(classifier, torch.randn(arguments.images, 3, 224, 224), arguments.rounds, arguments.precisions)
        return
    model, sites = Logits(classifier), resolve_sites(encoder, (-1, -3, -5))
    blocks = [encoder.blocks[site.block] for site in sites]
    pixels = torch.randn(arguments.images, 3, 224, 224)
    start = time.perf_counter()
    passes = SharedPasses(classifier, sites)
    prepared = time.perf_counter() - start
    halved = SharedPasses(classifier, sites, precision="bfloat16")
    shared(passes, pixels[:1])
    shared(halved, pixels[:1])
    names = ("shared passes", "shared passes, bfloat16", "library, weights trainable", "library, weights frozen")
    seconds = {name: np.zeros(2) for name in names}
    worst, agreement = 0.0, []
    for image in pixels.split(1):
        start = clocks()
        ours = shared(passes, image)
        seconds["shared passes"] += clocks() - start
        start = clocks()
        rough = shared(halved, image)
        seconds["shared passes, bfloat16"] += clocks() - start
        # as (images, labels, methods, layers, patches)
        both = (maps.reshape(1, len(blocks), labels, -1).swapaxes(1, 2)[:, :, None] for maps in (ours, rough))
        agreement.append(rank_correlations(*both)[0])
        for name, frozen in (("library, weights trainable", False), ("library, weights frozen", True)):
            encoder.requires_grad_(not frozen)
            start = clocks()
            theirs = library(model, blocks, labels, image.clone().requires_grad_(frozen))
            seconds[name] += clocks() - start
            top = theirs.max(axis=(-1, -2), keepdims=True)
            worst = max(worst, float((np.abs(ours - theirs) / np.where(top > 0, top, 1)).max()))
    print(f"{platform.processor() or platform.machine()}, {arguments.threads} threads, torch {torch.__version__}")
    print(f"{len(blocks)} layers x {labels} labels, float32, {arguments.images} image(s); class token only in the last")
    print(f"block: {passes.class_token_only}; preparing the passes, once a classifier: {prepared:.2f} s")
    for name, (wall, busy) in seconds.items():
        ratio, half = seconds[name] / seconds["shared passes"], seconds[name] / seconds["shared passes, bfloat16"]
        print(
            f"{name:28s} {wall / arguments.images:8.2f} s an image, ratio {ratio[0]:5.1f}, to bfloat16 {half[0]:5.1f};"
            f"   processor {busy / arguments.images:8.2f} s, ratio {ratio[1]:5.1f}, to bfloat16 {half[1]:5.1f}"
        )
    print(f"largest difference of a float32 map, relative to its maximum: {worst:.1e}")
    print(f"mean rank correlation of bfloat16 maps with float32: {np.mean(agreement):.4f}")


if __name__ == "__main__":
    main()
