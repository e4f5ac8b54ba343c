"""What every training loss is: one number an entry of (images, labels), nothing where the target is null."""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from radlens.adapt.objective.sigmoid_form import SigmoidForm
from radlens.core.errors import DataError
from radlens.core.parts import Floats


@dataclass(frozen=True)
class Counts:
    """How often each label is 1 and 0 among the training targets that are assessed; float64 (L,) both."""

    positives: npt.NDArray[np.float64]
    negatives: npt.NDArray[np.float64]

    @classmethod
    def of(cls, targets: Floats) -> Counts:
        """Count (N, L). Raises `DataError` for a value that is not 1, 0 or NaN."""
        wrong = ~(np.isnan(targets) | (targets == 0) | (targets == 1))
        if wrong.any():
            row, label = (int(i[0]) for i in np.nonzero(wrong))
            raise DataError(
                f"a training target must be 1, 0 or null, found {targets[row, label]:g} for image {row + 1}, "
                f"label {label + 1} of the training split; correct the label table."
            )
        return cls((targets == 1).sum(axis=0).astype(np.float64), (targets == 0).sum(axis=0).astype(np.float64))

    def at_least_one(self) -> Counts:
        """The same with 1 where a count is 0, so that every weight and every logarithm made of them is finite."""
        return Counts(np.maximum(self.positives, 1), np.maximum(self.negatives, 1))

    def stacked(self) -> npt.NDArray[np.float64]:
        """(2, L): negatives, then positives; a target is the row's number."""
        return np.stack([self.negatives, self.positives])


Entrywise = Callable[[Tensor, Tensor], Tensor]


class Loss(abc.ABC):
    """A loss by entries. Derived classes give `values` and `derivatives` of assessed entries; masking happens here.

    Computed in float32, whatever shorter type the logits have, and in float64 for float64. Targets are 1, 0 or NaN.
    """

    @abc.abstractmethod
    def values(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Each entry's loss; both (..., N, L), targets 1 or 0 (a null one comes as 0, and its value is not used)."""

    @abc.abstractmethod
    def derivatives(self, logits: Tensor, targets: Tensor) -> Tensor:
        """d values / d logits in closed form, for a caller that writes its own gradient."""

    @abc.abstractmethod
    def sigmoid_form(self, labels: int) -> SigmoidForm:
        """The same by the numbers of `SigmoidForm`, but for a weight that an entry has from its image's targets."""

    def at(self, progress: float) -> Loss:
        """The loss as it is when `progress` (0 at the start, 1 at the end) of the planned training is done."""
        return self

    def entries(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Each entry's loss, of the logits' shape (..., N, L); targets (N, L), or of the same shape.

        Where a target is NaN the loss and its gradient are exactly 0, whatever the logit is.
        """
        return self._masked(self.values, logits, targets)

    def slopes(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Derivative of each entry by its own logit, shapes as in `entries`; 0 where the target is NaN."""
        return self._masked(self.derivatives, logits, targets)

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """(...): sum of the entries over the last two axes, divided by the number that is assessed (at least 1)."""
        assessed = (~targets.isnan()).sum(dim=(-2, -1)).clamp(min=1)
        return self.entries(logits, targets).sum(dim=(-2, -1)) / assessed

    @staticmethod
    def _masked(function: Entrywise, logits: Tensor, targets: Tensor) -> Tensor:
        if logits.dtype != torch.float64:
            logits = logits.float()
        assessed = ~targets.isnan()
        # masked before the formula too: the gradient of `where` would else be 0 times whatever a wild logit gives
        logits = torch.where(assessed, logits, 0.0)
        known = torch.where(assessed, targets, 0.0).to(logits.dtype).expand_as(logits)
        return torch.where(assessed, function(logits, known), 0.0)
