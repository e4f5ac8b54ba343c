"""One slope for all labels and a bias for each: what makes uncalibrated logits, such as zero-shot's, probabilities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from radlens.core.parts import Floats

LEAST_SLOPE, GREATEST_SLOPE = 0.05, 20.0
PRIOR = 0.01
"""Precision of a Gaussian prior around 0 that keeps the bias of a label without positives finite."""
_ROUNDS = 50
_Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Calibration:
    """logits -> slope * logits + bias; bias (L,). bce: masked cross-entropy of the result where it was fitted."""

    slope: float
    bias: _Doubles
    bce: float


def calibrate(logits: Floats, targets: Floats) -> Calibration:
    """Platt scaling with a slope that labels share: the least masked cross-entropy of `slope * logits + bias`.

    logits, targets (N, L), NaN target = not assessed; at least one assessed. The problem is convex; Newton's method
    solves it. The slope stays within 0.05 and 20, so that an order of images is never reversed or lost. A label whose
    targets are all alike gets a large but finite bias (Gaussian prior of precision 0.01), one without targets its mean
    logit's negative. Platt, Advances in Large Margin Classifiers, 1999.
    """
    known = ~np.isnan(targets)
    t = np.where(known, targets, 0).astype(np.float64)
    counts = np.maximum(known.sum(axis=0), 1)
    z = np.where(known, logits, 0).astype(np.float64)
    centre = z.sum(axis=0) / counts
    z = np.where(known, z - centre, 0)
    spread = float(np.sqrt((z**2).sum() / known.sum())) or 1.0
    z /= spread
    least, greatest = LEAST_SLOPE * spread, GREATEST_SLOPE * spread
    start = np.log((t.sum(axis=0) + 0.5) / (counts - t.sum(axis=0) + 0.5))
    slope, bias = _newton(z, t, known, min(max(1.0, least), greatest), start, free=True)
    if not least <= slope <= greatest:
        slope, bias = _newton(z, t, known, min(max(slope, least), greatest), start, free=False)
    bce = _total(slope * z + bias, t, known) / float(known.sum())
    return Calibration(slope / spread, bias - slope / spread * centre, bce)


def _newton(
    z: _Doubles, t: _Doubles, known: npt.NDArray[np.bool_], slope: float, bias: _Doubles, *, free: bool
) -> tuple[float, _Doubles]:
    """The slope (left as it is unless `free`) and biases (L,) of least penalised loss."""

    def loss(slope: float, bias: _Doubles) -> float:
        return _total(slope * z + bias, t, known) + PRIOR / 2 * (float(bias @ bias) + slope**2 * free)

    now = loss(slope, bias)
    for _ in range(_ROUNDS):
        p = (1 + np.tanh((slope * z + bias) / 2)) / 2
        error, curvature = (p - t) * known, p * (1 - p) * known
        gradient, bend = error.sum(axis=0) + PRIOR * bias, curvature.sum(axis=0) + PRIOR
        step_slope = 0.0
        cross = (curvature * z).sum(axis=0)
        if free:
            # biases meet the slope alone: eliminating them leaves one equation
            of_slope = float((error * z).sum()) + PRIOR * slope
            bend_slope = float((curvature * z**2).sum()) + PRIOR
            step_slope = (of_slope - float(cross @ (gradient / bend))) / (bend_slope - float(cross @ (cross / bend)))
        step = (gradient - cross * step_slope) / bend
        share = 1.0
        while (then := loss(slope - share * step_slope, bias - share * step)) > now and share > 1e-6:
            share /= 2
        if then > now:
            break
        slope, bias = slope - share * step_slope, bias - share * step
        if now - then <= 1e-12 * abs(now):
            break
        now = then
    return slope, bias


def _total(logits: _Doubles, t: _Doubles, known: npt.NDArray[np.bool_]) -> float:
    return float(np.sum(np.logaddexp(0, logits) - t * logits, where=known))
