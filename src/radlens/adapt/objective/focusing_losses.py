"""Losses that fade out entries which are right already: focal and asymmetric."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

from radlens.adapt.objective.loss import Loss
from radlens.adapt.objective.sigmoid_form import SigmoidForm

LEAST = 1e-30


def _focused(signed: Tensor, gamma: float) -> Tensor:
    """-(1 - q)^gamma log q with q = sigmoid(signed), in logarithms, so that no end of it is 0 times infinity."""
    return -torch.exp(gamma * logsigmoid(-signed)) * logsigmoid(signed)


def _focused_derivative(signed: Tensor, gamma: float) -> Tensor:
    """By `signed`: -(1 - q)^gamma (1 - q - gamma q log q)."""
    wrong = torch.sigmoid(-signed)
    right_log = (1 - wrong).mul_(softplus(-signed))
    return torch.add(wrong, right_log, alpha=gamma).mul_(wrong**gamma).neg_()


def _form(
    labels: int, weight: tuple[float, float], gamma: tuple[float, float], clip: tuple[float, float]
) -> SigmoidForm:
    """weight * -m^gamma log(1 - m), m = max(w - clip, 0) and w the probability of what is wrong; of targets 0 and 1."""
    sign = np.array([[1.0], [-1.0]]).repeat(labels, axis=1)
    factor = sign * np.array(weight)[:, None]
    return SigmoidForm(sign, np.zeros_like(sign), factor, np.array(gamma), np.array(clip))


@dataclass(frozen=True)
class FocalLoss(Loss):
    """-a (1 - q)^gamma log q, q the probability of what is true; a = alpha for target 1, 1 - alpha for target 0.

    Lin et al., "Focal loss for dense object detection", ICCV 2017, equation 5.
    """

    gamma: float
    alpha: float

    def values(self, logits: Tensor, targets: Tensor) -> Tensor:
        return self._alpha(targets) * _focused(torch.where(targets > 0, logits, -logits), self.gamma)

    def derivatives(self, logits: Tensor, targets: Tensor) -> Tensor:
        sign = 2 * targets - 1
        return self._alpha(targets) * sign * _focused_derivative(sign * logits, self.gamma)

    def sigmoid_form(self, labels: int) -> SigmoidForm:
        return _form(labels, (1 - self.alpha, self.alpha), (self.gamma, self.gamma), (0.0, 0.0))

    def _alpha(self, targets: Tensor) -> Tensor:
        return (1 - self.alpha) + (2 * self.alpha - 1) * targets


@dataclass(frozen=True)
class AsymmetricLoss(Loss):
    """Target 1: -(1 - p)^gamma_pos log p; target 0: -m^gamma_neg log(1 - m), m = max(p - clip, 0), p = sigmoid(z).

    Ben-Baruch et al., "Asymmetric loss for multi-label classification", ICCV 2021, equations 4 to 7. The focusing
    factors are differentiated too, as in the paper's analysis of the gradient.
    """

    gamma_neg: float
    gamma_pos: float
    clip: float

    def values(self, logits: Tensor, targets: Tensor) -> Tensor:
        if self.clip == 0:
            negative = _focused(-logits, self.gamma_neg)
        else:
            kept, shifted, rest = self._shifted(logits)
            negative = -kept * shifted**self.gamma_neg * torch.log(rest)
        return torch.where(targets > 0, _focused(logits, self.gamma_pos), negative)

    def derivatives(self, logits: Tensor, targets: Tensor) -> Tensor:
        positive = _focused_derivative(logits, self.gamma_pos)
        if self.clip == 0:
            negative = -_focused_derivative(-logits, self.gamma_neg)
        else:
            kept, shifted, rest = self._shifted(logits)
            probability = torch.sigmoid(logits)
            inner = torch.log(rest).div_(shifted).mul_(-self.gamma_neg).add_(rest.reciprocal())
            negative = inner.mul_(shifted**self.gamma_neg).mul_(kept).mul_(probability - probability**2)
        return torch.lerp(negative, positive, targets)

    def sigmoid_form(self, labels: int) -> SigmoidForm:
        return _form(labels, (1.0, 1.0), (self.gamma_neg, self.gamma_pos), (self.clip, 0.0))

    def _shifted(self, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """1 where m > 0, else 0; m; 1 - m. Where m is 0 the latter two are constants whose powers are finite."""
        more = torch.sigmoid(logits) - self.clip
        # 1 - p + clip and not 1 - m: no digit is lost at a probability near 1
        return (more > 0).to(more.dtype), more.clamp(min=LEAST), (torch.sigmoid(-logits) + self.clip).clamp(max=1)
