"""Grad-CAM++."""

from __future__ import annotations

from torch import Tensor

from radlens.core.registry import register

# how near to its pole the weight is taken
_POLE = 1e-6


@register("saliency", "grad-cam-plus-plus")
def grad_cam_plus_plus(activations: Tensor, gradients: Tensor) -> Tensor:
    """Channels weighted by their positive gradients, those of few patches more, summed, negatives cut (Grad-CAM++).

    weight of a channel = sum over patches of alpha x relu(gradient), alpha = 1 / (2 + (sum of the channel's
    activations) x gradient), which is the paper's g^2 / (2 g^2 + sum(A) g^3); it holds for exp(logit), and so depends
    on the logit's unit. The paper has activations >= 0; a transformer's may be negative, so alpha has a pole and may
    change its sign.
    activations, gradients: (B, P, C). Returns (B, P), non-negative.
    Source: Chattopadhay et al., WACV 2018, equations 5 and 19.
    """
    below = 2 + activations.sum(dim=1, keepdim=True) * gradients
    below = below.where(below.abs() > _POLE, _POLE)
    weights = (gradients.relu() / below).sum(dim=1, keepdim=True)
    return (weights * activations).sum(dim=-1).relu()
