"""Where to compute."""

from __future__ import annotations

import torch

from radlens.core.errors import ModelError


def choose_device(name: str) -> torch.device:
    """`auto` is cuda where there is one, else mps, else cpu. A device that is not there raises `ModelError`."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(device for device, there in available.items() if there)
    if not available.get(name.partition(":")[0], False):
        there = ", ".join(device for device, is_there in available.items() if is_there)
        raise ModelError(f"device {name!r} is not available on this machine; available: {there}.")
    return torch.device(name)
