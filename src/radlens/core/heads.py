"""From an embedding to one logit a label: the heads that settings end in, and their way to disk and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, normalize


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

    def options(self) -> dict[str, Any]:
        return {}

    def forward(self, embeddings: Tensor) -> Tensor:
        return gelu(embeddings @ self.hidden_weight.T + self.hidden_bias) @ self.weight.T + self.bias


class ResidualHead(Head):
    """A bottleneck beside the embedding, then a linear head (CLIP-Adapter; Gao et al., IJCV 2024, equations 4 and 5).

    x' = ratio * relu(up @ relu(down @ x)) + (1 - ratio) * x with x of unit length; then as `Head` with `normalise`.
    down (H, D), up (D, H), weight (L, D), bias (L,).
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
    """A linear head plus what similar training images say (Tip-Adapter; Zhang et al., ECCV 2022, equation 6).

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

    def forward(self, embeddings: Tensor) -> Tensor:
        near = torch.exp(-self.beta * (1 - normalize(embeddings, dim=-1) @ self.keys.T))
        return super().forward(embeddings) + self.alpha * (near @ self.values)


_KINDS: dict[str, type[Head]] = {head.kind: head for head in (Head, PerceptronHead, ResidualHead, CacheHead)}


def make_head(kind: str, tensors: Mapping[str, Tensor], options: Mapping[str, Any]) -> Head:
    """The head that `kind`, `state_dict()` and `options()` describe. Raises `ValueError` where they do not fit."""
    if kind not in _KINDS:
        raise ValueError(f"unknown kind of head {kind!r}; known: {', '.join(sorted(_KINDS))}")
    parts: dict[str, Any] = {**tensors, **options}
    head = _KINDS[kind](**parts)
    width = head.weight.shape[-1]
    if head.weight.ndim != 2 or head.bias.shape != (len(head.weight),) or not width:
        raise ValueError(f"weight {tuple(head.weight.shape)} and bias {tuple(head.bias.shape)} are not of one head")
    return head
