"""Which parameters of an image tower train, how deep each lies, and what of the tower changed in the end."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from radlens.core.classifier import Encoder
from radlens.core.errors import ExplainError, ModelError


def all_parameters(encoder: Encoder) -> set[str]:
    """Names of all parameters of the image tower."""
    return {name for name, _ in encoder.image_module.named_parameters()}


def last_blocks(encoder: Encoder, count: int) -> set[str]:
    """Names of the parameters of the last `count` blocks and of what follows them (norm, projection).

    A tower without so many blocks raises `ModelError`.
    """
    depths, blocks = parameter_depths(encoder)
    if count > blocks:
        raise ModelError(
            f"last_k_blocks is {count}, but the image tower of {encoder.name} has {blocks} blocks; give at most "
            f"{blocks}, or leave it out to train all."
        )
    return {name for name, depth in depths.items() if depth > blocks - count}


def biases(encoder: Encoder) -> set[str]:
    """Names of all bias vectors: parameters called `bias`, and those of fused projections (`in_proj_bias`, ...)."""
    return {name for name in all_parameters(encoder) if name.rpartition(".")[2].endswith("bias")}


def layer_norms(encoder: Encoder) -> set[str]:
    """Names of the weights and biases of all layer norms."""
    return {
        f"{place}.{name}" if place else name
        for place, module in encoder.image_module.named_modules()
        if isinstance(module, nn.LayerNorm)
        for name, _ in module.named_parameters(recurse=False)
    }


def parameter_depths(encoder: Encoder) -> tuple[dict[str, int], int]:
    """Depth of each parameter of the tower (0 before the first block, the last block's number + 1 after it); blocks.

    What follows the blocks is what `pool` depends on: asked of its gradient, so that no name is guessed at.
    A tower without blocks raises `ModelError`.
    """
    blocks = _blocks(encoder, "last_k_blocks and layer_decay")
    named = dict(encoder.image_module.named_parameters())
    place = {id(p): number for number, block in enumerate(blocks, start=1) for p in block.parameters()}
    size = encoder.transform.size
    was = {name: parameter.requires_grad for name, parameter in named.items()}
    encoder.image_module.requires_grad_(True)
    try:
        with torch.no_grad():
            tokens = encoder.tokens(torch.zeros(1, 3, size, size, device=next(iter(named.values())).device))
            for block in blocks:
                tokens = block(tokens)
        outside = {name: parameter for name, parameter in named.items() if id(parameter) not in place}
        found = torch.autograd.grad(encoder.pool(tokens).sum(), list(outside.values()), allow_unused=True)
    finally:
        for name, parameter in named.items():
            parameter.requires_grad_(was[name])
    after = {name for name, gradient in zip(outside, found, strict=True) if gradient is not None}
    deepest = len(blocks) + 1
    return {name: place.get(id(p), deepest if name in after else 0) for name, p in named.items()}, len(blocks)


def recompute_activations(encoder: Encoder) -> None:
    """Let every block forget its activations and compute them again on the way back (Chen et al., 2016).

    A tower without blocks raises `ModelError`.
    """
    for block in _blocks(encoder, "activation_checkpointing"):
        # the form that needs no gradient at the input: blocks below may be frozen
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)


def make_trainable(encoder: Encoder, names: Collection[str]) -> dict[str, nn.Parameter]:
    """Let exactly these parameters of the tower train, but for those that its embedding does not depend on.

    Parameters without any influence would never get a gradient, and processes that train together would wait for it.
    """
    named = dict(encoder.image_module.named_parameters())
    for name, parameter in named.items():
        parameter.requires_grad_(name in names)
    chosen = {name: parameter for name, parameter in named.items() if name in names}
    size, device = encoder.transform.size, next(iter(named.values())).device
    with torch.enable_grad():
        embedding = encoder.encode_images(torch.zeros(1, 3, size, size, device=device))
        found = torch.autograd.grad(embedding.sum(), list(chosen.values()), allow_unused=True)
    unused = [name for name, gradient in zip(chosen, found, strict=True) if cast(Tensor | None, gradient) is None]
    for name in unused:
        chosen.pop(name).requires_grad_(False)
    return chosen


def _blocks(encoder: Encoder, needed_by: str) -> list[nn.Module]:
    try:
        return list(encoder.blocks)
    except ExplainError as error:
        raise ModelError(
            f"the image tower of {encoder.name} has no transformer blocks; leave out {needed_by}, or choose a model "
            "with a vision transformer."
        ) from error


def changed_tensors(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those of `after` that differ from `before`, on the CPU."""
    return {
        name: tensor.detach().cpu().clone()
        for name, tensor in after.items()
        if not torch.equal(tensor.detach().cpu(), before[name].detach().cpu())
    }
