"""Maps of a classifier: values, flags, refusals, and their file."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import save_file
from torch import Tensor

from radlens.core.classifier import Classifier, Head
from radlens.core.errors import ExplainError, SpecError, StoreError
from radlens.core.regions import SaliencyMaps
from radlens.explain.maps import load_maps, saliency_maps, save_maps
from radlens.explain.passes import SharedPasses
from radlens.explain.saliency.grad_cam import grad_cam
from radlens.explain.sites import resolve_sites

IDS = ("a/1", "a/2", "b")


def with_weights(classifier: Classifier, weight: Tensor) -> Classifier:
    return replace(classifier, head=Head(weight, torch.zeros(len(weight)), normalise=True, scale=1.0))


def test_each_map_is_grad_cam_over_its_maximum_whatever_the_batches(classifier: Classifier, pixels: Tensor) -> None:
    seen: list[tuple[int, int]] = []
    maps = saliency_maps(
        classifier, [pixels.numpy()], IDS, layers=(-1, -3), batch_size=2, progress=lambda *at: seen.append(at)
    )
    assert maps.maps.shape == (3, 5, 1, 2, 4, 4)
    assert maps.layers == ("-1", "-3")
    assert seen == [(2, 3), (3, 3)]
    found = SharedPasses(classifier, resolve_sites(classifier.encoder, (-1, -3)))(pixels)  # type: ignore[arg-type]
    for label, gradients in found.gradients():
        for layer, (activations, gradient) in enumerate(zip(found.activations, gradients, strict=True)):
            raw = grad_cam(activations, gradient).numpy()
            expected = (raw / np.maximum(raw.max(axis=1, keepdims=True), 1e-30)).reshape(3, 4, 4)
            np.testing.assert_allclose(maps.maps[:, label, 0, layer], expected, atol=1e-3)
            assert maps.strengths is not None
            np.testing.assert_allclose(maps.strengths[:, label, 0, layer], raw.max(axis=1), rtol=1e-4, atol=1e-9)
    again = saliency_maps(classifier, pixels.split(1), IDS, layers=(-1, -3))
    np.testing.assert_allclose(again.maps.astype(float), maps.maps.astype(float), atol=2e-3)


def test_tiny_gradients_survive_half_precision(classifier: Classifier, pixels: Tensor) -> None:
    small = replace(classifier, head=Head(classifier.head.weight, classifier.head.bias, normalise=True, scale=1e-7))
    maps = saliency_maps(small, [pixels], IDS, layers=(-1,))
    full = saliency_maps(classifier, [pixels], IDS, layers=(-1,))
    assert maps.strengths is not None and full.strengths is not None
    np.testing.assert_allclose(maps.strengths / 1e-7, full.strengths / classifier.head.scale, rtol=1e-3)
    np.testing.assert_allclose(maps.maps.astype(float), full.maps.astype(float), atol=2e-3)


def test_label_invariant_maps_are_flagged(classifier: Classifier, pixels: Tensor) -> None:
    one = classifier.head.weight[:1]
    invariant = saliency_maps(with_weights(classifier, one * torch.arange(1, 6)[:, None]), [pixels], IDS, layers=(-1,))
    usable = {at for at in np.ndindex(3, 5, 1, 1) if invariant.maps[at].any()}
    assert usable and {at for at, why in invariant.flags.items() if why == "label-invariant"} == usable
    honest = saliency_maps(classifier, [pixels], IDS, layers=(-1,))
    assert "label-invariant" not in honest.flags.values()


def test_constant_maps_are_flagged(classifier: Classifier, pixels: Tensor) -> None:
    weight = classifier.head.weight.clone()
    weight[2] = 0
    maps = saliency_maps(with_weights(classifier, weight), [pixels], IDS, layers=(-1, -2))
    assert all(maps.flags[image, 2, 0, layer] == "constant" for image in range(3) for layer in range(2))
    assert not maps.maps[:, 2].any()
    assert maps.strengths is not None
    np.testing.assert_array_equal(maps.strengths > 0, maps.maps.any(axis=(-1, -2)))
    zero = {at for at in np.ndindex(3, 5, 1, 2) if not maps.maps[at].any()}
    assert {at for at, why in maps.flags.items() if why == "constant"} == zero


def test_refusals(classifier: Classifier, pixels: Tensor) -> None:
    with pytest.raises(ExplainError, match=r"'zero-shot': no label has any gradient at site 'blocks.3.norm1'"):
        saliency_maps(with_weights(classifier, torch.zeros(5, 16)), [pixels], IDS, layers=(-1,))
    with pytest.raises(ExplainError, match=r"site 'blocks.3.mlp' has no gradient"):
        saliency_maps(classifier, [pixels], IDS, layers=("blocks.3.mlp",))
    with pytest.raises(SpecError, match=r"unknown saliency method 'gradcam'. Did you mean 'grad-cam'"):
        saliency_maps(classifier, [pixels], IDS, methods=("gradcam",))
    broken = pixels.clone()
    broken[1, 0, 0, 0] = float("nan")
    with pytest.raises(ExplainError, match=r"image 'a/2' is not finite"):
        saliency_maps(classifier, [broken], IDS, layers=(-1,))
    with pytest.raises(ValueError, match="3 image ids, but pixels of 2"):
        saliency_maps(classifier, [pixels[:2]], IDS, layers=(-1,))
    with pytest.raises(ExplainError, match="no encoder"):
        saliency_maps(replace(classifier, encoder=None), [pixels], IDS)
    with pytest.raises(ExplainError, match="no image"):
        saliency_maps(classifier, [], ())


def test_one_label_alone_is_never_label_invariant(
    make_encoder: Callable[..., Any], pixels: Tensor, classifier: Classifier
) -> None:
    vocabulary = replace(classifier.vocabulary, labels=classifier.vocabulary.labels[:1])
    single = replace(
        classifier, head=Head(classifier.head.weight[:1], torch.zeros(1), normalise=True), vocabulary=vocabulary
    )
    assert "label-invariant" not in saliency_maps(single, [pixels], IDS, layers=(-1,)).flags.values()


def test_file_round_trip_and_damage(classifier: Classifier, pixels: Tensor, tmp_path: Path) -> None:
    weight = classifier.head.weight.clone()
    weight[0] = 0
    maps = saliency_maps(with_weights(classifier, weight), [pixels], IDS, layers=(-1, "blocks.1.attn"))
    path = save_maps(tmp_path / "saliency", "zero-shot", maps)
    loaded = load_maps(tmp_path / "saliency", "zero-shot")
    np.testing.assert_array_equal(loaded.maps, maps.maps)
    assert maps.strengths is not None
    np.testing.assert_array_equal(loaded.strengths, maps.strengths)
    assert replace(loaded, maps=maps.maps, strengths=maps.strengths) == maps
    assert maps.flags and loaded.flags == maps.flags
    assert [p.name for p in path.parent.iterdir()] == ["zero-shot.safetensors"]
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(StoreError, match=r"zero-shot.safetensors does not hold saliency maps"):
        load_maps(tmp_path / "saliency", "zero-shot")
    with pytest.raises(StoreError, match="does not hold"):
        load_maps(tmp_path, "absent")


def test_a_method_without_depth_is_named_and_stands_once(classifier: Classifier, pixels: Tensor) -> None:
    maps = saliency_maps(classifier, [pixels], IDS, methods=("input-gradient", "grad-cam"), layers=(-1, -3))
    assert maps.has_depth == (False, True)
    assert maps.distinct() == ((0, 0, "-"), (1, 0, "-1"), (1, 1, "-3"))
    np.testing.assert_array_equal(maps.maps[:, :, 0, 0], maps.maps[:, :, 0, 1])
    assert not np.array_equal(maps.maps[:, :, 1, 0], maps.maps[:, :, 1, 1])


def test_a_file_without_strengths_and_depth_is_read(classifier: Classifier, pixels: Tensor, tmp_path: Path) -> None:
    maps = saliency_maps(classifier, [pixels], IDS, methods=("input-gradient",), layers=(-1, -3))
    path = save_maps(tmp_path, "zero-shot", maps)
    with safe_open(path, framework="numpy") as file:
        header = json.loads(file.metadata()["radlens"])
    assert header.pop("has_depth") == [False]
    save_file({"maps": maps.maps}, path, {"radlens": json.dumps(header)})
    old = load_maps(tmp_path, "zero-shot")
    assert old.strengths is None and old.has_depth == (True,)
    np.testing.assert_array_equal(old.maps, maps.maps)
    save_maps(tmp_path, "again", old)
    assert load_maps(tmp_path, "again").strengths is None


def test_strengths_and_depths_that_do_not_fit_are_refused() -> None:
    grids = np.zeros((1, 2, 1, 3, 4, 4), np.float16)
    names = ("a",), ("x", "y"), ("m",), ("-1", "-2", "-3")
    SaliencyMaps(*names, grids, strengths=np.zeros((1, 2, 1, 3), np.float32), has_depth=(False,))
    with pytest.raises(ValueError, match=r"strengths of shape \(1, 2\) do not fit"):
        SaliencyMaps(*names, grids, strengths=np.zeros((1, 2), np.float32))
    with pytest.raises(ValueError, match="2 values of has_depth for 1 methods"):
        SaliencyMaps(*names, grids, has_depth=(False, True))
