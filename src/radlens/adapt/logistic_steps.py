"""AdamW on one matrix in as few passes over it as it takes."""

from __future__ import annotations

import math

import numpy as np
from scipy.linalg.blas import saxpy

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
STEPS_UNSETTLED = 64
"""Steps after which the scalars are multiplied in: 0.9 ** -64 is 850, far from what float32 cannot hold."""
LEAST_KEPT = 0.9


class AdamW:
    """Decoupled weight decay (Loshchilov and Hutter, ICLR 2019) with torch's defaults for the moments.

    Everything that decays at a rate common to all parameters is kept as a scalar beside its matrix: the weights are
    `scale * weight`, and a moment's matrix is the moment divided by its decay so far. A step then adds to the matrices
    and multiplies none; `settle` multiplies the scalars in. (Moments also lack their factors 1 - beta, which go into
    the step's length.)
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self.weight, self.gradient = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        self.scale = 1.0
        self._flat, self._of_gradient = self.weight.reshape(-1), self.gradient.reshape(-1)
        self._first, self._second, self._step = (np.zeros_like(self._flat) for _ in range(3))
        self._decay1 = self._decay2 = 1.0
        self._updates = self._unsettled = 0
        self._power1 = self._power2 = 1.0
        self._rate, self._kept = 0.0, 1.0

    def begin(self, rate: float, weight_decay: float) -> None:
        """The learning rate and decay of the steps that follow."""
        self._rate, self._kept = rate, 1 - rate * weight_decay

    def step(self) -> None:
        """Update by `gradient` (which is lost)."""
        if self._unsettled == STEPS_UNSETTLED:
            self.settle()
        self._unsettled += 1
        self._decay1 *= BETA1
        self._decay2 *= BETA2
        self._power1 *= BETA1
        self._power2 *= BETA2
        gradient, step = self._of_gradient, self._step
        saxpy(gradient, self._first, a=1 / self._decay1)
        np.multiply(gradient, gradient, gradient)
        saxpy(gradient, self._second, a=1 / self._decay2)
        np.sqrt(self._second, step)
        # root * sqrt(second matrix) is the corrected second moment's root
        root = math.sqrt(self._decay2 * (1 - BETA2) / (1 - self._power2))
        np.add(step, EPSILON / root, step)
        np.divide(self._first, step, step)
        if self._kept > LEAST_KEPT:
            self.scale *= self._kept
        else:
            self._flat *= self._kept
        saxpy(step, self._flat, a=-self._rate * self._decay1 * (1 - BETA1) / ((1 - self._power1) * root * self.scale))

    def settle(self) -> None:
        """Multiply the scalars in, so that `weight` is the weights."""
        self._flat *= self.scale
        self._first *= self._decay1
        self._second *= self._decay2
        self.scale = self._decay1 = self._decay2 = 1.0
        self._unsettled = 0
