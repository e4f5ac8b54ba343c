"""Catching what modules put out, with nothing but these outputs asking for a gradient."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from radlens.core.classifier import Encoder
from radlens.core.errors import ExplainError


@contextlib.contextmanager
def frozen(encoder: Encoder) -> Iterator[None]:
    """No weight asks for a gradient and no dropout draws while the block runs; both are put back after it."""
    owners = list(encoder.blocks) + ([encoder] if isinstance(encoder, nn.Module) else [])
    weights = {id(weight): weight for owner in owners for weight in owner.parameters() if weight.requires_grad}
    training = [module for owner in owners for module in owner.modules() if module.training]
    try:
        for weight in weights.values():
            weight.requires_grad_(False)
        for module in training:
            module.training = False
        yield
    finally:
        for weight in weights.values():
            weight.requires_grad_(True)
        for module in training:
            module.training = True


@contextlib.contextmanager
def recording(modules: Iterable[tuple[str, nn.Module]], like: Tensor) -> Iterator[dict[str, Tensor]]:
    """Yield name -> output, filled as the modules run. The lowest output becomes the leaf of the graph.

    like: what the encoder's `tokens` gives. Where that is (B, N, C), an output that is not (B, N, C') raises
    `ExplainError` naming the site; where it is maps (B, C, h, w), one that is not square maps of more than one place.
    """
    outputs: dict[str, Tensor] = {}

    def hook_of(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> Any:
            if not isinstance(output, Tensor) or not _carries_a_map(output, like):
                found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
                expected = f"{like.shape[1]} tokens, channels" if like.ndim == 3 else "channels, rows, as many columns"
                raise ExplainError(f"site {name!r} cannot carry a map: expected (images, {expected}), found {found}.")
            if not output.requires_grad:
                output = output.detach().requires_grad_(True)
            outputs[name] = output
            # convolutional towers rectify in place: what was recorded must stay as it was
            return output.clone() if output.ndim == 4 else output

        return hook

    with contextlib.ExitStack() as stack:
        for name, module in modules:
            stack.callback(module.register_forward_hook(hook_of(name)).remove)
        yield outputs


def _carries_a_map(output: Tensor, like: Tensor) -> bool:
    if like.ndim == 3:
        return output.ndim == 3 and output.shape[1] == like.shape[1]
    # images are square, so that maps with their channels last are told apart
    return output.ndim == 4 and output.shape[2] == output.shape[3] > 1


def patch_tokens(output: Tensor, prefix: int) -> Tensor:
    """A recorded output, or its gradient, at the patches alone, row-major: (B, P, C).

    output: (B, prefix + P, C), or maps (B, C, h, w) with P = h w.
    """
    return output[:, prefix:] if output.ndim == 3 else output.flatten(2).transpose(1, 2)


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[Any]:
    """bfloat16 autocast where `precision` asks for it; otherwise nothing."""
    if precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)
