"""What the classifier would say of a block if it were the last: of its class token, and of every patch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from radlens.core.classifier import Encoder
from radlens.explain.attention import Attention, stepping_into

Logits = Callable[[Tensor], Tensor]
"""Class tokens (b, 1, C) -> logits (b, L)."""


def logits_at_class_token(encoder: Encoder, head: nn.Module) -> Logits:
    """Pooling, projection and head, as they follow the last block."""
    return lambda tokens: head(encoder.pool(tokens).float())


def patch_logits(block: nn.Module, name: str, tokens: Tensor, prefix: int, logits: Logits) -> Tensor:
    """(B, P, L) from a block's input (B, N, C): each patch read as though it were the class token.

    In this block every token attends to itself alone, so that a patch's value stays at its place; residual paths and
    the perceptron are the block's own.
    """
    with torch.no_grad(), stepping_into(block, name, lambda queries, keys, values, scale: values):
        patches = block(tokens)[:, prefix:]
        batch, count, width = patches.shape
        return logits(patches.reshape(batch * count, 1, width)).reshape(batch, count, -1)


def readout_attention_gradients(
    block: nn.Module, name: str, tokens: Tensor, attention: Attention, logits: Logits, labels: int
) -> Tensor:
    """(L, B, H, 1, N): each label's logit of this block's class token, by that token's row of attention.

    Only the class token runs through the block once more, its mixture put in by hand, once for every label side by
    side; so all labels cost one backward of a single token an image.
    """
    batch = len(tokens)
    mixture = attention.mixed.detach()[:, :, :1].repeat(labels, 1, 1, 1)
    with torch.enable_grad():
        mixture.requires_grad_(True)
        with stepping_into(block, name, lambda queries, keys, values, scale: mixture):
            token = block(tokens.detach()[:, :1].repeat(labels, 1, 1))
        found = logits(token).reshape(labels, batch, -1)
        target = found.diagonal(dim1=0, dim2=2).sum()
    (gradient,) = torch.autograd.grad(target, mixture)
    return attention.weight_gradients(gradient.reshape(labels, *attention.mixed[:, :, :1].shape))
