"""Exponential moving average of the weights (Polyak and Juditsky, 1992; as used by Tarvainen and Valpola, 2017)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor


class AveragedWeights:
    """average <- decay x average + (1 - decay) x weights, after every step; it begins at the weights themselves."""

    def __init__(self, tensors: Mapping[str, Tensor], decay: float) -> None:
        self.decay = decay
        self.tensors = {name: tensor.detach().clone() for name, tensor in tensors.items()}

    @torch.no_grad()
    def update(self, tensors: Mapping[str, Tensor]) -> None:
        """Take one step's weights in."""
        for name, average in self.tensors.items():
            average.lerp_(tensors[name].detach(), 1 - self.decay)

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Begin at what was saved."""
        self.tensors = {name: tensor.clone() for name, tensor in tensors.items()}

    def to(self, device: torch.device) -> None:
        """Where the weights are."""
        self.tensors = {name: tensor.to(device) for name, tensor in self.tensors.items()}

    @contextlib.contextmanager
    def in_place_of(self, tensors: Mapping[str, Tensor]) -> Iterator[None]:
        """The block computes with the average; the weights come back after it."""
        own = {name: tensor.detach().clone() for name, tensor in tensors.items()}
        with torch.no_grad():
            for name, tensor in tensors.items():
                tensor.copy_(self.tensors[name])
        try:
            yield
        finally:
            with torch.no_grad():
                for name, tensor in tensors.items():
                    tensor.copy_(own[name])
