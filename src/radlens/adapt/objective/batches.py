"""Several batches of several seeds at once: what their steps need of the targets, and the errors they give back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from radlens.adapt.objective.logistic_losses import DistributionBalancedLoss
from radlens.adapt.objective.loss import Loss
from radlens.adapt.objective.stacked import Pair, StackedForms
from radlens.core.parts import Floats

LEAST, MOST = 1e-30, 1 - 2**-24
"""Between these the logarithms of a probability and of its complement are finite in float32."""


@dataclass(frozen=True)
class Targets:
    """positive (N, L): 1 for target 1, else 0. assessed (N, L): 0 for null, else 1; None if no target is null.

    entries: how many are assessed. balance: of each re-balanced loss, by its `id`, an entry's own weight (N, L).
    """

    positive: Tensor
    assessed: Tensor | None
    entries: int
    balance: dict[int, Tensor]

    @classmethod
    def of(cls, targets: Floats, losses: Sequence[Loss]) -> Targets:
        """targets (N, L) float32, 1, 0 or NaN; losses: all that will be trained."""
        given = torch.from_numpy(targets)
        positive, known = given.nan_to_num(0.0), ~given.isnan()
        balance = {id(x): x.rebalance(positive) for x in losses if isinstance(x, DistributionBalancedLoss)}
        return cls(positive, None if bool(known.all()) else known.float(), int(known.sum()), balance)


class StepBlock:
    """Buffers for K steps, in each of which S seeds see B images of their own and H heads of L labels each.

    `prepare` looks up what the targets of all K steps bring; a step writes its logits (S, B, H * L) to `logits[step]`
    and takes `error` (S, B, H * L), the derivative of its heads' mean losses, from `to_error(step)`; at the end
    `plain_losses` is taken. Nothing is allocated in a step, and every view of a buffer is made here, once.
    """

    def __init__(self, shape: tuple[int, int, int, int, int], focusing: int) -> None:
        steps, seeds, batch, heads, labels = self.shape = shape
        wide = steps, seeds, batch, heads * labels
        self._positive, self._slope, self._offset, self._factor, self._logits = (torch.empty(wide) for _ in range(5))
        self.logits, self._slopes = list(self._logits), list(self._slope)
        self._offsets, self._factors = list(self._offset), list(self._factor)
        self.error = torch.empty(wide[1:])
        self._focusing = focusing * labels
        self._gated = False
        if focusing:
            pairs = 2, seeds, batch, self._focusing
            # what is subtracted from w for m, and from w for itself
            self._clip, self._powers = torch.zeros(steps, *pairs), torch.empty(steps, *pairs)
            self._clips, self._both_powers = list(self._clip), list(self._powers)
            self._wrong = self.error[..., -self._focusing :]
            four = torch.empty(4, *pairs[1:])
            self._margin, self._clamped, self._rest, self._right = four
            self._margin_and_clamped, self._rest_and_right, self._margin_and_rest = four[:2], four[2:], four[::2]
            self._inner, self._open = torch.empty(pairs[1:]), torch.empty(pairs[1:])

    def prepare(self, rows: Tensor, targets: Targets, forms: StackedForms, losses: Sequence[Sequence[Loss]]) -> None:
        """rows (k, S, B) of at most K steps; forms and losses of the S x H heads."""
        _, _, batch, _, labels = self.shape
        steps, flat = len(rows), rows.flatten()
        per_label = steps, rows.shape[1], batch, 1, labels
        positive, factor = self._positive[:steps], self._factor[:steps]
        by_head = self._by_head(factor)
        found = targets.positive.index_select(0, flat).view(per_label)
        self._by_head(positive).copy_(found)
        for pair, out in ((forms.slope, self._slope), (forms.offset, self._offset), (forms.factor, self._factor)):
            _look_up(pair, positive, out[:steps])
        if targets.assessed is None:
            factor.mul_(1 / (batch * labels))
        else:
            known = targets.assessed.index_select(0, flat).view(per_label)
            by_head.mul_(known / known.sum(dim=(2, 3, 4), keepdim=True).clamp_(min=1))
        for seed, of_seed in enumerate(losses):
            for head, loss in enumerate(of_seed):
                balance = targets.balance.get(id(loss))
                if balance is not None:
                    own = balance.index_select(0, rows[:, seed].flatten())
                    by_head[:, seed, :, head].mul_(own.view(steps, batch, labels))
        if forms.focus is not None:
            (gamma, clip), narrow = forms.focus, positive[..., -self._focusing :]
            _look_up(clip, narrow, self._clip[:steps, 0])
            # the exponent of m beside the factor of log(1 - m), so that one product serves both
            _look_up(gamma, narrow, self._powers[:steps, 1])
            torch.sub(self._powers[:steps, 1], 1, out=self._powers[:steps, 0])
            self._gated = forms.gated

    def to_error(self, step: int) -> Tensor:
        """Logits to the derivatives, in place of the last step's."""
        error = self.error
        torch.addcmul(self._offsets[step], self._slopes[step], self.logits[step], out=error)
        error.sigmoid_()
        if self._focusing:
            self._focus(step)
        return error.mul_(self._factors[step])

    def _focus(self, step: int) -> None:
        """K(w) in place of w, as w m^(gamma - 1) (m (1 - w) / (1 - m) - gamma (1 - w) log(1 - m)).

        Without a clip the quotient is exactly 1: nothing cancels where w is near 1.
        """
        margin, inner = self._margin, self._inner
        torch.sub(self._wrong, self._clips[step], out=self._margin_and_clamped)
        if self._gated:
            torch.gt(margin, 0, out=self._open)
        self._margin_and_clamped.clamp_(LEAST, MOST)
        torch.sub(1, self._margin_and_clamped, out=self._rest_and_right)
        torch.div(self._right, self._rest, out=inner)
        inner.mul_(margin)
        self._margin_and_rest.log_().mul_(self._both_powers[step])
        inner.addcmul_(self._rest, self._right, value=-1).mul_(margin.exp_())
        if self._gated:
            inner.mul_(self._open)
        torch.mul(inner, self._clamped, out=self._wrong)

    def plain_losses(self, rows: Tensor, targets: Targets) -> Tensor:
        """(S, H * L): sums of masked binary cross-entropy over the steps prepared, at their `logits`; `rows` as there.

        What the steps have looked up is lost.
        """
        _, _, batch, _, labels = self.shape
        steps = len(rows)
        # of the labels' own size, and warm
        against, losses, logits = self._slope[:steps], self._offset[:steps], self._logits[:steps]
        torch.addcmul(logits, logits, self._positive[:steps], value=-2, out=against)
        softplus(against, losses)
        if targets.assessed is not None:
            known = targets.assessed.index_select(0, rows.flatten()).view(steps, -1, batch, 1, labels)
            self._by_head(losses).mul_(known)
        return losses.sum(dim=(0, 2))

    def _by_head(self, tensor: Tensor) -> Tensor:
        """(k, S, B, H * L) -> (k, S, B, H, L)."""
        return tensor.view(*tensor.shape[:-1], self.shape[3], self.shape[4])


def softplus(values: Tensor, out: Tensor) -> Tensor:
    """log(1 + exp(u)) = max(u, 0) + log(1 + exp(-|u|)); `values` are lost. Half the time of torch's own."""
    torch.abs(values, out=out)
    out.neg_().exp_().add_(1).log_()
    return out.add_(values.clamp_(min=0))


def _look_up(pair: Pair, positive: Tensor, out: Tensor) -> None:
    torch.addcmul(pair[0], positive, pair[1], out=out)
