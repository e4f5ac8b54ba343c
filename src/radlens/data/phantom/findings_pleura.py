"""Findings of the pleura: air, fluid, thickening and plaques. Signature as in findings_lung."""

import numpy as np

from .blur import smooth_noise
from .scene import Scene, sides_of, smoothstep
from .thorax import Mask


def draw_pneumothorax(scene: Scene, rng: np.random.Generator, severity: float, side: str, zone: str) -> Mask:
    """A dark rim without vessels at apex and side, bounded by a thin pleural line."""
    a, grid, thorax = scene.anatomy, scene.grid, scene.thorax
    s = sides_of(side)[0]
    rim = 1.0 + 4.0 * severity
    fall = (a.sulcus - grid.y) / np.float32(a.sulcus - a.apex)
    reach = 0.45 + 0.5 * severity + rng.uniform(-0.05, 0.05)
    taper = smoothstep((fall - (1 - reach)) / 0.4)
    top = np.clip((a.sulcus - grid.y) / np.float32(a.sulcus - a.apex - 1.25 * rim), 0, 1)
    wave = 0.12 * smooth_noise(rng, (grid.size, grid.size), 7)
    inner = (a.lung_width - np.float32(rim) * taper) * np.sqrt(1 - top * top * top) - thorax.u + wave
    half = ((grid.x > 0) == (s > 0)) & (thorax.lung > 0)
    air = (inner < 0) & (taper > 0.02) & half
    line = np.exp(-((inner / 0.11) ** 2)) * (half & (taper > 0.05))
    # What another finding has claimed stays visible, so that its mask stays true.
    clear = air & ~scene.claimed
    scene.open_lung[clear] = 1.16
    scene.soft[clear] = 0.0
    scene.vessel *= ~air
    collapsed = half & ~air
    scene.open_lung *= 1 - np.float32(0.05 + 0.10 * severity) * collapsed
    scene.soft += line.astype(np.float32) * np.float32(1.3)
    mask: Mask = air | ((line > 0.4) & scene.in_lung)
    return mask


def draw_effusion(scene: Scene, rng: np.random.Generator, severity: float, side: str, zone: str) -> Mask:
    """Fluid that fills the costophrenic angle up to a meniscus."""
    a, grid, thorax = scene.anatomy, scene.grid, scene.thorax
    mask = scene.empty_mask()
    for s in sides_of(side):
        height = 3.2 + (9.0 * severity) * rng.uniform(0.8, 1.1)
        climb = np.clip(thorax.u / np.float32(a.lung_width), 0, 1.05)
        surface = a.sulcus + 0.3 - np.float32(height) * (0.5 + 0.5 * climb * climb * climb)
        fluid = smoothstep((grid.y - surface) / 0.8 + 0.5)
        fluid *= ((grid.x > 0) == (s > 0)) & (thorax.lung > 0)
        fluid = fluid.astype(np.float32)
        scene.fill((slice(None), slice(None)), 0.97 * fluid)
        scene.vessel *= 1 - fluid
        mask |= (fluid > 0.5) & (thorax.lung > 0.3)
    return mask


def draw_pleural_other(scene: Scene, rng: np.random.Generator, severity: float, side: str, zone: str) -> Mask:
    """Thickening or a calcified plaque along the chest wall, or an apical cap."""
    a, grid, thorax = scene.anatomy, scene.grid, scene.thorax
    s = sides_of(side)[0]
    half = ((grid.x > 0) == (s > 0)) & (thorax.lung > 0)
    noise = smooth_noise(rng, (grid.size, grid.size), 30)
    thick = 0.7 + 1.3 * severity
    apical = rng.random() < 0.3
    if apical:
        depth = np.float32(a.apex + 1.2 + 1.5 * thick) - grid.y - 0.03 * (thorax.u - 4.5) ** 2 + 0.12 * noise
        band = smoothstep(depth / 0.5 + 0.5)
    else:
        middle = a.height(s, rng.uniform(0.4, 0.8))
        length = 2.4 + 3.6 * severity
        along = np.clip(1 - ((grid.y - np.float32(middle)) / np.float32(length)) ** 2, 0, 1)
        depth = np.float32(thick) * np.sqrt(along) * (1 + 0.22 * noise) - thorax.lateral
        band = smoothstep(depth / 0.3 + 0.5) * (along > 0)
    band = (band * half).astype(np.float32)
    scene.soft += band * np.float32(2.2 + 3.0 * severity)
    if not apical and rng.random() < 0.6:
        grain = np.clip(0.7 + 0.6 * smooth_noise(rng, (grid.size, grid.size), 60), 0, 2)
        scene.bone += band * grain * np.float32(0.35 + 0.5 * severity)
    mask: Mask = band > 0.5
    return mask
