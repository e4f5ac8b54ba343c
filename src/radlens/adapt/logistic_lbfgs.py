"""Logistic regression to its optimum: all labels together by L-BFGS, in coordinates that make the loss nearly round."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import eigh
from scipy.optimize import minimize
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

from radlens.core.parts import Floats

Doubles = npt.NDArray[np.float64]
BLOCK = 4096
MOST_ITERATIONS = 1000
TOLERANCE = 1e-6
MOST_HELD = 1 << 25
"""Numbers of a cohort (images x dimensions) up to which its float64 copy is kept: 256 MiB."""
_JITTER = 1e-8


@dataclass(frozen=True)
class ExactFit:
    """weight (L, D), bias (L,) float64. converged: whether the gradient got as small as was asked for."""

    weight: Doubles
    bias: Doubles
    iterations: int
    converged: bool


class LogisticProblem:
    """Masked logistic regression on the same images for any strengths: what does not depend on them is made once.

    For each label with positives and negatives the loss is

        mean over its assessed images of log(1 + exp(-s (w @ x + b))) + strength / 2 * |w - centre|^2,  s = 1 or -1,

    the bias b unpenalised. scikit-learn's `C` is 1 / (images * strength). A label whose assessed targets are all alike
    has no finite optimum: it keeps w = centre, and b makes the mean of `centre @ x + b` the log odds of (positives +
    1/2) to (negatives + 1/2). A label without assessed targets keeps w = centre, and b makes the mean over all
    images 0.
    """

    def __init__(self, embeddings: Floats, targets: Floats, centre: Doubles | None = None) -> None:
        """embeddings (N, D), targets (N, L) with NaN for null, centre (L, D), zero without one."""
        labels, dimension = targets.shape[1], embeddings.shape[1]
        self.embeddings = embeddings
        self.centre = np.zeros((labels, dimension)) if centre is None else centre.astype(np.float64)
        positives, negatives = (targets == 1).sum(axis=0), (targets == 0).sum(axis=0)
        self.free = np.flatnonzero((positives > 0) & (negatives > 0))
        self.mean = embeddings.mean(axis=0, dtype=np.float64)
        self._held = self.embeddings - self.mean if embeddings.size <= MOST_HELD else None
        self.counts = (positives + negatives).astype(np.float64)
        odds = (positives + 0.5) / (negatives + 0.5)
        share = odds / (1 + odds)
        self.curvature = (share * (1 - share))[self.free]
        self.constant = np.log(odds) - self._mean_scores(targets)
        signs = np.nan_to_num(2 * targets[:, self.free] - 1)
        self.signs = np.ascontiguousarray(signs, np.float32)
        covariance = self._covariance()
        self.variance = float(covariance.diagonal().mean())
        variances, self.directions = eigh(covariance)
        self.variances = np.maximum(variances, _JITTER * max(self.variance, 1e-30))

    def fit(self, strengths: Doubles, start: ExactFit | None = None) -> ExactFit:
        """The optimum for strengths (L,), each at least 0; begun at `start` if given, else at `centre`.

        An infinite strength holds w at the centre: the bias alone is fitted.
        """
        weight, bias, free = self.centre.copy(), self.constant.copy(), self.free
        if not len(free):
            return ExactFit(weight, bias, 0, True)
        held = np.isinf(strengths[free])
        strength = np.where(held, 0.0, strengths[free])
        # in these coordinates (the directions of the covariance, each scaled) every Hessian is about the identity
        stretch = np.sqrt(self.curvature)[:, None]
        scale = np.sqrt(self.curvature[:, None] * self.variances + strength[:, None])
        shape = len(free), len(self.mean) + 1

        def parameters(flat: Doubles) -> tuple[Doubles, Doubles]:
            u = flat.reshape(shape)
            w = (u[:, :-1] / scale) @ self.directions.T
            w[held] = self.centre[free][held]
            return w, u[:, -1] / stretch[:, 0]

        def loss(flat: Doubles) -> tuple[float, Doubles]:
            w, offset = parameters(flat)
            value, of_weight, of_offset = self._loss(w, offset)
            away = w - self.centre[free]
            of_weight += strength[:, None] * away
            of_weight[held] = 0
            gradient = np.empty(shape)
            gradient[:, :-1] = of_weight @ self.directions / scale
            gradient[:, -1] = of_offset / stretch[:, 0]
            return value + float(strength @ (away**2).sum(axis=1)) / 2, gradient.ravel()

        first = weight[free] if start is None else start.weight[free]
        intercept = (bias if start is None else start.bias)[free] + first @ self.mean
        options = {
            "maxiter": MOST_ITERATIONS,
            "maxfun": 2 * MOST_ITERATIONS,
            "maxcor": 20,
            "gtol": TOLERANCE,
            "ftol": 0.0,
        }
        begun = np.hstack([first @ self.directions * scale, intercept[:, None] * stretch])
        # threads that wait for each other cost more than such products where these are small
        with ThreadpoolController().limit(limits=None if self._held is None else 1, user_api="blas"):
            found = minimize(loss, begun.ravel(), jac=True, method="L-BFGS-B", options=options)
        weight[free], offset = parameters(found.x)
        bias[free] = offset - weight[free] @ self.mean
        return ExactFit(weight, bias, int(found.nit), bool(np.abs(found.jac).max() <= 100 * TOLERANCE))

    def _loss(self, weight: Doubles, offset: Doubles) -> tuple[float, Doubles, Doubles]:
        """Sum of the labels' mean losses, and its derivatives by weight and by offset (the bias at the mean image)."""
        value, of_weight, of_offset = 0.0, np.zeros_like(weight), np.zeros(len(weight))
        share = 1 / self.counts[self.free]
        for here, x in self._blocks():
            sign = self.signs[here]
            against = -sign * (x @ weight.T + offset)
            rest = np.exp(-np.abs(against))
            losses = np.maximum(against, 0) + np.log1p(rest)
            known = sign != 0
            value += float(losses.sum(axis=0, where=known) @ share)
            # sigmoid(against) from exp(-|against|)
            wrong = np.where(against >= 0, 1.0, rest) / (1 + rest)
            error = -sign * wrong * share
            of_weight += error.T @ x
            of_offset += error.sum(axis=0)
        return value, of_weight, of_offset

    def _blocks(self) -> Iterator[tuple[slice, Doubles]]:
        """Images less their mean in float64; some at a time where all would need much memory."""
        for start in range(0, len(self.embeddings), BLOCK):
            here = slice(start, start + BLOCK)
            yield here, self.embeddings[here] - self.mean if self._held is None else self._held[here]

    def _covariance(self) -> Doubles:
        total = np.zeros((len(self.mean), len(self.mean)))
        for _, x in self._blocks():
            total += x.T @ x
        return total / len(self.embeddings)

    def _mean_scores(self, targets: Floats) -> Doubles:
        """(L,): mean of centre @ x over each label's assessed images, over all images where it has none."""
        sums = np.zeros(len(self.counts))
        if self.centre.any():
            for here, x in self._blocks():
                sums += (x @ self.centre.T).sum(axis=0, where=~np.isnan(targets[here]))
        return np.asarray(self.centre @ self.mean + sums / np.maximum(self.counts, 1))
