"""Curves of logits under removal, against a loop of one image at a time with scipy's blur and a plain solver."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_grad_cam.metrics.road import NoisyLinearImputer, neighbors_weights
from scipy.ndimage import gaussian_filter
from scipy.sparse import csc_matrix
from scipy.sparse.linalg import spsolve
from torch import Tensor

from radlens.core.classifier import Classifier
from radlens.core.errors import ExplainError
from radlens.explain.trust.curves import CHECKS, PerturbedLogits, area

STEPS = 5


def perturbed_slowly(image: np.ndarray, noise: np.ndarray, gone: set[int], columns: int, side: int, check: str) -> Any:
    """One image (3, H, W) with the patches `gone` filled."""
    out = image.copy()
    if check == "road":
        present = np.ones(image.shape[1:])
        for patch in gone:
            y, x = patch // columns * side, patch % columns * side
            present[y : y + side, x : x + side] = 0
        if not gone:
            return out
        matrix, right = NoisyLinearImputer.setup_sparse_system(present, image, neighbors_weights)
        hole = present == 0
        out[:, hole] = spsolve(csc_matrix(matrix), right).T + noise[:, hole]
        return out
    blurred = np.stack([gaussian_filter(plane, float(side), mode="nearest", truncate=3.0) for plane in image])
    for patch in gone:
        y, x = patch // columns * side, patch % columns * side
        out[:, y : y + side, x : x + side] = blurred[:, y : y + side, x : x + side]
    return out


@pytest.mark.parametrize("check", CHECKS)
def test_curves_are_those_of_a_loop_image_by_image(classifier: Classifier, pixels: Tensor, check: str) -> None:
    random = np.random.default_rng(0)
    orders = [random.permutation(16) for _ in range(2)]
    noise = 0.01 * torch.randn(3, 64, 64, generator=torch.Generator().manual_seed(2))
    logits = PerturbedLogits(classifier, steps=STEPS, batch_size=3)
    found = logits(pixels[0], noise, {check: orders})[check]
    counts = [0, 3, 6, 10, 13, 16][: STEPS if check == "road" else STEPS + 1]
    assert found.shape == (2, len(counts), 5)
    np.testing.assert_allclose(logits.shares(check), np.array(counts) / 16)
    for order, curve in zip(orders, found, strict=True):
        for count, point in zip(counts, curve, strict=True):
            gone = set(order[count:] if check == "insertion" else order[:count])
            slow = perturbed_slowly(pixels[0].double().numpy(), noise.double().numpy(), gone, 4, 16, check)
            with torch.no_grad():
                expected = classifier.logits(torch.from_numpy(slow[None]).float())[0].numpy()
            np.testing.assert_allclose(point, expected, atol=0.02 if check == "road" else 1e-3)


def test_each_different_image_is_sent_through_once(classifier: Classifier, pixels: Tensor) -> None:
    random = np.random.default_rng(0)
    first, second = random.permutation(16), random.permutation(16)
    noise = torch.zeros(3, 64, 64)

    def forwards(**orders: list[np.ndarray]) -> int:
        logits = PerturbedLogits(classifier, steps=4)
        logits(pixels[0], noise, orders)
        return logits.forwards

    assert forwards(deletion=[first]) == 2 + 3
    assert forwards(deletion=[first, first]) == 2 + 3
    assert forwards(deletion=[first, second]) == 2 + 2 * 3
    assert forwards(deletion=[first, second], insertion=[first, second], road=[first, second]) == 2 + 3 * 2 * 3
    # what is blurred on the way back is what is left sharp on the way there
    assert forwards(deletion=[first], insertion=[first[::-1]]) == 2 + 3


def test_insertion_begins_where_deletion_ends(classifier: Classifier, pixels: Tensor) -> None:
    order = np.random.default_rng(1).permutation(16)
    logits = PerturbedLogits(classifier, steps=4)
    found = logits(pixels[1], torch.zeros(3, 64, 64), {"deletion": [order], "insertion": [order], "road": [order]})
    np.testing.assert_array_equal(found["insertion"][0, 0], found["deletion"][0, -1])
    np.testing.assert_array_equal(found["insertion"][0, -1], found["deletion"][0, 0])
    np.testing.assert_array_equal(found["road"][0, 0], found["deletion"][0, 0])


def test_area_is_the_mean_height() -> None:
    shares = np.array([0.0, 0.25, 0.75])
    assert area(np.array([3.0, 3.0, 3.0]), shares) == pytest.approx(3.0)
    assert area(np.array([4.0, 0.0, 0.0]), shares) == pytest.approx(0.5 / 0.75)
    both = area(np.array([[0.0, 1.0, 1.0], [1.0, 1.0, 0.0]]), shares)
    np.testing.assert_allclose(both, [(0.125 + 0.5) / 0.75, (0.25 + 0.25) / 0.75])


def test_half_precision_is_near_and_weights_stay_as_they_are(
    make_encoder: Callable[..., Any], make_classifier: Callable[..., Classifier], pixels: Tensor
) -> None:
    encoder = make_encoder().train()
    classifier = make_classifier(encoder)
    order = np.random.default_rng(1).permutation(16)
    asked = {"deletion": [order]}
    full = PerturbedLogits(classifier, steps=4)(pixels[0], torch.zeros(3, 64, 64), asked)["deletion"]
    half = PerturbedLogits(classifier, steps=4, precision="bfloat16")(pixels[0], torch.zeros(3, 64, 64), asked)
    assert 0 < np.abs(half["deletion"] - full).max() < 0.1 * np.abs(full).max()
    assert encoder.training
    assert all(weight.requires_grad for weight in encoder.parameters())


def test_no_encoder_and_steps_that_do_not_fit(classifier: Classifier) -> None:
    with pytest.raises(ExplainError, match="no encoder attached"):
        PerturbedLogits(replace(classifier, encoder=None), steps=4)
    with pytest.raises(ValueError, match="2 to 16 steps for 16 patches, found 17"):
        PerturbedLogits(classifier, steps=17)
