"""HiResCAM."""

from __future__ import annotations

from torch import Tensor

from radlens.core.registry import register


@register("saliency", "hires-cam")
def hires_cam(activations: Tensor, gradients: Tensor) -> Tensor:
    """Each activation times its own gradient, summed over channels, negatives cut (HiResCAM).

    activations, gradients: (B, P, C). Returns (B, P), non-negative, in units of logit (no scaling).
    Source: Draelos and Carin, 2020 (arXiv:2011.08891), equation 4.
    """
    return (gradients * activations).sum(dim=-1).relu()
