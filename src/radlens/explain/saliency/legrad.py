"""LeGrad."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from radlens.core.parts import needs
from radlens.core.registry import register


@register("saliency", "legrad")
@needs("readout_attention_gradients", "prefix", over="blocks")
def legrad(readout_attention_gradients: Sequence[Tensor], prefix: int) -> Tensor:
    """How each block's attention forms what the classifier reads of that block, averaged from a layer on (LeGrad).

    The logit is read after every block as the model reads it after its last (its class token through pooling and
    head); a block's map is the mean over heads of the positive gradients of that logit by the block's own attention,
    the maps of a layer are the mean over the blocks from that layer to the last. Only the class token's row of
    attention has a gradient. The released code reads the mean of all tokens instead, and scales maps to [0, 1].
    readout_attention_gradients: a block, (B, H, 1, N). Returns (blocks, B, P), non-negative.
    Source: Bousselham et al., LeGrad, 2024 (arXiv:2404.03214), section 3.
    """
    own = torch.stack([gradients.relu().mean(dim=(1, 2))[:, prefix:] for gradients in readout_attention_gradients])
    counts = torch.arange(len(own), 0, -1, device=own.device)
    return own.flip(0).cumsum(dim=0).flip(0) / counts[:, None, None]
