"""Findings of the lung: opacity, lesion, edema, consolidation, pneumonia and atelectasis.

Each takes the scene, a generator, the severity (0 to 1), side and zone, writes to the scene's layers
and returns the exact mask (size, size).
"""

import numpy as np

from .blur import F32, smooth_noise
from .scene import Scene, sides_of, smoothstep
from .thorax import Mask


def draw_opacity(scene: Scene, rng: np.random.Generator, severity: float, side: str, zone: str) -> Mask:
    """A large ill-defined ground-glass haze; vessels stay visible through it."""
    mask = scene.empty_mask()
    for s in sides_of(side):
        rx, ry = (rng.uniform(2.6, 3.6) + 1.2 * severity for _ in range(2))
        spot = scene.spot(rng, s, zone, 1.6)
        box, haze = scene.blob(rng, spot, (rx, 1.15 * ry), softness=0.7, roughness=0.28)
        shape = (haze.shape[0], haze.shape[1])
        haze *= np.clip(1 + 0.14 * smooth_noise(rng, shape, 9), 0.5, 1.5)
        scene.fill(box, np.float32(0.20 + 0.34 * severity) * haze)
        mask[box] |= (haze > 0.4) & scene.in_lung[box]
    return mask


def draw_lesion(scene: Scene, rng: np.random.Generator, severity: float, side: str, zone: str) -> Mask:
    """One to four rounded nodules, or a mass."""
    mask = scene.empty_mask()
    count = 1 + int(rng.random() < 0.35) * int(rng.integers(1, 4))
    for k in range(count):
        s = sides_of(side)[0] * (1 if k == 0 or rng.random() < 0.6 else -1)
        place = zone if k == 0 else ("upper", "mid", "lower")[int(rng.integers(3))]
        radius = (0.55 + 1.75 * severity) * (1 if k == 0 else rng.uniform(0.5, 0.95))
        cx, cy = scene.spot(rng, s, place, radius + 0.4)
        wave = rng.uniform(0.0, 0.07)
        box = scene.grid.box(cx, cy, 1.3 * radius, 1.3 * radius)
        x, y = scene.grid.x[box] - np.float32(cx), scene.grid.y[box] - np.float32(cy)
        lobes = 1 + wave * np.cos(np.arctan2(y, x) * int(rng.integers(3, 8)) + rng.uniform(0, 6))
        inside = 1 - (x * x + y * y) / (radius * radius * lobes * lobes)
        depth = 0.7 + 0.6 * radius
        scene.soft[box] += np.sqrt(np.maximum(inside, 0)) * np.float32(2.3 * depth)
        mask[box] |= inside > 0
    return mask


def draw_edema(scene: Scene, rng: np.random.Generator, severity: float, side: str, zone: str) -> Mask:
    """Bilateral perihilar haze, septal lines at the bases and wide upper-lobe vessels."""
    a, grid, thorax = scene.anatomy, scene.grid, scene.thorax
    hx, hy = a.hilum
    shape = (grid.size, grid.size)
    wing = ((thorax.u - (hx + 1.8)) / np.float32(3.6 + 1.6 * severity)) ** 2
    wing += ((grid.y - (hy + 1.2)) / np.float32(4.6 + 1.8 * severity)) ** 2
    haze = np.exp(-(wing**1.5)) * np.clip(1 + 0.22 * smooth_noise(rng, shape, 18), 0.3, 1.6)
    # The outer rim of the lung is spared: the wings of the bat.
    haze *= smoothstep((thorax.lateral + 0.2) / 2.2)
    scene.fill((slice(None), slice(None)), np.float32(0.24 + 0.40 * severity) * haze)
    mask: Mask = (haze > 0.35) & scene.in_lung
    scene.vessel *= np.where(grid.y < hy, np.float32(1.5 + 0.7 * severity), np.float32(1.2))
    starts, ends, heights = [], [], []
    for s in (-1, 1):
        for _ in range(round(5 + 7 * severity)):
            y = a.dome[s > 0] + rng.uniform(-4.0, 2.0)
            edge = a.lateral(y) - 0.15
            starts.append(s * edge)
            ends.append(s * (edge - rng.uniform(1.0, 1.9)))
            heights.append(y)
    t = np.linspace(0, 1, max(8, int(2.4 / grid.pixel)))
    x = np.array(starts)[:, None] * (1 - t) + np.array(ends)[:, None] * t
    septa = grid.tubes(x, np.array(heights)[:, None] + 0.15 * t, 0.09) * np.float32(5.0)
    septa *= scene.in_lung
    scene.soft += septa
    mask |= septa > 0.12
    return mask


def draw_consolidation(scene: Scene, rng: np.random.Generator, severity: float, side: str, zone: str) -> Mask:
    """Dense, homogeneous opacity of a lobe with a straight fissure and dark air bronchograms."""
    a, grid = scene.anatomy, scene.grid
    s = sides_of(side)[0]
    shape = (grid.size, grid.size)
    tilt = s * rng.uniform(-0.08, 0.12)
    fissure = a.height(s, 0.5) + rng.uniform(-0.6, 0.6) - tilt * 6.0 * s
    below = grid.y - (fissure + tilt * grid.x)
    reach = np.float32(3.2 + 5.5 * severity)
    wavy = 0.55 * smooth_noise(rng, shape, 12)
    if zone == "upper":
        inside, far = -below, reach + below
    elif zone == "mid":
        inside, far = below, np.float32(0.65) * reach - below
    else:
        low = below - np.float32(0.42 * (a.dome[s > 0] - fissure) - 0.25 * (reach - 3.2))
        inside, far = (low + 1.3 * wavy + 1.0) * np.float32(0.15), np.full_like(low, 9.0)
    near: F32 = (inside / 0.35).astype(np.float32)
    away: F32 = ((far + wavy) / 1.6).astype(np.float32)
    region = smoothstep(near) * smoothstep(away)
    region *= ((grid.x > 0) == (s > 0)) & scene.in_lung
    region = region.astype(np.float32)
    scene.fill((slice(None), slice(None)), region * np.float32(0.55 + 0.3 * severity))
    scene.vessel *= 1 - 0.8 * region
    scene.soft -= _bronchogram(scene, rng, s, zone) * region
    return region > 0.5


def _bronchogram(scene: Scene, rng: np.random.Generator, s: int, zone: str) -> F32:
    """Air (cm) in branching bronchi from the hilum towards a zone."""
    hx, hy = scene.anatomy.hilum
    heading = {"upper": -1.0, "mid": 0.25, "lower": 1.0}[zone]
    t = np.linspace(0, 1, max(16, int(11 / scene.grid.pixel)))
    xs, ys = [], []
    for _ in range(7):
        angle = heading + rng.uniform(-0.55, 0.55) + rng.normal(0, 0.35) * t
        length = rng.uniform(4.5, 8.5)
        xs.append(s * (hx - 0.8 + np.cumsum(np.cos(angle)) * length / len(t)))
        ys.append(hy + np.cumsum(np.sin(angle)) * length / len(t))
    radius = np.linspace(0.32, 0.14, len(t))
    return np.minimum(scene.grid.tubes(np.stack(xs), np.stack(ys), radius), 0.7) * np.float32(4.0)


def draw_pneumonia(scene: Scene, rng: np.random.Generator, severity: float, side: str, zone: str) -> Mask:
    """A cluster of fluffy patches that run into each other."""
    mask = scene.empty_mask()
    for s in sides_of(side):
        cx, cy = scene.spot(rng, s, zone, 2.0)
        for _ in range(7 + round(8 * severity)):
            spread = 1.6 + 1.2 * severity
            centre = (cx + rng.normal(0, 0.75 * spread), cy + rng.normal(0, 0.75 * spread))
            r = rng.uniform(0.8, 1.7)
            radii = (r * rng.uniform(0.8, 1.4), r)
            box, patch = scene.blob(rng, centre, radii, softness=1.1, roughness=0.6, cells=5)
            scene.fill(box, patch * np.float32((0.15 + 0.17 * severity) * rng.uniform(0.6, 1.3)))
            mask[box] |= (patch > 0.4) & scene.in_lung[box]
    return mask


def draw_atelectasis(scene: Scene, rng: np.random.Generator, severity: float, side: str, zone: str) -> Mask:
    """One to three plate-like bands over a diaphragm that is raised (see anatomy.reshape)."""
    mask = scene.empty_mask()
    a, grid = scene.anatomy, scene.grid
    for s in sides_of(side):
        for k in range(1 + int(severity * rng.uniform(0.6, 2.99))):
            y = a.dome[s > 0] - rng.uniform(0.8, 1.8) - 1.4 * k
            half = rng.uniform(1.7, 2.4) + 1.2 * severity
            inner = a.mediastinum + 1.0 if s < 0 else 0.55 * a.heart[2] + a.heart[0]
            cx = min(rng.uniform(inner, inner + 2.5) + half, a.lateral(y) - 0.7 * half)
            slope = s * rng.uniform(-0.1, 0.28)
            thick = 0.22 + 0.33 * severity * rng.uniform(0.6, 1.2)
            box = grid.box(s * cx, y, half, half * 0.35 + 3 * thick)
            x = grid.x[box] - np.float32(s * cx)
            across = grid.y[box] - np.float32(y) + np.float32(slope) * x + 0.04 * x * x
            along = np.sqrt(np.maximum(1 - (x / half) ** 2, 0))
            profile = np.exp(-((across / (thick * (0.35 + 0.65 * along))) ** 2)) * np.minimum(2 * along, 1)
            profile *= scene.in_lung[box]
            scene.soft[box] += profile.astype(np.float32) * np.float32(2.0 + 2.4 * severity)
            mask[box] |= profile > 0.4
    return mask
