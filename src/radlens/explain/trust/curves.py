"""Logits as patches are removed or put back: one forward for every distinct perturbed image, whatever asks for it."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from radlens.core.classifier import Classifier
from radlens.core.errors import ExplainError
from radlens.explain.passes import Precision
from radlens.explain.recording import autocast, frozen
from radlens.explain.trust.perturbation import (
    Order,
    Patches,
    first_patches,
    gaussian_blur,
    on_pixels,
    patch_counts,
    replaced,
)
from radlens.explain.trust.road import noisy_linear_imputation

Curves = npt.NDArray[np.float64]
DELETION, INSERTION, ROAD = "deletion", "insertion", "road"
CHECKS = (DELETION, INSERTION, ROAD)
_Key = tuple[bool, bytes]
"""A perturbed image: whether its patches are imputed (else blurred), and which."""


def points_of(check: str, steps: int) -> int:
    """Points of a curve: the untouched image (insertion: the blurred one) and every step.

    ROAD has no last step: with nothing left of the image there is nothing to impute from.
    """
    return steps if check == ROAD else steps + 1


def area(curves: Curves, shares: npt.NDArray[np.float64]) -> Curves:
    """Mean height of curves (..., points) over their shares (points,) by the trapezoidal rule: (...)."""
    between = (curves[..., 1:] + curves[..., :-1]) / 2
    heights: Curves = (between * np.diff(shares)).sum(axis=-1) / (shares[-1] - shares[0])
    return heights


class PerturbedLogits:
    """A classifier's logits of perturbed images, for all its labels.

    sigma: standard deviation of the blur, in pixels of the model's input; None: the side of a patch. Raises
    `ExplainError` for a classifier without encoder, `ValueError` for steps that do not fit the grid.
    """

    def __init__(
        self,
        classifier: Classifier,
        *,
        steps: int,
        sigma: float | None = None,
        batch_size: int = 32,
        precision: Precision = "float32",
    ) -> None:
        if classifier.encoder is None:
            raise ExplainError(f"setting {classifier.setting!r} has no encoder attached; load its model to explain it.")
        self.encoder = classifier.encoder
        # a copy: the classifier's own head may be moved between devices by others
        self.head = copy.deepcopy(classifier.head).to(self.encoder.device).requires_grad_(False)
        self.steps, self.batch_size, self.precision = steps, batch_size, precision
        rows, columns = self.encoder.grid
        self.counts = patch_counts(rows * columns, steps)
        self.sigma = self.encoder.transform.size / max(rows, columns) if sigma is None else sigma
        self.forwards = 0
        """Images sent through the encoder so far."""

    def shares(self, check: str) -> npt.NDArray[np.float64]:
        """Share of the patches removed (insertion: put back) at every point of a curve."""
        shares: npt.NDArray[np.float64] = self.counts[: points_of(check, self.steps)] / self.counts[-1]
        return shares

    def __call__(
        self, image: Tensor, noise: Tensor, orders: Mapping[str, Sequence[Order]]
    ) -> dict[str, npt.NDArray[np.float64]]:
        """Curves of one image (3, H, W): check -> (orders, points, L) for the orders (P,) asked of that check.

        noise: (3, H, W), what ROAD adds. `deletion`: patches are blurred in order; `insertion`: the sharp ones are put
        back in order on the blurred image; `road`: patches are imputed in order.
        """
        wanted: dict[_Key, Patches] = {}
        places: dict[str, list[list[_Key]]] = {}
        for check, asked in orders.items():
            places[check] = [self._keys(check, order, wanted) for order in asked]
        image, noise = image.to(self.encoder.device), noise.to(self.encoder.device)
        found: dict[_Key, npt.NDArray[np.float64]] = {}
        for imputed in (False, True):
            keys = [key for key in wanted if key[0] == imputed]
            masks = [wanted[key] for key in keys]
            found |= zip(keys, self._logits(image, noise, masks, imputed), strict=True)
        return {check: np.array([[found[key] for key in row] for row in rows]) for check, rows in places.items()}

    def _keys(self, check: str, order: Order, wanted: dict[_Key, Patches]) -> list[_Key]:
        """What stands at every point of an order's curve; what is new is added to `wanted`."""
        keys = []
        for mask in self._removed(check, order):
            # the untouched image is the same one however it would be filled
            keys.append((check == ROAD and bool(mask.any()), mask.tobytes()))
            wanted.setdefault(keys[-1], mask)
        return keys

    def _removed(self, check: str, order: Order) -> Patches:
        """(points, P): what is gone at every point."""
        chosen = first_patches(order, self.counts[: points_of(check, self.steps)])
        return ~chosen if check == INSERTION else chosen

    def _logits(
        self, image: Tensor, noise: Tensor, masks: Sequence[Patches], imputed: bool
    ) -> list[npt.NDArray[np.float64]]:
        found: list[npt.NDArray[np.float64]] = []
        with torch.no_grad(), frozen(self.encoder):
            for images in self._perturbed(image, noise, masks, imputed):
                with autocast(self.encoder.device, self.precision):
                    embeddings = self.encoder.encode_images(images)
                found.extend(self.head(embeddings.float()).double().cpu().numpy())
        self.forwards += len(found)
        return found

    def _perturbed(self, image: Tensor, noise: Tensor, masks: Sequence[Patches], imputed: bool) -> Iterator[Tensor]:
        height, width = image.shape[-2:]
        blurred = gaussian_blur(image, self.sigma) if masks and not imputed else image
        for start in range(0, len(masks), self.batch_size):
            some = torch.from_numpy(np.stack(masks[start : start + self.batch_size])).to(image.device)
            removed = on_pixels(some, self.encoder.grid, height, width)
            if imputed:
                yield noisy_linear_imputation(image, removed, noise)
            else:
                yield replaced(image, blurred, removed)
