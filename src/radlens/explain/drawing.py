"""All maps of a batch: every method, label and site from one forward and one backward a label."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from radlens.core.classifier import Classifier
from radlens.core.errors import ExplainError
from radlens.core.parts import Needs, Quantity, SaliencyMethod, needs_of
from radlens.core.registry import get
from radlens.explain.class_token import pools_class_token
from radlens.explain.passes import BACKWARD, OF_A_BLOCK, Gradients, Passes, Precision, SharedPasses
from radlens.explain.quantities import BatchQuantities, LabelQuantities
from radlens.explain.recording import frozen
from radlens.explain.sites import Site

# of the sum of products that a map is made of; sums that cancel leave 1e-5 of it in float32, maps 1e-3 and more
_ROUNDING = 1e-4
_OF_A_LABEL: frozenset[Quantity] = BACKWARD | {"patch_logits", "readout_attention_gradients"}


@dataclass(frozen=True)
class Method:
    """A saliency method and what it needs."""

    name: str
    draw: SaliencyMethod
    needs: Needs

    @property
    def of_a_label(self) -> bool:
        """Whether its maps can differ between labels when it is called once a label."""
        return bool(_OF_A_LABEL.intersection(self.needs.quantities))

    @property
    def has_depth(self) -> bool:
        """Whether its maps differ between layers."""
        return self.needs.over in ("site", "blocks")


def methods_named(names: Sequence[str]) -> tuple[Method, ...]:
    """The registered methods; an unknown name raises `SpecError`."""
    found = [(name, get("saliency", name)) for name in names]
    return tuple(Method(name, function, needs_of(function)) for name, function in found)


class Drawing:
    """Maps of one classifier by fixed methods at fixed sites.

    Raises `ExplainError` for a site, or a method, that this classifier's tower cannot serve.
    """

    def __init__(
        self,
        classifier: Classifier,
        sites: Sequence[Site],
        methods: Sequence[Method],
        *,
        precision: Precision = "float32",
    ) -> None:
        self.methods = tuple(methods)
        following = [method.name for method in methods if OF_A_BLOCK.intersection(method.needs.quantities)]
        encoder = classifier.encoder
        if following and encoder is not None and not pools_class_token(encoder):
            raise ExplainError(
                f"{', '.join(following)} cannot be drawn for {encoder.name}: its embedding is not read from a class "
                "token, where these methods start; use methods such as grad-cam, hires-cam or input-gradient."
            )
        needed = frozenset(quantity for method in methods for quantity in method.needs.quantities)
        self.passes = SharedPasses(classifier, sites, quantities=needed, precision=precision)
        self.reached = torch.zeros(len(sites), dtype=torch.bool)
        """Sites where any label's gradient was not zero so far."""

    @property
    def differentiates(self) -> bool:
        """Whether any method takes a backward, so that `reached` says something."""
        return bool(self.passes.quantities & BACKWARD)

    def __call__(self, pixels: Tensor) -> npt.NDArray[np.float32]:
        """(B, 3, H, W) -> (B, L, methods, layers, P).

        P counts the encoder's grid; a map drawn on the finer grid of an earlier convolutional stage is averaged to it.
        """
        with frozen(self.passes.encoder):
            return self._all(pixels)

    def _all(self, pixels: Tensor) -> npt.NDArray[np.float32]:
        found = self.passes(pixels)
        batch, labels = found.logits.shape
        rows, columns = self.passes.encoder.grid
        maps = np.zeros((batch, labels, len(self.methods), len(self.passes.sites), rows * columns), np.float32)
        quantities = BatchQuantities(self.passes, found, pixels)
        later: list[tuple[int, Method]] = []
        for at, method in enumerate(self.methods):
            if method.needs.over == "classifier":
                drawn = method.draw(**quantities.arguments(method.needs))
                maps[:, :, at] = drawn.detach().cpu().numpy()[:, :, None]
            elif method.of_a_label:
                later.append((at, method))
            else:
                maps[:, :, at] = self._draw(method, quantities, None, found.grids)[:, None]
        for label, gradients in self._labels(found, bool(later)):
            self.reached |= torch.tensor([bool(gradient.any()) for gradient in gradients.sites] or [False])
            own = LabelQuantities(label, gradients)
            for at, method in later:
                maps[:, label, at] = self._draw(method, quantities, own, found.grids)
        return maps

    def _labels(self, found: Passes, wanted: bool) -> Iterator[tuple[int, Gradients]]:
        if self.differentiates:
            yield from found.backward()
        elif wanted:
            for label in range(found.logits.shape[1]):
                yield label, Gradients((), {}, None)

    def _draw(
        self,
        method: Method,
        quantities: BatchQuantities,
        label: LabelQuantities | None,
        grids: Sequence[tuple[int, int]],
    ) -> npt.NDArray[np.float32]:
        """(B, layers, P)."""
        sites, own = self.passes.sites, self.passes.encoder.grid
        if method.needs.over == "site":
            each = []
            for at, grid in enumerate(grids):
                given = quantities.arguments(method.needs, site=at, label=label)
                each.append(_on_grid(method.draw(**given), grid, own, given))
            drawn = torch.stack(each, dim=1)
        elif method.needs.over == "blocks":
            blocks = method.draw(**quantities.arguments(method.needs, label=label))
            drawn = blocks[[site.block - self.passes.blocks.start for site in sites]].transpose(0, 1)
        else:
            one = method.draw(**quantities.arguments(method.needs, label=label))
            drawn = one[:, None].expand(-1, len(sites), -1)
        return drawn.detach().cpu().numpy()


def _on_grid(maps: Tensor, grid: tuple[int, int], own: tuple[int, int], given: Mapping[str, Any]) -> Tensor:
    """Maps (B, P) of a site's grid as (B, P') of the encoder's: each cell the mean over its area.

    A map of an earlier convolutional stage that is nothing but rounding error becomes zero (and is flagged constant).
    So it is with HiResCAM where a norm over each place's channels follows, as in ConvNeXt: the place's scale is nothing
    to the norm, and by Euler's theorem the products of activation and gradient cancel.
    """
    if grid == own:
        return maps
    if {"activations", "gradients"} <= given.keys():
        terms = (given["activations"] * given["gradients"]).abs().sum(dim=-1).amax(dim=1, keepdim=True)
        maps = maps.where(maps.amax(dim=1, keepdim=True) > _ROUNDING * terms, 0.0)
    return adaptive_avg_pool2d(maps.reshape(len(maps), *grid), own).flatten(1)
