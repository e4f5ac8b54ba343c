"""Logistic lines from logits to targets: one slope for all labels, an intercept for each, by Newton's method."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from radlens.evaluate.log_odds import to_probabilities

Array = npt.NDArray[np.float64]
LEAST_SLOPE = 0.01
"""Least slope, in units of the logits' spread: an order of images is never reversed or lost."""
_PRIOR = 0.01
"""Precision of a Gaussian prior on the slope in the same units; it only matters where the classes are separated."""
_ROUNDS = 60


@dataclass(frozen=True)
class Line:
    """logits -> slope * logits + intercepts (L,). held: the slope would be smaller, but stands at the least."""

    slope: float
    intercepts: Array
    held: bool = False


def fit_line(logits: Array, targets: Array, *, slope: float | None = None, intercepts: bool = True) -> Line:
    """Least masked cross-entropy of sigmoid(slope * logits + intercept of the label).

    logits (N, L) finite; targets (N, L) in [0, 1] (fractions allowed), NaN = left out. slope: fixed at this, else
    fitted for all labels together and kept positive. intercepts False: all are 0. With intercepts, every label needs
    targets that are neither all 0 nor all 1, else its intercept is infinite (here: where the rounds end).
    """
    known = ~np.isnan(targets)
    counts = known.sum(axis=0)
    t = np.where(known, targets, 0.0)
    z = np.where(known, logits, 0.0)
    centre = z.sum(axis=0) / np.maximum(counts, 1) if intercepts else np.zeros(z.shape[1])
    z = np.where(known, z - centre, 0.0)
    spread = float(np.sqrt((z**2).sum() / max(int(counts.sum()), 1))) or 1.0
    z /= spread
    totals = t.sum(axis=0)
    start = np.log((totals + 0.5) / (counts - totals + 0.5)) if intercepts else np.zeros(z.shape[1])
    free = slope is None
    steep, at = _newton(z, t, known, 1.0 if slope is None else slope * spread, start, free, intercepts)
    held = free and steep < LEAST_SLOPE
    if held:
        steep, at = _newton(z, t, known, LEAST_SLOPE, start, False, intercepts)
    return Line(steep / spread, at - steep / spread * centre, held)


def _newton(
    z: Array, t: Array, known: npt.NDArray[np.bool_], slope: float, at: Array, free: bool, intercepts: bool
) -> tuple[float, Array]:
    """Slope (fixed unless `free`) and intercepts (L,) of least loss; the slope is eliminated against the intercepts."""
    if not free and not intercepts:
        return slope, at
    now = _loss(slope, at, z, t, known, free)
    for _ in range(_ROUNDS):
        p = to_probabilities(slope * z + at)
        error, curvature = (p - t) * known, p * (1 - p) * known
        gradient, bend = error.sum(axis=0), np.maximum(curvature.sum(axis=0), 1e-12)
        cross = (curvature * z).sum(axis=0) * intercepts
        step_slope = 0.0
        if free:
            of_slope = float((error * z).sum()) + _PRIOR * slope - float(cross @ (gradient / bend)) * intercepts
            bend_slope = float((curvature * z**2).sum()) + _PRIOR - float(cross @ (cross / bend))
            step_slope = of_slope / bend_slope
        step = (gradient - cross * step_slope) / bend * intercepts
        share, then = 1.0, np.inf
        while share > 1e-8:
            then = _loss(slope - share * step_slope, at - share * step, z, t, known, free)
            if then <= now:
                break
            share /= 2
        if then > now:
            break
        slope, at = slope - share * step_slope, at - share * step
        if now - then <= 1e-13 * abs(now):
            break
        now = then
    return slope, at


def _loss(slope: float, at: Array, z: Array, t: Array, known: npt.NDArray[np.bool_], free: bool) -> float:
    x = slope * z + at
    cells = np.logaddexp(0.0, x) - t * x
    return float(np.where(known, cells, 0.0).sum()) + _PRIOR / 2 * slope**2 * free
