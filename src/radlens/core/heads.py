"""From an embedding to one logit a label: the heads that settings end in, and their way to disk and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, normalize

_AFFINITIES = 1 << 23
"""Numbers of one part of a cache head's affinities: 32 MiB."""


class Head(nn.Module):
    """Embeddings (N, D) to logits (N, L). This one is linear: `scale * x @ weight.T + bias`.

    weight (L, D), bias (L,); x un-normalised or (`normalise`) of unit length. Zero-shot: normalise, weight = mean
    positive - mean negative unit text embedding, scale = the encoder's logit scale. Linear probe: un-normalised,
    scale 1. Other heads derive from it and name their `kind`; their tensors are buffers, so that a head is frozen.
    """

    kind: ClassVar[str] = "linear"
    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor, *, normalise: bool, scale: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        self.normalise = normalise
        self.scale = scale

    @property
    def labels(self) -> int:
        """L."""
        return len(self.bias)

    @property
    def dimension(self) -> int:
        """D, the length of the embeddings it reads."""
        return self.weight.shape[-1]

    def options(self) -> dict[str, Any]:
        """What its constructor needs beside its tensors, as JSON holds it."""
        return {"normalise": self.normalise, "scale": self.scale}

    def forward(self, embeddings: Tensor) -> Tensor:
        """(N, D) -> (N, L)."""
        if self.normalise:
            embeddings = normalize(embeddings, dim=-1)
        return self.scale * (embeddings @ self.weight.T) + self.bias


class PerceptronHead(Head):
    """One hidden layer: `weight @ gelu(hidden_weight @ x + hidden_bias) + bias`, x un-normalised.

    hidden_weight (H, D), hidden_bias (H,), weight (L, H), bias (L,).
    """

    kind = "perceptron"
    hidden_weight: Tensor
    hidden_bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor, hidden_weight: Tensor, hidden_bias: Tensor) -> None:
        super().__init__(weight, bias, normalise=False)
        self.register_buffer("hidden_weight", hidden_weight)
        self.register_buffer("hidden_bias", hidden_bias)

    @property
    def dimension(self) -> int:
        return self.hidden_weight.shape[-1]

    def options(self) -> dict[str, Any]:
        return {}

    def forward(self, embeddings: Tensor) -> Tensor:
        return gelu(embeddings @ self.hidden_weight.T + self.hidden_bias) @ self.weight.T + self.bias


class ResidualHead(Head):
    """A bottleneck beside the embedding, then a linear head (CLIP-Adapter; Gao et al., IJCV 2024).

    x' = ratio * relu(up @ relu(down @ x)) + (1 - ratio) * x with x of unit length; then as `Head` with `normalise`.
    down (H, D), up (D, H), weight (L, D), bias (L,). The paper's x is un-normalised; of unit length, the same ratio
    means the same for every encoder.
    """

    kind = "residual"
    down: Tensor
    up: Tensor

    def __init__(
        self, weight: Tensor, bias: Tensor, down: Tensor, up: Tensor, *, ratio: float, scale: float = 1.0
    ) -> None:
        super().__init__(weight, bias, normalise=True, scale=scale)
        self.register_buffer("down", down)
        self.register_buffer("up", up)
        self.ratio = ratio

    def options(self) -> dict[str, Any]:
        return {"ratio": self.ratio, "scale": self.scale}

    def forward(self, embeddings: Tensor) -> Tensor:
        unit = normalize(embeddings, dim=-1)
        changed = torch.relu(torch.relu(unit @ self.down.T) @ self.up.T)
        return super().forward(self.ratio * changed + (1 - self.ratio) * unit)


class CacheHead(Head):
    """A linear head plus what similar training images say (Tip-Adapter; Zhang et al., ECCV 2022).

    logits = `Head` + alpha * exp(-beta (1 - x @ keys.T)) @ values, x of unit length. keys (M, D) of unit length, values
    (M, L): what each cached image says of each label, 0 where it was not assessed. weight (L, D), bias (L,).
    """

    kind = "cache"
    keys: Tensor
    values: Tensor

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor,
        keys: Tensor,
        values: Tensor,
        *,
        alpha: float,
        beta: float,
        scale: float = 1.0,
    ) -> None:
        super().__init__(weight, bias, normalise=True, scale=scale)
        self.register_buffer("keys", keys)
        self.register_buffer("values", values)
        self.alpha, self.beta = alpha, beta

    def options(self) -> dict[str, Any]:
        return {"alpha": self.alpha, "beta": self.beta, "scale": self.scale}

    def affinities(self, embeddings: Tensor) -> Tensor:
        """(N, D) -> (N, M): exp(-beta (1 - cosine)) to every key, 1 for the same direction."""
        return torch.exp(-self.beta * (1 - normalize(embeddings, dim=-1) @ self.keys.T))

    def forward(self, embeddings: Tensor) -> Tensor:
        # in parts, so that memory does not grow with images x keys
        parts = torch.split(embeddings, max(1, _AFFINITIES // max(1, len(self.keys))))
        said = torch.cat([self.affinities(part) @ self.values for part in parts])
        return super().forward(embeddings) + self.alpha * said


_KINDS: dict[str, type[Head]] = {head.kind: head for head in (Head, PerceptronHead, ResidualHead, CacheHead)}


def make_head(kind: str, tensors: Mapping[str, Tensor], options: Mapping[str, Any]) -> Head:
    """The head that `kind`, `state_dict()` and `options()` describe. Raises `ValueError` where they do not fit."""
    if kind not in _KINDS:
        raise ValueError(f"unknown kind of head {kind!r}; known: {', '.join(sorted(_KINDS))}")
    parts: dict[str, Any] = {**tensors, **options}
    head = _KINDS[kind](**parts)
    shapes = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in head.state_dict().items())
    if head.weight.ndim != 2 or not all(t.ndim for t in head.state_dict().values()) or not head.dimension:
        raise ValueError(f"{shapes} are not of one head")
    try:
        logits = head(torch.zeros(1, head.dimension))
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"{shapes} with {dict(options)} are not of one {kind} head") from error
    if logits.shape != (1, head.labels) or len(head.weight) != head.labels:
        raise ValueError(f"{shapes} are not of one head")
    return head
