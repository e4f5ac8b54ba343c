"""Building a model without its random initialisation, and reading its weights strictly."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from radlens.core.errors import ModelError

_RANDOM = {
    "normal_", "uniform_", "trunc_normal_", "random_", "bernoulli_", "exponential_", "log_normal_", "cauchy_",
    "xavier_uniform_", "xavier_normal_", "kaiming_uniform_", "kaiming_normal_", "orthogonal_",
}  # fmt: skip
# dropped by newer transformers; no part of any output
_ALLOWED_EXTRA = ("position_ids", "transformer.pooler.dense.weight", "transformer.pooler.dense.bias")


class WithoutInitialisation(TorchFunctionMode):
    """Within it, parameters keep what memory holds: in-place functions on a parameter, and random fills, do nothing.

    Right only when every parameter is overwritten afterwards, which `read_weights` with `assign_weights` sees to.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        target = args[0] if args else (kwargs or {}).get("tensor")
        fills = name in _RANDOM or (name.endswith("_") and isinstance(target, nn.Parameter))
        if fills and isinstance(target, Tensor) and name != "requires_grad_" and not name.startswith("_"):
            return target
        return func(*args, **(kwargs or {}))


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a `.safetensors` or a pickled file, mapped from the disk; no code in the file is run.

    A truncated or otherwise unreadable file raises `ModelError`.
    """
    try:
        if path.suffix == ".safetensors":
            state: Any = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise ModelError(
            f"{path} ({path.stat().st_size} bytes) cannot be read as weights: {reason[:160]}; it is damaged or not "
            "wholly downloaded, fetch it again."
        ) from error
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping) or not state or not all(isinstance(v, Tensor) for v in state.values()):
        raise ModelError(f"{path} holds no table of tensors; expected the state of a model.")
    return {name.removeprefix("module."): tensor for name, tensor in state.items()}


def assign_weights(model: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Give a model its tensors, in float32, without copying those that are. Strict.

    Missing, unexpected or mis-shaped tensors raise `ModelError` naming the first and their number.
    """
    expected = model.state_dict()
    missing = [name for name in expected if name not in state]
    extra = [name for name in state if name not in expected and not name.endswith(_ALLOWED_EXTRA)]
    for names, what in ((missing, "lacks"), (extra, "holds the unexpected")):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise ModelError(
                f"{path.name} does not fit its configuration: it {what} tensor {names[0]}{more}; weights and "
                f"configuration in {path.parent} must belong together."
            )
    fitted = {}
    for name, wanted in expected.items():
        found = state[name]
        if found.shape != wanted.shape and not (found.numel() == wanted.numel() == 1):
            raise ModelError(
                f"{path.name} does not fit its configuration: tensor {name} has shape {tuple(found.shape)}, expected "
                f"{tuple(wanted.shape)}; weights and configuration in {path.parent} must belong together."
            )
        found = found.reshape(wanted.shape)
        fitted[name] = found.float() if found.is_floating_point() else found
    model.load_state_dict(fitted, strict=True, assign=True)


def _is_zip(path: Path) -> bool:
    # memory mapping needs the zip format that torch writes since 1.6
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"
