"""Fractures of ribs: a step, a gap, or the callus of an older one."""

import numpy as np

from .anatomy import Anatomy
from .scene import Scene, sides_of
from .skeleton import Break, break_point
from .thorax import Mask


def draw_breaks(rng: np.random.Generator, severity: float, side: str, anatomy: Anatomy) -> tuple[Break, ...]:
    """Draw one to four broken ribs; more and further displaced with severity."""
    s = sides_of(side)[0]
    count = 1 + int(severity * rng.uniform(0.8, 3.9))
    first = int(rng.integers(3, 8 - count // 2))
    place = float(rng.choice([rng.uniform(0.18, 0.36), rng.uniform(0.7, 0.82)]))
    healing = rng.random() < 0.4
    return tuple(
        Break(
            side=s,
            rib=min(first + k, 8),
            place=float(np.clip(place + rng.normal(0, 0.02), 0.1, 0.85)),
            step=float(rng.choice([-1.0, 1.0])) * (0.45 + 0.8 * severity) * (0.7 if healing else 1.0),
            gap=0.1 if healing else 0.3 + 0.5 * severity,
            callus=(0.5 + 0.6 * severity) if healing else 0.0,
        )
        for k in range(count)
    )


def swell_breaks(scene: Scene, breaks: tuple[Break, ...]) -> Mask:
    """Add callus or swelling around the fractures; the mask is a disc of 1.6 cm radius around each."""
    mask = scene.empty_mask()
    for fracture in breaks:
        cx, cy = break_point(scene.anatomy, fracture)
        box = scene.grid.box(cx, cy, 1.6, 1.6)
        x, y = scene.grid.x[box] - np.float32(cx), scene.grid.y[box] - np.float32(cy)
        far = x * x + y * y
        near = np.exp(-far / np.float32(0.65 if fracture.callus else 1.1))
        if fracture.callus:
            scene.bone[box] += near * np.float32(1.5 * fracture.callus)
        else:
            scene.soft[box] += near * np.float32(1.8 + 3.0 * (fracture.gap - 0.3))
        mask[box] |= far < 1.6**2
    return mask
