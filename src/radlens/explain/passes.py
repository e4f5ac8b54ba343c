"""Shared passes: one forward for all labels, sites and methods of an image, one backward a label for all of them."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from radlens.core.class_token import class_token_block
from radlens.core.classifier import Classifier, Encoder
from radlens.core.errors import ExplainError
from radlens.core.parts import Quantity
from radlens.explain.attention import Attention, recorder, stepping_into
from radlens.explain.class_token import class_token_suffices
from radlens.explain.recording import autocast, frozen, patch_tokens, recording
from radlens.explain.sites import FIRST_NORMS, Site, check_sites, random_tokens

Precision = Literal["float32", "bfloat16"]
BACKWARD: frozenset[Quantity] = frozenset({"gradients", "attention_gradients", "mixed_gradients", "pixel_gradients"})
"""Quantities that take a backward through the network a label."""
OF_A_BLOCK: frozenset[Quantity] = frozenset(
    {
        "attention",
        "attention_gradients",
        "queries",
        "keys",
        "values",
        "mixed_gradients",
        "readout_attention_gradients",
        "patch_logits",
    }
)
"""Quantities of a block's attention; they say something where the embedding is read from the class token."""


@dataclass(frozen=True)
class Gradients:
    """Gradients of one label's logit, float32.

    sites: a site, (B, P, C) at the patch tokens. mixed: a block, (B, H, Q, d) at attention x values. pixels:
    (B, 3, H, W). Empty or None where no method needs them.
    """

    sites: tuple[Tensor, ...]
    mixed: Mapping[int, Tensor]
    pixels: Tensor | None


@dataclass(frozen=True)
class Passes:
    """What one forward left behind for B images.

    logits: (B, L). activations: a site, (B, P, C) at the patch tokens, float32, row-major over the grid.
    attention, inputs: by block, from the lowest site's to the last, where a method needs them; inputs (B, N, C).
    grids: a site, rows and columns of its P; the encoder's own but in a convolutional tower, whose stages differ.
    """

    logits: Tensor
    activations: tuple[Tensor, ...]
    _outputs: tuple[Tensor, ...]
    _prefix: int
    attention: Mapping[int, Attention] = field(default_factory=dict)
    inputs: Mapping[int, Tensor] = field(default_factory=dict)
    _mixed: Mapping[int, Tensor] = field(default_factory=dict)
    _pixels: Tensor | None = None
    grids: tuple[tuple[int, int], ...] = ()

    def backward(self, labels: Sequence[int] | None = None) -> Iterator[tuple[int, Gradients]]:
        """Yield (label, its gradients). To be gone through once.

        labels: columns of the logits; default all. The graph is freed after the last.
        """
        wanted = range(self.logits.shape[1]) if labels is None else labels
        sites, blocks = len(self._outputs), list(self._mixed)
        pixels = [] if self._pixels is None else [self._pixels]
        by = [*self._outputs, *self._mixed.values(), *pixels]
        for position, label in enumerate(wanted):
            # images do not meet inside the network, so the sum's gradient is each image's own
            target = self.logits[:, label].sum()
            found = torch.autograd.grad(target, by, retain_graph=position < len(wanted) - 1)
            mixed = {block: gradient.float() for block, gradient in zip(blocks, found[sites:], strict=False)}
            yield (
                label,
                Gradients(
                    tuple(patch_tokens(gradient, self._prefix).float() for gradient in found[:sites]),
                    mixed,
                    found[-1].float() if pixels else None,
                ),
            )

    def gradients(self, labels: Sequence[int] | None = None) -> Iterator[tuple[int, tuple[Tensor, ...]]]:
        """Yield (label, a site: gradient of that label's logit (B, P, C), float32). To be gone through once."""
        for label, found in self.backward(labels):
            yield label, found.sites


class SharedPasses:
    """Passes through one classifier at fixed sites; calling it on pixels runs the forward.

    quantities: what is kept beside activations and gradients. Blocks below the lowest site keep no graph (unless the
    pixels' gradient is asked for), no weight gets a gradient, and the last block runs for the class token alone where
    that is exact and no site needs more. Attention stays fused. Memory grows with the batch and not with the number of
    images. Raises `ExplainError` for a site that no gradient reaches, attention that cannot be read, or a classifier
    without encoder.
    """

    def __init__(
        self,
        classifier: Classifier,
        sites: Sequence[Site],
        *,
        quantities: Collection[Quantity] = ("activations", "gradients"),
        precision: Precision = "float32",
    ) -> None:
        if classifier.encoder is None:
            raise ExplainError(f"setting {classifier.setting!r} has no encoder attached; load its model to explain it.")
        self.encoder: Encoder = classifier.encoder
        self.sites = tuple(sites)
        self.quantities = frozenset(quantities)
        self.precision = precision
        # a copy: the classifier's own head may be moved between devices by others
        self.head: nn.Module = copy.deepcopy(classifier.head).to(self.encoder.device).requires_grad_(False)
        with frozen(self.encoder):
            check_sites(self.encoder, self.sites)
            last = len(self.encoder.blocks) - 1
            inside = [site for site in self.sites if site.block == last]
            self.class_token_only = all(site.path in FIRST_NORMS for site in inside) and class_token_suffices(
                self.encoder
            )
            self._read_attention()

    @property
    def blocks(self) -> range:
        """Blocks from the lowest site's to the last."""
        return range(min(site.block for site in self.sites), len(self.encoder.blocks))

    def block_name(self, block: int) -> str:
        """What a block is called in a message."""
        return f"block {block} of {self.encoder.name}"

    def logits(self, pixels: Tensor) -> Tensor:
        """(b, 3, H, W) -> (b, L), a whole forward, differentiable in the pixels."""
        with frozen(self.encoder), autocast(self.encoder.device, self.precision):
            embeddings = self.encoder.encode_images(pixels.to(self.encoder.device))
        return self.head(embeddings.float())  # type: ignore[no-any-return]

    def __call__(self, pixels: Tensor) -> Passes:
        """(B, 3, H, W) as the encoder's transform makes them -> `Passes`."""
        encoder, lowest = self.encoder, self.blocks.start
        modules = [(site.name, site.module(encoder)) for site in self.sites]
        of_pixels = "pixel_gradients" in self.quantities
        differentiated = bool(self.quantities & BACKWARD)
        looked_into = bool(self.quantities & OF_A_BLOCK)
        pixels = pixels.to(encoder.device)
        if of_pixels:
            pixels = pixels.detach().clone().requires_grad_(True)
        attention: list[Attention] = []
        inputs: dict[int, Tensor] = {}
        with frozen(encoder), autocast(encoder.device, self.precision):
            with torch.set_grad_enabled(of_pixels):
                tokens = encoder.tokens(pixels)
                for block in encoder.blocks[:lowest]:
                    tokens = block(tokens)
            with torch.set_grad_enabled(differentiated), recording(modules, tokens) as outputs:
                for index in self.blocks:
                    if looked_into:
                        inputs[index] = tokens.detach()
                        with stepping_into(encoder.blocks[index], self.block_name(index), recorder(attention)):
                            tokens = self._run(index, tokens)
                    else:
                        tokens = self._run(index, tokens)
                embeddings = encoder.pool(tokens)
        with torch.set_grad_enabled(differentiated):
            logits = self.head(embeddings.float())
        kept = tuple(outputs[site.name] for site in self.sites)
        prefix = encoder.prefix_tokens
        seen = dict(zip(self.blocks, attention, strict=False))
        by_mixed = bool(self.quantities & {"attention_gradients", "mixed_gradients"})
        return Passes(
            logits,
            tuple(patch_tokens(output.detach(), prefix).float() for output in kept),
            kept,
            prefix,
            seen,
            inputs,
            {block: one.mixed for block, one in seen.items()} if by_mixed else {},
            pixels if of_pixels else None,
            tuple((output.shape[2], output.shape[3]) if output.ndim == 4 else encoder.grid for output in kept),
        )

    def _run(self, index: int, tokens: Tensor) -> Tensor:
        block = self.encoder.blocks[index]
        if self.class_token_only and index == len(self.encoder.blocks) - 1:
            return class_token_block(block, tokens)
        return block(tokens)  # type: ignore[no-any-return]

    def _read_attention(self) -> None:
        """Refuse before the first image what would be refused at it."""
        if not self.quantities & OF_A_BLOCK:
            return
        tokens = random_tokens(self.encoder)
        with torch.no_grad():
            for index in sorted({self.blocks.start, len(self.encoder.blocks) - 1}):
                with stepping_into(self.encoder.blocks[index], self.block_name(index), recorder([])):
                    self._run(index, tokens)
