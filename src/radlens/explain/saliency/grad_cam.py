"""Grad-CAM."""

from __future__ import annotations

from torch import Tensor

from radlens.core.registry import register


@register("saliency", "grad-cam")
def grad_cam(activations: Tensor, gradients: Tensor) -> Tensor:
    """Channels weighted by their mean gradient over patches, summed, negatives cut (Grad-CAM).

    activations, gradients: (B, P, C). Returns (B, P), non-negative, in units of logit (no scaling).
    Source: Selvaraju et al., ICCV 2017, equations 1 and 2.
    """
    weights = gradients.mean(dim=1, keepdim=True)
    return (weights * activations).sum(dim=-1).relu()
