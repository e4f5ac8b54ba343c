"""Whether an encoder reads nothing but the class token of its last block."""

from __future__ import annotations

import torch
from torch import Tensor

from radlens.core.class_token import class_token_block, is_plain_block
from radlens.core.classifier import Encoder
from radlens.explain.sites import random_direction, random_tokens

_TOLERANCE = 1e-5


def pools_class_token(encoder: Encoder) -> bool:
    """Whether pooling reads the first token alone, measured by the gradient at all others."""
    return encoder.prefix_tokens >= 1 and _pools_first(encoder, random_tokens(encoder))


def class_token_suffices(encoder: Encoder) -> bool:
    """Whether `class_token_block` and pooling of its output give the encoder's own embedding, to 1e-5 of its size.

    Measured on a seeded random image: other blocks, adapters on top of their weights, or another pooling say no.
    """
    block = encoder.blocks[-1]
    if encoder.prefix_tokens < 1 or not is_plain_block(block):
        return False
    tokens = random_tokens(encoder)
    with torch.no_grad():
        whole = block(tokens)
        token = class_token_block(block, tokens)
        alike = _alike(token, whole[:, :1]) and _alike(encoder.pool(token), encoder.pool(whole))
    return alike and _pools_first(encoder, whole)


def _pools_first(encoder: Encoder, tokens: Tensor) -> bool:
    with torch.enable_grad():
        tokens = tokens.detach().requires_grad_(True)
        embedding = encoder.pool(tokens)
        (gradient,) = torch.autograd.grad((embedding * random_direction(embedding)).sum(), tokens)
    return not bool(gradient[:, 1:].any())


def _alike(found: Tensor, expected: Tensor) -> bool:
    return bool((found - expected).abs().max() <= _TOLERANCE * expected.abs().max())
