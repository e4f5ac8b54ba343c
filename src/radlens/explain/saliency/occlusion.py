"""Occlusion by patches."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from radlens.core.parts import needs
from radlens.core.registry import register

_BATCH = 16


@register("saliency", "occlusion")
@needs("pixels", "logits_of", "grid", over="classifier")
def occlusion(pixels: Tensor, logits_of: Callable[[Tensor], Tensor], grid: tuple[int, int]) -> Tensor:
    """How far each label's logit falls when a patch is replaced by the image's mean, rises cut (slow).

    pixels: (B, 3, H, W). One forward a patch. Returns (B, L, P), non-negative, in units of logit. It has no depth.
    Source: Zeiler and Fergus, ECCV 2014, section 4.2, with the image's mean in each channel for grey.
    """
    rows, columns = grid
    height, width = pixels.shape[-2] // rows, pixels.shape[-1] // columns
    mean = pixels.mean(dim=(-1, -2), keepdim=True)
    maps = []
    with torch.no_grad():
        for image, fill, whole in zip(pixels, mean, logits_of(pixels), strict=True):
            cells = [(row * height, column * width) for row in range(rows) for column in range(columns)]
            falls = []
            for start in range(0, len(cells), _BATCH):
                part = cells[start : start + _BATCH]
                covered = image.repeat(len(part), 1, 1, 1)
                for one, (top, left) in zip(covered, part, strict=True):
                    one[:, top : top + height, left : left + width] = fill
                falls.append(whole - logits_of(covered))
            maps.append(torch.cat(falls).T)
    return torch.stack(maps).relu()
