"""Pulmonary vessels: trees that fan out of the hila and thin towards the periphery."""

import numpy as np

from .anatomy import Anatomy
from .blur import F32
from .grid import F64, Grid

_SALT_VESSELS = 4
_LEVELS = 5


def draw_vessels(a: Anatomy, grid: Grid, seed: int, patient: int) -> F32:
    """Path length (size, size) in cm through vessels, not yet cut at the lung's border."""
    rng = np.random.default_rng([seed, patient, _SALT_VESSELS])
    out = np.zeros((grid.size, grid.size), np.float32)
    hx, hy = a.hilum
    side = np.repeat([-1.0, 1.0], 10)
    angle = np.tile(np.linspace(-1.35, 1.45, 10), 2) + rng.normal(0, 0.12, 20)
    x = side * (hx - 0.4) + rng.normal(0, 0.3, 20)
    y = hy + 1.3 * np.sin(angle) + rng.normal(0, 0.3, 20)
    radius = a.vessel * (0.42 + 0.08 * np.sin(angle)) * rng.uniform(0.75, 1.2, 20)
    length = rng.uniform(2.4, 3.9, 20)
    for level in range(_LEVELS):
        bend = rng.normal(0, 0.28, len(x))
        xs, ys = _arc(x, y, side, angle, bend, length, max(8, int(3.2 / grid.pixel * 0.84**level)))
        taper = np.linspace(1.0, 0.78, xs.shape[1])
        out += grid.tubes(xs, ys, radius[:, None] * taper)
        x, y, angle = xs[:, -1].repeat(2), ys[:, -1].repeat(2), (angle + bend).repeat(2)
        side, radius, length = side.repeat(2), radius.repeat(2), length.repeat(2)
        split = np.tile([-1.0, 1.0], len(x) // 2) * rng.uniform(0.15, 0.5, len(x))
        angle = angle + split
        radius = radius * rng.uniform(0.55, 0.82, len(x))
        length = length * rng.uniform(0.62, 0.95, len(x))
    return out


def _arc(x: F64, y: F64, side: F64, angle: F64, bend: F64, length: F64, points: int) -> tuple[F64, F64]:
    t = np.linspace(0, 1, points)
    heading = angle[:, None] + bend[:, None] * t
    step = length[:, None] / points
    xs = x[:, None] + side[:, None] * np.cumsum(np.cos(heading), axis=1) * step
    ys = y[:, None] + np.cumsum(np.sin(heading), axis=1) * step
    return xs, ys
