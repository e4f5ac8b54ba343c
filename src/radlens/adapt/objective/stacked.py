"""The derivatives of many heads' losses at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from radlens.adapt.objective.logistic_losses import LogisticLoss
from radlens.adapt.objective.loss import Loss


class StackedLosses:
    """One loss a head. Those that are a table of weight, slope and offset are computed together, the others in turn.

    What `DistributionBalancedLoss.rebalance` gives is left to the caller: it depends on targets alone. Works on
    float32 tensors of the processor; batch: the most images a call brings.
    """

    def __init__(self, losses: Sequence[Loss], batch: int) -> None:
        like = torch.empty(0)
        tables = [loss.table(like) if isinstance(loss, LogisticLoss) else None for loss in losses]
        # a head without a table gets a neighbour's; its result is overwritten
        any_table = next((table for table in tables if table is not None), None)
        self._tabled = any_table is not None
        self._factor = self._slope = self._offset = None
        if any_table is not None:
            filled = [any_table if table is None else table for table in tables]
            weight, slope, offset = (torch.stack(part) for part in zip(*filled, strict=True))
            self._factor = _by_target(weight * slope, 1.0, batch)
            self._slope = _by_target(slope, 1.0, batch)
            self._offset = _by_target(offset, 0.0, batch)
        apart: dict[int, tuple[Loss, list[int]]] = {}
        for head, (loss, table) in enumerate(zip(losses, tables, strict=True)):
            if table is None:
                apart.setdefault(id(loss), (loss, []))[1].append(head)
        self._apart = [(loss, torch.tensor(heads)) for loss, heads in apart.values()]

    def derivatives(self, logits: Tensor, targets: Tensor) -> Tensor:
        """(H, L, B): each entry's derivative by its logit; targets 1 or 0."""
        found = self._of_tables(logits, targets) if self._tabled else torch.empty_like(logits)
        for loss, heads in self._apart:
            z, t = logits.index_select(0, heads).mT, targets.index_select(0, heads).mT
            found.index_copy_(0, heads, loss.derivatives(z, t).mT)
        return found

    def _of_tables(self, logits: Tensor, targets: Tensor) -> Tensor:
        shifted = logits if self._slope is None else _chosen(self._slope, targets).mul_(logits)
        if self._offset is not None:
            shifted = _chosen(self._offset, targets).add_(shifted)
        found = torch.sigmoid(shifted).sub_(targets)
        return found if self._factor is None else found.mul_(_chosen(self._factor, targets))


def _by_target(table: Tensor, neutral: float, batch: int) -> tuple[Tensor, Tensor] | None:
    """(H, 2, L) -> the row of target 0 and what target 1 adds to it, (H, L, batch) both; None if it changes nothing.

    Written out along the batch, because a product that broadcasts its innermost axis is several times slower.
    """
    if bool((table == neutral).all()):
        return None
    wide = table[..., None].expand(*table.shape, batch)
    return wide[:, 0].contiguous(), (wide[:, 1] - wide[:, 0]).contiguous()


def _chosen(table: tuple[Tensor, Tensor], targets: Tensor) -> Tensor:
    base, more = (x[..., : targets.shape[-1]] for x in table)
    return torch.addcmul(base, targets, more)
