"""Maps of convolutional towers: against pytorch-grad-cam and plain autograd; which methods and sites are refused."""

from __future__ import annotations

import runpy
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from radlens.core.classifier import Classifier, Head
from radlens.core.errors import ExplainError
from radlens.core.registry import parts
from radlens.core.spec import ModelSpec
from radlens.core.store import Cache
from radlens.core.vocabulary import Label, Vocabulary
from radlens.explain.drawing import Drawing, methods_named
from radlens.explain.maps import saliency_maps
from radlens.explain.sites import check_sites, resolve_sites
from radlens.models.loading import load_encoder, resolve

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from pytorch_grad_cam import GradCAM, HiResCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

MADE = runpy.run_path(str(Path(__file__).parents[1] / "models" / "convolutional_miniature.py"))
CNNS: tuple[str, ...] = MADE["CNNS"]
OF_ATTENTION = ("attention-rollout", "grad-eclip", "gradient-attention", "legrad", "value-map")
OTHERS = tuple(sorted(set(parts("saliency")) - set(OF_ATTENTION)))
NAMES = ("Edema", "Fracture", "Pneumonia")
VOCABULARY = Vocabulary("test", tuple(Label(name, None, ("p",), ("n",)) for name in NAMES))


@pytest.fixture(scope="module")
def classifiers(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Classifier]:
    place = tmp_path_factory.mktemp("cnns")
    made: dict[str, Classifier] = {}

    def of(kind: str) -> Classifier:
        if kind not in made:
            folder = MADE["build"](place / str(len(made)), kind)
            encoder = load_encoder(resolve(ModelSpec(path=str(folder)), Path(), Cache(place / "cache")), "cpu")
            weight = torch.randn(3, 24, generator=torch.Generator().manual_seed(5))
            head = Head(weight, torch.zeros(3), normalise=True, scale=20.0)
            made[kind] = Classifier("zero-shot", head, VOCABULARY, encoder)
        return made[kind]

    return of


@pytest.fixture
def pixels() -> Tensor:
    return torch.randn(2, 3, 160, 160, generator=torch.Generator().manual_seed(7))


class Raw:
    """pytorch-grad-cam, keeping its map before it is scaled and enlarged."""

    def get_cam_image(self, *arguments: Any, **options: Any) -> Any:
        self.raw = super().get_cam_image(*arguments, **options)  # type: ignore[misc]
        return self.raw


class WithoutEpsilon(GradCAM):  # type: ignore[misc]
    """The library's Grad-CAM with the weights of Grad-CAM++ as the paper has them.

    Its own GradCAMPlusPlus adds 1e-6 to a denominator of squared gradients, which are smaller than that here.
    """

    def get_cam_weights(self, _input: Any, _layer: Any, _targets: Any, activations: Any, grads: Any) -> Any:
        found, slope = activations.astype(np.float64), grads.astype(np.float64)
        below = 2 * slope**2 + found.sum(axis=(2, 3), keepdims=True) * slope**3
        alpha = np.divide(slope**2, below, out=np.zeros_like(below), where=slope != 0)
        return (alpha * np.maximum(slope, 0)).sum(axis=(2, 3))


LIBRARY: dict[str, type[Any]] = {
    "grad-cam": type("RawGradCAM", (Raw, GradCAM), {}),
    "hires-cam": type("RawHiResCAM", (Raw, HiResCAM), {}),
    "grad-cam-plus-plus": type("RawGradCAMPlusPlus", (Raw, WithoutEpsilon), {}),
}


class Logits(nn.Module):
    """The whole tower as open_clip runs it, not stage by stage."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.visual, self.head = classifier.encoder.model.visual, classifier.head  # type: ignore[union-attr]

    def forward(self, pixels: Tensor) -> Tensor:
        return self.head(self.visual(pixels))  # type: ignore[no-any-return]


def averaged(maps: np.ndarray[Any, Any], side: int = 5) -> np.ndarray[Any, Any]:
    """(B, h, w) -> (B, side x side): the mean of each square, one by one."""
    step = maps.shape[1] // side
    cells = [maps[:, r * step : (r + 1) * step, c * step : (c + 1) * step] for r in range(side) for c in range(side)]
    return np.stack([cell.mean(axis=(1, 2)) for cell in cells], axis=1)


@pytest.mark.parametrize("kind", CNNS)
@pytest.mark.parametrize("name", LIBRARY)
def test_equals_pytorch_grad_cam(
    name: str, kind: str, classifiers: Callable[[str], Classifier], pixels: Tensor
) -> None:
    classifier = classifiers(kind)
    encoder: Any = classifier.encoder
    sites = resolve_sites(encoder, (-1, -2, -4))
    assert [site.name for site in sites] == ["blocks.3", "blocks.2", "blocks.0"]
    ours = Drawing(classifier, sites, methods_named((name,)))(pixels)
    assert ours.shape == (2, 3, 1, 3, 25)
    for label in range(3):
        for at, site in enumerate(sites):
            with LIBRARY[name](Logits(classifier), [site.module(encoder)]) as library:
                library(pixels.clone().requires_grad_(True), [ClassifierOutputTarget(label)] * len(pixels))
                theirs = averaged(np.maximum(library.raw, 0))
            found = ours[:, label, 0, at]
            assert theirs.any()
            if (name, kind) == ("hires-cam", "convnext") and site.block < 3:
                # a norm over each place's channels follows: the products cancel, and the library draws what is left
                assert not found.any() and 0 < theirs.max() < 1e-4 * ours[:, label, 0, 0].max()
                continue
            # where activations may be negative, weights of Grad-CAM++ have poles that enlarge rounding errors
            tolerance = 2e-3 if (name, kind) == ("grad-cam-plus-plus", "convnext") else 1e-4
            np.testing.assert_allclose(found, theirs, rtol=0, atol=tolerance * theirs.max(), err_msg=f"{label} {site}")


@pytest.mark.parametrize("kind", CNNS)
def test_the_gradient_at_the_pixels_and_occlusion(
    kind: str, classifiers: Callable[[str], Classifier], pixels: Tensor
) -> None:
    classifier = classifiers(kind)
    whole = Logits(classifier)
    sites = resolve_sites(classifier.encoder, (-1, -2))  # type: ignore[arg-type]
    found = Drawing(classifier, sites, methods_named(("input-gradient", "occlusion")))(pixels)
    asked = pixels.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(whole(asked)[:, 1].sum(), asked)
    expected = averaged(gradient.abs().amax(dim=1).numpy())
    np.testing.assert_allclose(found[:, 1, 0, 0], expected, rtol=1e-3, atol=1e-5 * expected.max())
    covered = pixels.clone()
    covered[:, :, 32:64, 96:128] = pixels.mean(dim=(-1, -2), keepdim=True)
    with torch.no_grad():
        fall = (whole(pixels) - whole(covered)).relu()
    np.testing.assert_allclose(found[:, :, 1, 0, 5 + 3], fall, rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(found[:, :, :, 0], found[:, :, :, 1])


def test_all_that_need_no_attention_make_one_array(classifiers: Callable[[str], Classifier], pixels: Tensor) -> None:
    maps = saliency_maps(classifiers("resnet"), [pixels], ("a", "b"), OTHERS, (-1, -2, "blocks.1"))
    assert maps.maps.shape == (2, 3, len(OTHERS), 3, 5, 5)
    assert maps.maps.any(axis=(-1, -2)).mean() > 0.9
    assert not maps.flags
    layered = dict(zip(OTHERS, maps.has_depth, strict=True))
    assert layered["grad-cam"] and not layered["occlusion"]


def test_a_map_of_rounding_errors_is_flagged(classifiers: Callable[[str], Classifier], pixels: Tensor) -> None:
    maps = saliency_maps(classifiers("convnext"), [pixels], ("a", "b"), ("grad-cam", "hires-cam"), (-1, -2))
    assert set(maps.flags) == {(image, label, 1, 1) for image in range(2) for label in range(3)}
    assert set(maps.flags.values()) == {"constant"}


@pytest.mark.parametrize("name", OF_ATTENTION)
def test_methods_of_attention_are_refused(name: str, classifiers: Callable[[str], Classifier], pixels: Tensor) -> None:
    classifier = classifiers("resnet")
    with pytest.raises(ExplainError, match=rf"^{name} cannot be drawn for .* class token.* use methods such as grad-"):
        saliency_maps(classifier, [pixels], ("a", "b"), ("grad-cam", name), (-1,))


def test_sites(classifiers: Callable[[str], Classifier], pixels: Tensor) -> None:
    classifier = classifiers("convnext")
    encoder: Any = classifier.encoder
    inside = resolve_sites(encoder, ("blocks.3.blocks.0.conv_dw", "blocks.2"))
    check_sites(encoder, inside)
    assert Drawing(classifier, inside, methods_named(("grad-cam",)))(pixels).any()
    with pytest.raises(ExplainError, match=r"^layer -5 is out of range: .* has 4 blocks"):
        resolve_sites(encoder, (-5,))
    with pytest.raises(ExplainError, match=r"^site 'norm' lies inside the pooling.* nearest valid site: 'blocks\.3'"):
        check_sites(encoder, resolve_sites(encoder, ("norm",)))
    # channels last: rows and channels must not be taken for a map
    last = resolve_sites(encoder, ("blocks.3.blocks.0.mlp",))
    if encoder.blocks[3].blocks[0].use_conv_mlp:
        check_sites(encoder, last)
    else:
        with pytest.raises(ExplainError, match=r"cannot carry a map: expected \(images, channels, rows, as many col"):
            check_sites(encoder, last)


@pytest.mark.parametrize("kind", ["resnet", "open_clip's resnet"])
def test_a_site_that_is_rectified_in_place_keeps_its_values(
    kind: str, classifiers: Callable[[str], Classifier], pixels: Tensor
) -> None:
    classifier = classifiers(kind)
    encoder: Any = classifier.encoder
    sites = resolve_sites(encoder, ("blocks.3.0.bn1",))
    found = Drawing(classifier, sites, methods_named(("hires-cam",)))(pixels)
    kept: list[Tensor] = []
    whole = Logits(classifier)

    def keep(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        kept.append(output.detach().requires_grad_(True))
        return kept[0].clone()

    handle = sites[0].module(encoder).register_forward_hook(keep)
    (gradient,) = torch.autograd.grad(whole(pixels)[:, 0].sum(), kept)
    handle.remove()
    expected = averaged((gradient * kept[0]).sum(dim=1).relu().detach().numpy())
    assert expected.any()
    np.testing.assert_allclose(found[:, 0, 0, 0], expected, rtol=1e-3, atol=1e-5 * expected.max())
