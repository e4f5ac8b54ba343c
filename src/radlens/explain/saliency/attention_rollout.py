"""Attention rollout."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from radlens.core.parts import needs
from radlens.core.registry import register


@register("saliency", "attention-rollout")
@needs("attention", "prefix", over="blocks")
def attention_rollout(attention: Sequence[Tensor], prefix: int) -> Tensor:
    """What the class token attends to through all blocks from a layer on; the same for every label (a control).

    Each block passes on half of its own token and half of its attention, averaged over heads; the maps of a layer are
    the class token's row of the product of all blocks from that layer to the last.
    attention: a block, (B, H, Q, N). Returns (blocks, B, P), non-negative; a row with the prefix sums to 1.
    Source: Abnar and Zuidema, ACL 2020, section 3 (A = 0.5 W + 0.5 I).
    """
    row = _class_token(attention[0])
    maps = []
    for weights in reversed(attention):
        mean = weights.mean(dim=1)
        row = 0.5 * row + 0.5 * torch.einsum("bq,bqn->bn", row[:, : mean.shape[1]], mean)
        maps.append(row[:, prefix:])
    return torch.stack(maps[::-1])


def _class_token(weights: Tensor) -> Tensor:
    row = weights.new_zeros(weights.shape[0], weights.shape[-1])
    row[:, 0] = 1
    return row
