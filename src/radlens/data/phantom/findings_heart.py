"""Findings of heart and mediastinum. anatomy.reshape has moved the borders; here are only the masks."""

import numpy as np

from .scene import Scene
from .thorax import Mask


def draw_cardiomegaly(scene: Scene, rng: np.random.Generator, severity: float, side: str, zone: str) -> Mask:
    """The silhouette of the enlarged heart, down to the diaphragm."""
    return (scene.thorax.heart > 0) & (scene.grid.y < np.float32(max(scene.anatomy.dome) + 1.2))


def draw_enlarged_mediastinum(
    scene: Scene,
    rng: np.random.Generator,
    severity: float,
    side: str,
    zone: str,
) -> Mask:
    """The wide upper mediastinum, from the clavicles to the top of the heart."""
    a, grid = scene.anatomy, scene.grid
    inside = np.abs(grid.x - np.float32(0.15)) < np.float32(a.mediastinum)
    kx, ky, radius = a.knob
    knob = (grid.x - np.float32(kx - 0.45 * radius)) ** 2 + (grid.y - np.float32(ky)) ** 2 < radius**2
    mask: Mask = inside | knob
    mask &= (grid.y > np.float32(a.carina - 6.5)) & (grid.y < np.float32(a.carina + 1.5))
    return mask
