"""Value maps in the manner of MaskCLIP."""

from __future__ import annotations

from torch import Tensor

from radlens.core.parts import needs
from radlens.core.registry import register


@register("saliency", "value-map")
@needs("patch_logits")
def value_map(patch_logits: Tensor) -> Tensor:
    """What the head says of each patch's own value, above the image's mean patch, negatives cut (after MaskCLIP).

    In the layer's block every token attends to itself alone, and each patch is then read as though it were the class
    token. The mean is taken off because a logit's zero means nothing for a patch: a probe's bias would empty or fill
    the whole map. MaskCLIP compares classes by a softmax instead.
    patch_logits: (B, P). Returns (B, P), non-negative, in units of logit.
    Source: Zhou, Loy and Dai, Extract free dense labels from CLIP, ECCV 2022, section 3.2.
    """
    return (patch_logits - patch_logits.mean(dim=-1, keepdim=True)).relu()
