"""Looking into, and stepping into, the attention of transformer blocks, whoever wrote them.

Every fused attention of PyTorch ends in one of two functions. While `StepIn` is entered, calls of them in this thread
pass through it: blocks keep their own code, and nothing needs to be put back after an error.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from radlens.core.errors import ExplainError

Mix = Callable[[Tensor, Tensor, Tensor, float], Tensor]
"""(queries, keys, values, scale) -> what is mixed of the values, (B, H, Q, d)."""


@dataclass(frozen=True)
class Attention:
    """What the attention of one block left behind, for H heads of width d.

    queries (B, H, Q, d), keys and values (B, H, N, d), detached. mixed (B, H, Q, d): attention x values, in the graph.
    """

    queries: Tensor
    keys: Tensor
    values: Tensor
    mixed: Tensor
    scale: float

    def weights(self) -> Tensor:
        """(B, H, Q, N): softmax of the scaled products of queries and keys; float32."""
        with _in_full(self.keys):
            products = self.queries.float() @ self.keys.float().transpose(-1, -2)
            return torch.softmax(products * self.scale, dim=-1)

    def weight_gradients(self, mixed_gradients: Tensor) -> Tensor:
        """(..., B, H, Q, d) gradients at `mixed` -> gradients at the weights (..., B, H, Q, N), float32.

        The mixture is weights x values, so its gradient by a weight is the product with that token's value: the fused
        function need not be taken apart for it.
        """
        with _in_full(self.values):
            return mixed_gradients.float() @ self.values.float().transpose(-1, -2)


class StepIn(TorchFunctionMode):
    """Attention computed by `mix` inside; counts its calls. Masked attention raises `ExplainError`."""

    def __init__(self, mix: Mix) -> None:
        super().__init__()
        self.mix = mix
        self.calls = 0

    def __torch_function__(
        self, func: Any, types: Sequence[Any], args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        if func is functional.scaled_dot_product_attention:
            return self._fused(*args, **named)
        if func is functional.multi_head_attention_forward:
            return self._multi_head(*args, **named), None
        return func(*args, **named)

    def _fused(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        _refuse(attn_mask is not None or is_causal or enable_gqa or dropout_p > 0)
        self.calls += 1
        return self.mix(query, key, value, query.shape[-1] ** -0.5 if scale is None else scale)

    def _multi_head(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        embed_dim_to_check: int,
        num_heads: int,
        in_proj_weight: Tensor | None,
        in_proj_bias: Tensor | None,
        bias_k: Tensor | None,
        bias_v: Tensor | None,
        add_zero_attn: bool,
        dropout_p: float,
        out_proj_weight: Tensor,
        out_proj_bias: Tensor | None,
        training: bool = True,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        use_separate_proj_weight: bool = False,
        **rest: Any,
    ) -> Tensor:
        """What `torch.nn.MultiheadAttention` does, tokens first: (N, B, C) -> (N, B, C)."""
        masked = attn_mask is not None or key_padding_mask is not None or rest.get("is_causal", False)
        unusual = use_separate_proj_weight or add_zero_attn or bias_k is not None or bias_v is not None
        if in_proj_weight is None or key is not query or value is not query:
            unusual = True
        _refuse(masked or unusual or (training and dropout_p > 0))
        assert in_proj_weight is not None
        length, batch, width = query.shape
        parts = functional.linear(query, in_proj_weight, in_proj_bias)
        split = parts.reshape(length, batch, 3, num_heads, width // num_heads).permute(2, 1, 3, 0, 4)
        queries, keys, values = split.unbind(0)
        self.calls += 1
        mixed = self.mix(queries, keys, values, (width // num_heads) ** -0.5)
        merged = mixed.permute(2, 0, 1, 3).reshape(mixed.shape[2], mixed.shape[0], width)
        return functional.linear(merged, out_proj_weight, out_proj_bias)


def fused(queries: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
    """Attention as it is: (B, H, Q, d)."""
    return functional.scaled_dot_product_attention(queries, keys, values, scale=scale)


@contextlib.contextmanager
def stepping_into(block: nn.Module, name: str, mix: Mix) -> Iterator[None]:
    """Inside, the block's attention is `mix`. A block that does not come by exactly once raises `ExplainError`."""
    own = [part for part in block.modules() if getattr(part, "fused_attn", None) is False]
    step = StepIn(mix)
    try:
        for part in own:
            # timm may be told to write attention out; the fused function gives the same and can be stepped into
            part.fused_attn = True  # type: ignore[assignment]
        with step:
            yield
    finally:
        for part in own:
            part.fused_attn = False  # type: ignore[assignment]
    if step.calls != 1:
        raise ExplainError(
            f"{name} runs PyTorch's fused attention {step.calls} times, expected once, so that its attention cannot "
            "be read; use methods that need none, such as grad-cam or input-gradient."
        )


def recorder(found: list[Attention]) -> Mix:
    """A `Mix` that is attention as it is and appends what it saw to `found`.

    A mixture that asks for no gradient becomes a leaf that does, so that every block has one to differentiate by.
    """

    def mix(queries: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
        mixed = fused(queries, keys, values, scale)
        if torch.is_grad_enabled() and not mixed.requires_grad:
            mixed = mixed.detach().requires_grad_(True)
        found.append(Attention(queries.detach(), keys.detach(), values.detach(), mixed, scale))
        return mixed

    return mix


def _in_full(tensor: Tensor) -> torch.autocast:
    """float32, also where the pass itself runs in bfloat16."""
    return torch.autocast(tensor.device.type, enabled=False)


def _refuse(unusual: bool) -> None:
    if unusual:
        raise ExplainError(
            "this tower's attention is masked or projected in an unusual way, so that it cannot be read; use methods "
            "that need no attention, such as grad-cam or input-gradient."
        )
