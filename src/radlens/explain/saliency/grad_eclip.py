"""Grad-ECLIP with all heads."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import normalize

from radlens.core.parts import needs
from radlens.core.registry import register


@register("saliency", "grad-eclip")
@needs("queries", "keys", "values", "mixed_gradients", "prefix")
def grad_eclip(queries: Tensor, keys: Tensor, values: Tensor, mixed_gradients: Tensor, prefix: int) -> Tensor:
    """Patches' values weighted by channel gradients of the class token and by loosened attention (Grad-ECLIP).

    map = relu(sum over heads of s x sum over channels of w x v): w the gradient of the logit by what attention brings
    to the class token, v a patch's value, s the cosine of the class token's query and the patch's key, scaled over
    patches to [0, 1]. Here each head keeps its own s; the paper's code runs the block as one wide head.
    queries, mixed_gradients: (B, H, Q, d); keys, values: (B, H, N, d). Returns (B, P), non-negative, in units of logit.
    Source: Zhao et al., Gradient-based visual explanation for transformer-based CLIP, ICML 2024, equations 7 to 9.
    """
    query, key = normalize(queries[:, :, :1], dim=-1), normalize(keys[:, :, prefix:], dim=-1)
    cosine = (query * key).sum(dim=-1)
    low, high = cosine.amin(dim=-1, keepdim=True), cosine.amax(dim=-1, keepdim=True)
    loosened = (cosine - low) / (high - low).clamp_min(1e-12)
    spoken = (mixed_gradients[:, :, :1] * values[:, :, prefix:]).sum(dim=-1)
    return (loosened * spoken).sum(dim=1).relu()
