"""Where in an encoder a saliency map is taken: layers and site names, and whether a gradient ever gets there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from radlens.core.classifier import Encoder
from radlens.core.errors import ExplainError, unknown_name
from radlens.explain.recording import frozen, patch_tokens, recording

# the norm before attention, by the name that timm, open_clip and transformers give it
FIRST_NORMS = ("norm1", "ln_1", "layer_norm1", "layernorm_before")
_BLOCK_SITE = re.compile(r"blocks\.(\d+)(?:\.(.+))?")
FINAL_NORM = "norm"


@dataclass(frozen=True)
class Site:
    """One place in an encoder.

    layer: what the user asked for, e.g. "-3". name: the full name, e.g. "blocks.9.norm1".
    block: index of its block; the number of blocks for the final norm. path: the submodule inside the block, "" for
    the block's own output.
    """

    layer: str
    name: str
    block: int
    path: str

    def module(self, encoder: Encoder) -> nn.Module:
        """The module whose output is the site."""
        return encoder.blocks[self.block].get_submodule(self.path)


def resolve_sites(encoder: Encoder, layers: Sequence[int | str]) -> tuple[Site, ...]:
    """Layers (-1 is the last block's first norm, 0 the first block's) or site names ("blocks.10.mlp") to sites.

    A layer of a convolutional tower is the output of its stage: -1 is the last one's.
    Raises `ExplainError` for a layer out of range, an unknown site, or one site asked for twice.
    """
    sites = tuple(_resolve(encoder, layer) for layer in layers)
    if not sites:
        raise ExplainError("no layers are asked for; give at least one, such as -1.")
    for index, site in enumerate(sites):
        for other in sites[:index]:
            if site.name == other.name:
                raise ExplainError(f"layers {other.layer!r} and {site.layer!r} are the same site {site.name!r}.")
    return sites


def check_sites(encoder: Encoder, sites: Sequence[Site]) -> None:
    """Refuse, with `ExplainError`, a site at whose patch tokens the gradient of an embedding is exactly zero.

    It is measured, not looked up: a seeded random direction of the embedding of a seeded random image is
    differentiated. In a ViT pooled at its class token that is so for all that lies after the last block's attention.
    """
    dead = [site for site, gradient in zip(sites, _gradients(encoder, sites), strict=True) if not gradient.any()]
    if not dead:
        final = next((site for site in sites if site.block == len(encoder.blocks)), None)
        if final is not None:
            raise ExplainError(
                f"site {final.name!r} lies inside the pooling, where no map can be taken; nearest valid site: "
                f"'blocks.{len(encoder.blocks) - 1}'."
            )
        return
    first = dead[0]
    norms = [_of_layer(encoder, block, "") for block in range(min(first.block + 1, len(encoder.blocks)))]
    alive = [norm for norm, gradient in zip(norms, _gradients(encoder, norms), strict=True) if gradient.any()]
    nearest = f"nearest valid site: {alive[-1].name!r}" if alive else "no site below it has one either"
    raise ExplainError(f"site {first.name!r} has no gradient at the patch tokens (class-token pooling); {nearest}.")


def random_tokens(encoder: Encoder) -> Tensor:
    """What `encoder.tokens` gives for a seeded random image: (1, prefix + patches, C), or maps (1, C, h, w)."""
    size = encoder.transform.size
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        return encoder.tokens(torch.randn(1, 3, size, size, generator=generator).to(encoder.device))


def random_direction(embedding: Tensor) -> Tensor:
    """A seeded random direction of the embedding's space, (D,)."""
    return torch.randn(embedding.shape[-1], generator=torch.Generator().manual_seed(1)).to(embedding)


def _gradients(encoder: Encoder, sites: Sequence[Site]) -> list[Tensor]:
    inner = [site for site in sites if site.block < len(encoder.blocks)]
    start = min((site.block for site in inner), default=len(encoder.blocks) - 1)
    # blocks below are skipped: whether a gradient arrives depends only on what lies above
    tokens = random_tokens(encoder)
    if tokens.ndim == 4:
        # but not stages, each of which takes what the one below it gives
        with frozen(encoder), torch.no_grad():
            for block in encoder.blocks[:start]:
                tokens = block(tokens)
    modules = {site.name: (site.name, site.module(encoder)) for site in inner}
    with frozen(encoder), torch.enable_grad(), recording(modules.values(), tokens) as outputs:
        for block in encoder.blocks[start:]:
            tokens = block(tokens)
        if not tokens.requires_grad:
            tokens = tokens.requires_grad_(True)
        embedding = encoder.pool(tokens).float()
        target = (embedding * random_direction(embedding)).sum()
    wanted = [outputs[site.name] if site.block < len(encoder.blocks) else tokens for site in sites]
    gradients = torch.autograd.grad(target, wanted, allow_unused=True, materialize_grads=True)
    return [patch_tokens(gradient, encoder.prefix_tokens) for gradient in gradients]


def _resolve(encoder: Encoder, layer: int | str) -> Site:
    count = len(encoder.blocks)
    if isinstance(layer, int) or re.fullmatch(r"[+-]?\d+", layer):
        index = int(layer)
        if not -count <= index < count:
            raise ExplainError(
                f"layer {index} is out of range: {encoder.name} has {count} blocks, so layers go from {-count} to "
                f"{count - 1}."
            )
        return _of_layer(encoder, index % count, str(index))
    if layer == FINAL_NORM:
        return Site(layer, layer, count, FINAL_NORM)
    match = _BLOCK_SITE.fullmatch(layer)
    if match is None:
        raise ExplainError(
            f"unknown site {layer!r}; give a layer from {-count} to {count - 1}, or a site such as "
            f"'blocks.{count - 1}.norm1', 'blocks.{count - 2}', 'blocks.{count - 2}.attn', 'blocks.{count - 2}.mlp'."
        )
    index, path = int(match[1]), match[2] or ""
    if index >= count:
        raise ExplainError(
            f"site {layer!r} is out of range: {encoder.name} has {count} blocks, 'blocks.0' to 'blocks.{count - 1}'."
        )
    known = [name for name, _ in encoder.blocks[index].named_modules() if name]
    if path and path not in known:
        raise ExplainError(f"site {layer!r}: " + unknown_name(f"part of block {index}", path, known))
    return Site(layer, layer, index, path)


def _of_layer(encoder: Encoder, block: int, layer: str) -> Site:
    children = dict(encoder.blocks[block].named_children())
    for name in FIRST_NORMS:
        if name in children:
            return Site(layer, f"blocks.{block}.{name}", block, name)
    if random_tokens(encoder).ndim == 4:
        return Site(layer, f"blocks.{block}", block, "")
    raise ExplainError(
        f"block {block} of {encoder.name} has no norm before its attention (looked for {', '.join(FIRST_NORMS)}); "
        f"name a site instead, e.g. 'blocks.{block}.{next(iter(children), '')}'."
    )
