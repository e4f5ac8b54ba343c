"""ROAD's imputation against a dense solver and against the authors' own code."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pytorch_grad_cam.metrics.road import NoisyLinearImputer, neighbors_weights
from scipy.sparse import csc_matrix
from scipy.sparse.linalg import spsolve
from torch import Tensor

from radlens.explain.trust.road import NOISE, noisy_linear_imputation


def dense(image: np.ndarray, removed: np.ndarray) -> np.ndarray:
    """(C, H, W) with `removed` (H, W) solved for, pixel by pixel."""
    height, width = removed.shape
    unknown = [tuple(at) for at in np.argwhere(removed)]
    matrix, right = np.zeros((len(unknown), len(unknown))), np.zeros((len(unknown), len(image)))
    for row, (y, x) in enumerate(unknown):
        for down in (-1, 0, 1):
            for across in (-1, 0, 1):
                beside = (y + down, x + across)
                if (down, across) == (0, 0) or not (0 <= beside[0] < height and 0 <= beside[1] < width):
                    continue
                weight = 1 / 6 if down == 0 or across == 0 else 1 / 12
                matrix[row, row] += weight
                if removed[beside]:
                    matrix[row, unknown.index(beside)] -= weight
                else:
                    right[row] += weight * image[:, beside[0], beside[1]]
    filled = image.copy()
    for at, values in zip(unknown, np.linalg.solve(matrix, right), strict=True):
        filled[:, at[0], at[1]] = values
    return filled


def image_of(height: int, width: int, *, grey: bool = False) -> Tensor:
    drawn = torch.randn(1 if grey else 3, height, width, generator=torch.Generator().manual_seed(4))
    return torch.cat([drawn, 1.1 * drawn - 0.3, 0.9 * drawn + 2]) if grey else drawn


@pytest.mark.parametrize(("height", "width"), [(20, 27), (16, 16), (9, 33)])
@pytest.mark.parametrize("grey", [False, True])
def test_removed_pixels_solve_the_linear_system(height: int, width: int, grey: bool) -> None:
    image = image_of(height, width, grey=grey)
    random = np.random.default_rng(0)
    masks = [random.random((height, width)) < share for share in (0.1, 0.5, 0.9)]
    hole = np.zeros((height, width), bool)
    hole[2:, : width - 3] = True
    masks.append(hole)
    found = noisy_linear_imputation(image, torch.from_numpy(np.stack(masks)), torch.zeros_like(image))
    for filled, mask in zip(found.numpy(), masks, strict=True):
        np.testing.assert_allclose(filled, dense(image.numpy().astype(np.float64), mask), atol=NOISE / 4)
        np.testing.assert_array_equal(filled[:, ~mask], image.numpy()[:, ~mask])


@pytest.mark.parametrize("patches", [1, 25, 44, 48])
def test_the_fill_is_that_of_the_authors(patches: int) -> None:
    image = image_of(112, 112) + torch.linspace(-2, 2, 112)
    place = np.random.default_rng(patches).permutation(49).reshape(7, 7)
    removed = np.kron(place < patches, np.ones((16, 16))) > 0
    # their own assembly of the system; what solves it is scipy's
    matrix, right = NoisyLinearImputer.setup_sparse_system((~removed).astype(float), image.numpy(), neighbors_weights)
    theirs = spsolve(csc_matrix(matrix), right)
    ours = noisy_linear_imputation(image, torch.from_numpy(removed)[None], torch.zeros_like(image))[0].numpy()
    assert np.abs(ours[:, removed].T - theirs).max() < NOISE / 2


def test_noise_lies_on_removed_pixels_alone_and_a_batch_changes_nothing() -> None:
    image = image_of(32, 32)
    removed = torch.rand(5, 32, 32, generator=torch.Generator().manual_seed(1)) < 0.4
    noise = torch.full_like(image, 0.25)
    plain = noisy_linear_imputation(image, removed, torch.zeros_like(image))
    noisy = noisy_linear_imputation(image, removed, noise)
    torch.testing.assert_close(noisy - plain, 0.25 * removed[:, None].expand(-1, 3, -1, -1).float())
    for alone, mask in zip(noisy, removed, strict=True):
        torch.testing.assert_close(noisy_linear_imputation(image, mask[None], noise)[0], alone, atol=1e-4, rtol=0)


def test_an_even_image_and_an_untouched_one_stay_as_they_are() -> None:
    even = torch.full((3, 16, 16), 0.7)
    removed = torch.rand(1, 16, 16, generator=torch.Generator().manual_seed(1)) < 0.4
    torch.testing.assert_close(noisy_linear_imputation(even, removed, torch.zeros(3, 16, 16))[0], even)
    image = image_of(16, 16)
    nothing = torch.zeros(1, 16, 16, dtype=torch.bool)
    torch.testing.assert_close(noisy_linear_imputation(image, nothing, torch.ones(3, 16, 16))[0], image)


def test_nothing_can_be_imputed_from_nothing() -> None:
    removed = torch.zeros(2, 16, 16, dtype=torch.bool)
    removed[1] = True
    with pytest.raises(ValueError, match="all pixels are removed"):
        noisy_linear_imputation(image_of(16, 16), removed, torch.zeros(3, 16, 16))
