"""A linear probe in closed form: ridge regression on targets of 1 and -1, made probabilities by Platt scaling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import eigh

from radlens.core.parts import Floats

Doubles = npt.NDArray[np.float64]
BLOCK = 4096
LEAST_SLOPE = 0.05
_ROUNDS = 100


@dataclass(frozen=True)
class RidgeFit:
    """For each strength weight (G, L, D) and bias (G, L) of the logits, and slope (G, L): logit = slope * score + ...

    Of a label without a fit the slope is 0.
    """

    weight: Doubles
    bias: Doubles
    slope: Doubles


def fit_ridge(embeddings: Floats, targets: Floats, strengths: Sequence[float]) -> RidgeFit:
    """embeddings (N, D), targets (N, L) with NaN for null, strengths each at least 0.

    For each label over its n assessed images alone: sum of (w @ x + b - s)^2 / n + strength * |w|^2 is least, s = 1 or
    -1, b unpenalised; scikit-learn's `alpha` is n * strength. Labels that share their nulls share an
    eigendecomposition, and all strengths do. Platt scaling (Platt, 1999, with smoothed targets) then fits
    logit = slope * score + shift. Its scores are not those of the images that w was fitted to, which are too good, but
    what each would be with that image left out: for ridge regression s - (s - score) / (1 - leverage), exactly. The
    slope is at least 0.05, so that an order of images is kept. A label whose targets are all alike gets weight 0 and
    the log odds of (positives + 1/2) to (negatives + 1/2) as its bias, one without targets 0.
    """
    labels, dimension = targets.shape[1], embeddings.shape[1]
    weight, (bias, slope) = np.zeros((len(strengths), labels, dimension)), np.zeros((2, len(strengths), labels))
    positives, negatives = (targets == 1).sum(axis=0), (targets == 0).sum(axis=0)
    bias[:] = np.where(positives + negatives > 0, np.log((positives + 0.5) / (negatives + 0.5)), 0)
    groups: dict[bytes, list[int]] = {}
    for label in np.flatnonzero((positives > 0) & (negatives > 0)).tolist():
        groups.setdefault(np.packbits(np.isnan(targets[:, label])).tobytes(), []).append(label)
    for members in groups.values():
        rows = np.flatnonzero(~np.isnan(targets[:, members[0]]))
        signs = 2 * targets[rows][:, members].astype(np.float64) - 1
        mean, values, vectors, moment = _decomposed(embeddings, rows, signs)
        level = signs.mean(axis=0)
        # (G, D): what each direction is divided by; a direction without any variance gets no weight
        floor = 1e-12 * max(float(values.max()), 1e-300) * len(rows)
        divisors = np.maximum(values, 0) + len(rows) * np.asarray(strengths)[:, None]
        inverse = np.where(divisors > floor, 1 / np.maximum(divisors, floor), 0)
        rotated = inverse[:, :, None] * moment
        left_out = _left_out(embeddings, rows, signs, mean, vectors, inverse, rotated, level)
        for place, label in enumerate(members):
            for number in range(len(strengths)):
                a, b = platt(left_out[number, :, place], signs[:, place] > 0)
                w = vectors @ rotated[number, :, place]
                weight[number, label], slope[number, label] = a * w, a
                bias[number, label] = a * (level[place] - w @ mean) + b
    return RidgeFit(weight, bias, slope)


def _decomposed(
    embeddings: Floats, rows: npt.NDArray[np.int64], signs: Doubles
) -> tuple[Doubles, Doubles, Doubles, Doubles]:
    """Mean (D,) of the rows, eigenvalues (D,) and -vectors (D, D) of their scatter, X'S (D, M) in those vectors."""
    dimension = embeddings.shape[1]
    # about any point near the mean, so that no digit is lost; the mean itself follows
    about = embeddings[rows[:BLOCK]].mean(axis=0, dtype=np.float64)
    scatter, total, moment = (
        np.zeros((dimension, dimension)),
        np.zeros(dimension),
        np.zeros((dimension, signs.shape[1])),
    )
    level = signs.mean(axis=0)
    for start in range(0, len(rows), BLOCK):
        x = embeddings[rows[start : start + BLOCK]] - about
        scatter += x.T @ x
        total += x.sum(axis=0)
        moment += x.T @ (signs[start : start + BLOCK] - level)
    scatter -= np.outer(total, total) / len(rows)
    values, vectors = eigh(scatter)
    return about + total / len(rows), values, vectors, vectors.T @ moment


def _left_out(
    embeddings: Floats,
    rows: npt.NDArray[np.int64],
    signs: Doubles,
    mean: Doubles,
    vectors: Doubles,
    inverse: Doubles,
    rotated: Doubles,
    level: Doubles,
) -> Floats:
    """(G, n, M): each image's score by the regression on all others."""
    count, strengths, members = len(rows), len(inverse), signs.shape[1]
    found = np.empty((strengths, count, members), np.float32)
    turn = vectors.astype(np.float32)
    for start in range(0, count, BLOCK):
        here = slice(start, min(start + BLOCK, count))
        x = (embeddings[rows[here]] - mean).astype(np.float32) @ turn
        leverage = 1 / count + (x * x) @ inverse.T
        for number in range(strengths):
            wrong = signs[here] - x @ rotated[number] - level
            # an image that alone decides its own score says nothing of the others
            found[number, here] = signs[here] - wrong / np.maximum(1 - leverage[:, number, None], 1e-6)
    return found


def platt(scores: Floats | Doubles, positive: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Slope (at least 0.05) and shift of least cross-entropy for scores (N,), against Platt's smoothed targets.

    The targets are (n1 + 1) / (n1 + 2) for positives and 1 / (n0 + 2) for negatives. Newton's method, halved steps.
    """
    z = scores.astype(np.float64)
    n1 = int(positive.sum())
    t = np.where(positive, (n1 + 1) / (n1 + 2), 1 / (len(z) - n1 + 2))
    share = float(t.mean())
    slope, shift = _newton(z, t, 1.0, float(np.log(share / (1 - share)) - z.mean()), free=True)
    if slope < LEAST_SLOPE:
        slope, shift = _newton(z, t, LEAST_SLOPE, float(np.log(share / (1 - share))), free=False)
    return slope, shift


def _newton(z: Doubles, t: Doubles, slope: float, shift: float, *, free: bool) -> tuple[float, float]:
    def loss(slope: float, shift: float) -> float:
        u = slope * z + shift
        return float(np.mean(np.maximum(u, 0) + np.log1p(np.exp(-np.abs(u))) - t * u))

    now = loss(slope, shift)
    for _ in range(_ROUNDS):
        p = (1 + np.tanh((slope * z + shift) / 2)) / 2
        error, bend = p - t, p * (1 - p) + 1e-12
        gradient = np.array([float((error * z).mean()) if free else 0.0, float(error.mean())])
        cross = float((bend * z).mean()) if free else 0.0
        hessian = np.array([[float((bend * z * z).mean()) if free else 1.0, cross], [cross, float(bend.mean())]])
        step = np.linalg.solve(hessian + 1e-12 * np.eye(2), gradient)
        size = 1.0
        while (then := loss(slope - size * step[0], shift - size * step[1])) > now and size > 1e-6:
            size /= 2
        if then > now:
            break
        slope, shift = slope - size * float(step[0]), shift - size * float(step[1])
        if now - then <= 1e-13:
            break
        now = then
    return slope, shift
