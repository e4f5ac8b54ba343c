"""Losses that weigh, shift or steepen the logistic loss, each label and each class by its own numbers.

With softplus(u) = log(1 + exp(u)) an entry is

    target 1: weight1 * softplus(-(slope1 * z + offset1))
    target 0: weight0 * softplus(  slope0 * z + offset0 )

and its derivative weight * slope * (sigmoid(slope * z + offset) - target). A loss is the table of these numbers,
computed once from the training counts n1 (positives) and n0 (negatives) of each label. A count of 0 is taken as 1, so
that a label without positives (or negatives) has finite numbers; they act on its other class alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from radlens.adapt.objective.loss import Counts, Loss
from radlens.adapt.objective.sigmoid_form import SigmoidForm

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LogisticLoss(Loss):
    """weight, slope and offset: float64 (2, L), row 0 for target 0 and row 1 for target 1."""

    weight: Doubles
    slope: Doubles
    offset: Doubles
    _placed: dict[Any, tuple[Tensor, Tensor, Tensor]] = field(default_factory=dict, repr=False, compare=False)

    def table(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """weight, slope, offset (2, L) of the type and on the device of `like`."""
        key = (like.dtype, like.device)
        if key not in self._placed:
            # the type first: a device may have no float64
            made = [torch.from_numpy(x).to(like.dtype).to(like.device) for x in (self.weight, self.slope, self.offset)]
            self._placed[key] = (made[0], made[1], made[2])
        return self._placed[key]

    def values(self, logits: Tensor, targets: Tensor) -> Tensor:
        weight, slope, offset = self._chosen(logits, targets)
        shifted = slope * logits + offset
        return -weight * logsigmoid(torch.where(targets > 0, shifted, -shifted))

    def derivatives(self, logits: Tensor, targets: Tensor) -> Tensor:
        weight, slope, offset = self._chosen(logits, targets)
        return weight * slope * (torch.sigmoid(slope * logits + offset) - targets)

    def sigmoid_form(self, labels: int) -> SigmoidForm:
        sign = np.array([[1.0], [-1.0]])
        return SigmoidForm(sign * self.slope, sign * self.offset, sign * self.weight * self.slope)

    def _chosen(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        weight, slope, offset = (torch.where(targets > 0, x[1], x[0]) for x in self.table(logits))
        return weight, slope, offset


def _loss(weight: Doubles, slope: Doubles | None = None, offset: Doubles | None = None) -> LogisticLoss:
    return LogisticLoss(
        weight,
        np.ones_like(weight) if slope is None else slope,
        np.zeros_like(weight) if offset is None else offset,
    )


def bce(counts: Counts) -> LogisticLoss:
    """-t log p - (1 - t) log(1 - p), p = sigmoid(z)."""
    return _loss(np.ones_like(counts.stacked()))


def weighted_bce(counts: Counts, max_positive_weight: float) -> LogisticLoss:
    """Positives weigh min(n0 / n1, max_positive_weight), negatives 1.

    King and Zeng, "Logistic regression in rare events data", Political Analysis 2001, section 4.2, up to a factor a
    label; the cap is ours: with 3 positives among 5,000 images the plain ratio lets three images decide all.
    """
    counts = counts.at_least_one()
    ratio = np.minimum(counts.negatives / counts.positives, max_positive_weight)
    return _loss(np.stack([np.ones_like(ratio), ratio]))


def effective_weights(counts: Counts, beta: float) -> Doubles:
    """(2, L): 1 / E(n) with E(n) = (1 - beta^n) / (1 - beta), scaled so that a label's two weights sum to 2."""
    inverse = (1 - beta) / (1 - beta ** counts.at_least_one().stacked())
    return np.asarray(2 * inverse / inverse.sum(axis=0))


def class_balanced(counts: Counts, beta: float) -> LogisticLoss:
    """Each class of each label weighs the inverse of its effective number of samples.

    Cui et al., "Class-balanced loss based on effective number of samples", CVPR 2019, equations 2 and 5, every label
    as a problem of two classes, weights normalised to the number of classes as in section 4.
    """
    return _loss(effective_weights(counts, beta))


def logit_adjusted(counts: Counts, tau: float) -> LogisticLoss:
    """Binary cross-entropy of z + tau log(n1 / n0); the prediction stays sigmoid(z).

    Menon et al., "Long-tail learning via logit adjustment", ICLR 2021, equation 10: softmax over f_y + tau log pi_y,
    which for two classes with z = f_1 - f_0 is this.
    """
    counts = counts.at_least_one()
    shift = tau * np.log(counts.positives / counts.negatives)
    return _loss(np.ones((2, len(shift))), offset=np.stack([shift, shift]))


@dataclass(frozen=True)
class MarginLoss(LogisticLoss):
    """LDAM: class weights come in when `defer` of the training is done."""

    later_weight: Doubles = field(kw_only=True)
    defer: float = field(kw_only=True)

    def at(self, progress: float) -> Loss:
        if progress < self.defer:
            return self
        return replace(self, weight=self.later_weight, defer=math.inf, _placed={})


def margin(counts: Counts, max_margin: float, scale: float, beta: float, defer: float) -> MarginLoss:
    """Softplus of -scale (z - m1) for positives and scale (z + m0) for negatives, m = max_margin (n_least / n)^(1/4).

    n_least is the least count that is not 0 over all labels and both classes, so that the rarest has `max_margin`; a
    class without samples has it too. From `defer` of the training on, each class also weighs as in `class-balanced`.
    Cao et al., "Learning imbalanced datasets with label-distribution-aware margin loss", NeurIPS 2019, equations 11
    to 13 and algorithm 1, every label as a problem of two classes with z = z_1 - z_0. Their scale of 30 is for logits
    that are cosines; the logits of a head here have no bound, so that the default is 1.
    """
    stacked = counts.stacked()
    seen = stacked[stacked > 0]
    least = seen.min() if len(seen) else 1.0
    shift = scale * max_margin * (least / np.maximum(stacked, least)) ** 0.25
    return MarginLoss(
        np.ones_like(stacked),
        np.full_like(stacked, scale),
        np.stack([shift[0], -shift[1]]),
        later_weight=effective_weights(counts, beta),
        defer=defer,
    )


@dataclass(frozen=True)
class DistributionBalancedLoss(LogisticLoss):
    """A logistic loss whose entries also weigh by how much their label is to blame for the image being drawn."""

    inverse: Doubles = field(kw_only=True)
    map_alpha: float = field(kw_only=True)
    map_beta: float = field(kw_only=True)
    map_mu: float = field(kw_only=True)

    def values(self, logits: Tensor, targets: Tensor) -> Tensor:
        return self.rebalance(targets) * super().values(logits, targets)

    def derivatives(self, logits: Tensor, targets: Tensor) -> Tensor:
        return self.rebalance(targets) * super().derivatives(logits, targets)

    def rebalance(self, targets: Tensor) -> Tensor:
        """(..., N, L): alpha + sigmoid(beta (r - mu)), r = (1 / n1) / sum over the image's positives of 1 / n1."""
        inverse = torch.from_numpy(self.inverse).to(targets.dtype).to(targets.device)
        # an image without positives: the limit of a sum towards 0, r infinite
        ratio = inverse / (targets * inverse).sum(dim=-1, keepdim=True)
        return self.map_alpha + torch.sigmoid(self.map_beta * (ratio - self.map_mu))


def distribution_balanced(
    counts: Counts, map_alpha: float, map_beta: float, map_mu: float, negative_scale: float, bias_scale: float
) -> DistributionBalancedLoss:
    """Re-balanced weighting and negative-tolerant regularisation.

    Target 1: r softplus(-(z - v)); target 0: r / lambda softplus(lambda (z - v)), with v = bias_scale log(n0 / n1),
    lambda = negative_scale and r as in `rebalance`. An image without positives has r = 1 + map_alpha for all labels;
    a null target is not a positive. Wu et al., "Distribution-balanced loss for multi-label classification in
    long-tailed datasets", ECCV 2020, equations 3 to 9; the defaults are those of the authors' released configuration
    for COCO, without its focal factor.
    """
    counts = counts.at_least_one()
    ones = np.ones_like(counts.positives)
    shift = bias_scale * np.log(counts.negatives / counts.positives)
    return DistributionBalancedLoss(
        np.stack([ones / negative_scale, ones]),
        np.stack([ones * negative_scale, ones]),
        np.stack([-negative_scale * shift, -shift]),
        inverse=1 / counts.positives,
        map_alpha=map_alpha,
        map_beta=map_beta,
        map_mu=map_mu,
    )
