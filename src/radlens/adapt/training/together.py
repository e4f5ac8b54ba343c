"""Sums over the processes that train together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed

from radlens.core.crew import Crew


def add_up(values: Sequence[float], crew: Crew) -> list[float]:
    """Each value summed over all processes, in float64; alone, the values themselves."""
    if crew.world == 1:
        return list(values)
    held = torch.tensor(values, dtype=torch.float64)
    # float64 on the CPU, by gloo: not every device has it
    torch.distributed.all_reduce(held)
    return [float(value) for value in held]
