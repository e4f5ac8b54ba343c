"""The batches of one epoch for several seeds at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from radlens.adapt.objective.logistic_losses import DistributionBalancedLoss


@dataclass(frozen=True)
class Batches:
    """Step by step what S seeds see, each in its own order; a list holds one tensor a step, of B images each.

    rows: (S, B). known: targets with 0 for null, (S, L, B). share: what an entry counts in its batch's mean, 0 for
    null, (S, L, B); then the same times the entry's own weight by each re-balanced loss, (S * (1 + losses), L, B).
    assessed: number of entries that count, float32 (steps, S).
    """

    rows: list[Tensor]
    known: list[Tensor]
    share: list[Tensor]
    assessed: Tensor

    @classmethod
    def of(
        cls, targets: Tensor, orders: Tensor, batch_size: int, balanced: Sequence[DistributionBalancedLoss]
    ) -> Batches:
        """targets (N, L), NaN = null; orders (S, N). The last batch holds what is left."""
        parts = [part.mT.contiguous() for part in torch.split(targets[orders], batch_size, dim=1)]
        assessed = [~part.isnan() for part in parts]
        known = [part.nan_to_num(0.0) for part in parts]
        counts = torch.stack([part.sum(dim=(1, 2)) for part in assessed])
        share = [part / n.clamp(min=1)[:, None, None] for part, n in zip(assessed, counts, strict=True)]
        if balanced:
            share = [
                torch.cat([part, *(part * loss.rebalance(t.mT).mT for loss in balanced)])
                for part, t in zip(share, known, strict=True)
            ]
        return cls([part.contiguous() for part in torch.split(orders, batch_size, dim=1)], known, share, counts.float())
