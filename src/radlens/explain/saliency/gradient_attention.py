"""Gradient x attention."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from radlens.core.parts import needs
from radlens.core.registry import register


@register("saliency", "gradient-attention")
@needs("attention", "attention_gradients", "prefix", over="blocks")
def gradient_attention(attention: Sequence[Tensor], attention_gradients: Sequence[Tensor], prefix: int) -> Tensor:
    """Relevance of patches to the class token through attention weighted by its positive gradients (Chefer).

    In each block A = mean over heads of relu(gradient x attention), and relevance R <- R + A R from R = 1; the maps of
    a layer are the class token's row of R over the blocks from that layer to the last.
    attention, attention_gradients: a block, (B, H, Q, N). Returns (blocks, B, P), non-negative.
    Source: Chefer, Gur and Wolf, Generic attention-model explainability, ICCV 2021, equations 5 and 6.
    """
    row = attention[0].new_zeros(attention[0].shape[0], attention[0].shape[-1])
    row[:, 0] = 1
    maps = []
    # from the last block down, one row of the product is all that is ever needed
    for weights, gradients in zip(reversed(attention), reversed(attention_gradients), strict=True):
        relevance = (weights * gradients).relu_().mean(dim=1)
        row = row + torch.einsum("bq,bqn->bn", row[:, : relevance.shape[1]], relevance)
        maps.append(row[:, prefix:])
    return torch.stack(maps[::-1])
