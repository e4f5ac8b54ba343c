"""SmoothGrad."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from radlens.core.parts import needs
from radlens.core.registry import register
from radlens.explain.saliency.input_gradient import input_gradient

COPIES = 16
"""Noisy copies of an image."""
NOISE = 0.15
"""Standard deviation of the noise, in the image's own range of values."""


@register("saliency", "smooth-grad")
@needs("pixels", "logits_of", "grid", over="classifier")
def smooth_grad(pixels: Tensor, logits_of: Callable[[Tensor], Tensor], grid: tuple[int, int]) -> Tensor:
    """The gradient at the pixels averaged over noisy copies of the image, then as input-gradient (slow).

    16 copies with Gaussian noise of 0.15 of the image's range; the noise is seeded and the same for every image, so a
    map does not depend on its batch. Costs 16 forwards and 16 backwards a label.
    pixels: (B, 3, H, W). Returns (B, L, P), non-negative. It has no depth.
    Source: Smilkov et al., SmoothGrad, 2017 (arXiv:1706.03825), sections 3.1 and 3.2.
    """
    flat = pixels.flatten(1)
    spread = NOISE * (flat.amax(dim=1) - flat.amin(dim=1)).reshape(-1, 1, 1, 1)
    generator = torch.Generator().manual_seed(0)
    total: list[Tensor] = []
    for _ in range(COPIES):
        noise = torch.randn(pixels.shape[1:], generator=generator).to(pixels)
        noisy = (pixels + spread * noise).detach().requires_grad_(True)
        with torch.enable_grad():
            targets = logits_of(noisy).sum(dim=0)
        last = len(targets) - 1
        for label, target in enumerate(targets.unbind()):
            (gradient,) = torch.autograd.grad(target, noisy, retain_graph=label < last)
            if len(total) <= label:
                total.append(torch.zeros_like(gradient))
            total[label] += gradient
    return torch.stack([input_gradient(gradient / COPIES, grid) for gradient in total], dim=1)
