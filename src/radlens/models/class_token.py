"""The last block of a class-token-pooled transformer, for the class token alone."""

from __future__ import annotations

from typing import cast

import torch
from timm.layers.attention import Attention
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention


def class_token_block(block: nn.Module, tokens: Tensor) -> Tensor:
    """(B, N, C) -> (B, 1, C), equal to `block(tokens)[:, :1]` in evaluation mode.

    The class token attends to all tokens, but no other token's query, projection or perceptron is needed: a sixth of
    the block's arithmetic. A block of another make than timm's plain one is run as it is.
    """
    if type(block) is not Block or type(block.attn) is not Attention or getattr(block.attn, "gate", None) is not None:
        return cast(Tensor, block(tokens)[:, :1])
    first = tokens[:, :1]
    first = first + block.ls1(_attend(block.attn, block.norm1(tokens)))
    return cast(Tensor, first + block.ls2(block.mlp(block.norm2(first))))


def _attend(attention: Attention, tokens: Tensor) -> Tensor:
    batch, length, _ = tokens.shape
    heads, size, width = attention.num_heads, attention.head_dim, attention.attn_dim
    weight, bias = attention.qkv.weight, attention.qkv.bias
    query = linear(tokens[:, :1], weight[:width], None if bias is None else bias[:width])
    both = linear(tokens, weight[width:], None if bias is None else bias[width:])
    query = query.reshape(batch, 1, heads, size).transpose(1, 2)
    key, value = both.reshape(batch, length, 2, heads, size).permute(2, 0, 3, 1, 4).unbind(0)
    query, key = attention.q_norm(query), attention.k_norm(key)
    mixed = scaled_dot_product_attention(query, key, value, scale=attention.scale)
    mixed = torch.flatten(mixed.transpose(1, 2), 2)
    return cast(Tensor, attention.proj(attention.norm(mixed)))
