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
def recording(modules: Iterable[tuple[str, nn.Module]], tokens: int) -> Iterator[dict[str, Tensor]]:
    """Yield name -> output, filled as the modules run. The lowest output becomes the leaf of the graph.

    An output that is not (B, `tokens`, C) raises `ExplainError` naming the site.
    """
    outputs: dict[str, Tensor] = {}

    def hook_of(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> Any:
            if not isinstance(output, Tensor) or output.ndim != 3 or output.shape[1] != tokens:
                found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
                raise ExplainError(
                    f"site {name!r} cannot carry a map: expected (images, {tokens} tokens, channels), found {found}."
                )
            if not output.requires_grad:
                output = output.detach().requires_grad_(True)
            outputs[name] = output
            return output

        return hook

    with contextlib.ExitStack() as stack:
        for name, module in modules:
            stack.callback(module.register_forward_hook(hook_of(name)).remove)
        yield outputs


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[Any]:
    """bfloat16 autocast where `precision` asks for it; otherwise nothing."""
    if precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)
