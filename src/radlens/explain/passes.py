"""Shared passes: one forward for all labels and sites of an image, one backward a label for all sites."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from radlens.core.class_token import class_token_block
from radlens.core.classifier import Classifier, Encoder
from radlens.core.errors import ExplainError
from radlens.explain.class_token import class_token_suffices
from radlens.explain.recording import autocast, frozen, recording
from radlens.explain.sites import FIRST_NORMS, Site, check_sites

Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Passes:
    """What one forward left behind for B images.

    logits: (B, L). activations: a site, (B, P, C) at the patch tokens, float32, row-major over the grid.
    """

    logits: Tensor
    activations: tuple[Tensor, ...]
    _outputs: tuple[Tensor, ...]
    _prefix: int

    def gradients(self, labels: Sequence[int] | None = None) -> Iterator[tuple[int, tuple[Tensor, ...]]]:
        """Yield (label, a site: gradient of that label's logit (B, P, C), float32). To be gone through once.

        labels: columns of the logits; default all. The graph is freed after the last.
        """
        wanted = range(self.logits.shape[1]) if labels is None else labels
        for position, label in enumerate(wanted):
            # images do not meet inside the network, so the sum's gradient is each image's own
            target = self.logits[:, label].sum()
            found = torch.autograd.grad(target, self._outputs, retain_graph=position < len(wanted) - 1)
            yield label, tuple(gradient[:, self._prefix :].float() for gradient in found)


class SharedPasses:
    """Passes through one classifier at fixed sites; calling it on pixels runs the forward.

    Blocks below the lowest site keep no graph, no weight gets a gradient, and the last block runs for the class token
    alone where that is exact and no site needs more. Memory grows with the batch and not with the number of images.
    Raises `ExplainError` for a site that no gradient reaches, or a classifier without encoder.
    """

    def __init__(self, classifier: Classifier, sites: Sequence[Site], *, precision: Precision = "float32") -> None:
        if classifier.encoder is None:
            raise ExplainError(f"setting {classifier.setting!r} has no encoder attached; load its model to explain it.")
        self.encoder: Encoder = classifier.encoder
        self.sites = tuple(sites)
        self.precision = precision
        # a copy: the classifier's own head may be moved between devices by others
        self.head = copy.deepcopy(classifier.head).to(self.encoder.device).requires_grad_(False)
        with frozen(self.encoder):
            check_sites(self.encoder, self.sites)
            last = len(self.encoder.blocks) - 1
            inside = [site for site in self.sites if site.block == last]
            self.class_token_only = all(site.path in FIRST_NORMS for site in inside) and class_token_suffices(
                self.encoder
            )

    def __call__(self, pixels: Tensor) -> Passes:
        """(B, 3, H, W) as the encoder's transform makes them -> `Passes`."""
        encoder = self.encoder
        start = min(site.block for site in self.sites)
        modules = [(site.name, site.module(encoder)) for site in self.sites]
        *lower, last = encoder.blocks
        with frozen(encoder), autocast(encoder.device, self.precision):
            with torch.no_grad():
                tokens = encoder.tokens(pixels.to(encoder.device))
                for block in lower[:start]:
                    tokens = block(tokens)
            with torch.enable_grad(), recording(modules, tokens.shape[1]) as outputs:
                for block in lower[start:]:
                    tokens = block(tokens)
                tokens = class_token_block(last, tokens) if self.class_token_only else last(tokens)
                embeddings = encoder.pool(tokens)
        with torch.enable_grad():
            logits = self.head(embeddings.float())
        kept = tuple(outputs[site.name] for site in self.sites)
        prefix = encoder.prefix_tokens
        activations = tuple(output.detach()[:, prefix:].float() for output in kept)
        return Passes(logits, activations, kept, prefix)
