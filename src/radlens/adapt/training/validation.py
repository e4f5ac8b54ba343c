"""Plain masked binary cross-entropy of the validation split, whatever the training loss is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from radlens.adapt.training.stream import Batch
from radlens.adapt.training.together import add_up
from radlens.core.crew import Crew


@dataclass(frozen=True)
class Validated:
    """Sum of the cross-entropy over the known targets, and how many they are."""

    total: float
    assessed: int

    @property
    def bce(self) -> float:
        """Their mean; NaN without any."""
        return self.total / self.assessed if self.assessed else math.nan


def bce_sum(logits: Tensor, targets: Tensor) -> Validated:
    """(N, L) logits and targets, NaN where unknown; summed in float64."""
    known = ~targets.isnan()
    # on the CPU: not every device has float64
    losses = binary_cross_entropy_with_logits(
        logits.detach().float().cpu().double()[known.cpu()], targets.cpu().double()[known.cpu()], reduction="sum"
    )
    return Validated(float(losses), int(known.sum()))


@torch.no_grad()
def validate(
    logits: Callable[[Tensor], Tensor], batches: Iterable[Batch], device: torch.device, crew: Crew
) -> Validated:
    """Each process runs its own batches; what comes back is of all of them together, the same for all."""
    total, assessed = 0.0, 0
    for batch in batches:
        found = bce_sum(logits(batch["pixels"].to(device, non_blocking=True)), batch["targets"])
        total, assessed = total + found.total, assessed + found.assessed
    total, count = add_up([total, assessed], crew)
    return Validated(total, int(count))
