"""The gradient at the pixels."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from radlens.core.parts import needs
from radlens.core.registry import register


@register("saliency", "input-gradient")
@needs("pixel_gradients", "grid", over="image")
def input_gradient(pixel_gradients: Tensor, grid: tuple[int, int]) -> Tensor:
    """Size of the logit's gradient at the pixels: the greatest of the channels, averaged over each patch.

    pixel_gradients: (B, 3, H, W). Returns (B, P), non-negative. It has no depth.
    Source: Simonyan, Vedaldi and Zisserman, ICLR workshop 2014, section 3.1; the mean over a patch is ours.
    """
    return adaptive_avg_pool2d(pixel_gradients.abs().amax(dim=1), grid).flatten(1)
