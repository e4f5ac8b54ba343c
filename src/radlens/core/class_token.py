"""The last block of a class-token-pooled vision transformer, for the class token alone."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention


def is_plain_block(block: nn.Module) -> bool:
    """Whether a block is timm's own, unchanged: its queries can then be computed for one token alone.

    A block whose projection was wrapped (an adapter) or gated is not: its weights alone do not say what it does.
    """
    attention: Any = getattr(block, "attn", None)
    makes = [(type(part).__module__.partition(".")[0], type(part).__name__) for part in (block, attention)]
    return (
        makes == [("timm", "Block"), ("timm", "Attention")]
        and type(attention.qkv) is nn.Linear
        and getattr(attention, "gate", None) is None
    )


def class_token_block(block: nn.Module, tokens: Tensor) -> Tensor:
    """(B, N, C) -> (B, 1, C), equal to `block(tokens)[:, :1]` in evaluation mode; for a block that `is_plain_block`.

    The class token attends to all tokens, but no other token's query, projection or perceptron is needed: a sixth of
    the block's arithmetic, and nothing is approximated.
    """
    parts = cast(Any, block)
    first = tokens[:, :1]
    first = first + parts.ls1(_attend(parts.attn, parts.norm1(tokens)))
    return cast(Tensor, first + parts.ls2(parts.mlp(parts.norm2(first))))


def _attend(attention: Any, tokens: Tensor) -> Tensor:
    batch, length, _ = tokens.shape
    heads = attention.num_heads
    weight, bias = attention.qkv.weight, attention.qkv.bias
    width = weight.shape[0] // 3
    query = linear(tokens[:, :1], weight[:width], None if bias is None else bias[:width])
    both = linear(tokens, weight[width:], None if bias is None else bias[width:])
    query = query.reshape(batch, 1, heads, -1).transpose(1, 2)
    key, value = both.reshape(batch, length, 2, heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
    query, key = attention.q_norm(query), attention.k_norm(key)
    mixed = scaled_dot_product_attention(query, key, value, scale=attention.scale)
    mixed = torch.flatten(mixed.transpose(1, 2), 2)
    # releases of timm before 1.0.16 have no norm here
    return cast(Tensor, attention.proj(getattr(attention, "norm", nn.Identity())(mixed)))
