"""The last block for the class token alone: all that a class-token-pooled ViT reads of it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from radlens.core.classifier import Encoder
from radlens.explain.sites import random_direction, random_tokens

_TOLERANCE = 1e-5


def class_token_block(block: nn.Module, tokens: Tensor) -> Tensor:
    """(B, prefix + patches, C) -> (B, 1, C): output of a timm `Block` at the class token.

    Keys and values come from all tokens, the query from the first only; nothing is approximated.
    """
    attention: nn.Module = block.attn  # type: ignore[assignment]
    projection: nn.Linear = attention.qkv  # type: ignore[assignment]
    heads: int = attention.num_heads  # type: ignore[assignment]
    normed = block.norm1(tokens)  # type: ignore[operator]
    inner = projection.out_features // 3
    bias = projection.bias
    query = functional.linear(normed[:, :1], projection.weight[:inner], None if bias is None else bias[:inner])
    rest = functional.linear(normed, projection.weight[inner:], None if bias is None else bias[inner:])
    key, value = rest.chunk(2, dim=-1)
    query, key, value = (part.view(*part.shape[:2], heads, -1).transpose(1, 2) for part in (query, key, value))
    query, key = attention.q_norm(query), attention.k_norm(key)  # type: ignore[operator]
    mixed = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
    # releases of timm before 1.0.16 have no norm here
    mixed = getattr(attention, "norm", nn.Identity())(mixed)
    token = tokens[:, :1] + block.ls1(attention.proj(mixed))  # type: ignore[operator]
    return token + block.ls2(block.mlp(block.norm2(token)))  # type: ignore[operator, no-any-return]


def class_token_suffices(encoder: Encoder) -> bool:
    """Whether `class_token_block` and pooling of its output give the encoder's own embedding, to 1e-5 of its size.

    Measured on a seeded random image: other blocks, adapters on top of their weights, or another pooling say no.
    """
    block = encoder.blocks[-1]
    needed = ("norm1", "attn.qkv", "attn.q_norm", "attn.k_norm", "attn.proj", "ls1", "norm2", "mlp", "ls2")
    known = {name for name, _ in block.named_modules()}
    if encoder.prefix_tokens < 1 or not known.issuperset(needed) or not hasattr(block.attn, "num_heads"):
        return False
    tokens = random_tokens(encoder)
    with torch.no_grad():
        whole = block(tokens)
        token = class_token_block(block, tokens)
        alike = _alike(token, whole[:, :1]) and _alike(encoder.pool(token), encoder.pool(whole))
    if not alike:
        return False
    with torch.enable_grad():
        whole = whole.detach().requires_grad_(True)
        embedding = encoder.pool(whole)
        (gradient,) = torch.autograd.grad((embedding * random_direction(embedding)).sum(), whole)
    return not bool(gradient[:, 1:].any())


def _alike(found: Tensor, expected: Tensor) -> bool:
    return bool((found - expected).abs().max() <= _TOLERANCE * expected.abs().max())
