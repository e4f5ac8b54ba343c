"""Support devices: tubes, lines, pacemakers, electrodes and sternal wires. Signature as in findings_lung."""

from collections.abc import Callable

import numpy as np

from .blur import F32
from .scene import Scene
from .thorax import Mask


def draw_devices(scene: Scene, rng: np.random.Generator, severity: float, side: str, zone: str) -> Mask:
    """One to five devices, more of them with severity."""
    kinds = list(_DEVICES)
    weights = np.array([0.2, 0.17, 0.22, 0.13, 0.2, 0.13, 0.12])
    count = 1 + int(3.2 * severity * rng.uniform(0.5, 1.0))
    chosen = rng.choice(len(kinds), size=count, replace=False, p=weights / weights.sum())
    metal = np.zeros_like(scene.metal)
    for i in chosen:
        metal += kinds[int(i)](scene, rng)
    scene.metal += metal
    return widen(metal > 0.012)


def widen(mask: Mask) -> Mask:
    """The mask and its direct neighbours."""
    out = mask.copy()
    out[1:] |= mask[:-1]
    out[:-1] |= mask[1:]
    out[:, 1:] |= mask[:, :-1]
    out[:, :-1] |= mask[:, 1:]
    return out


def _endotracheal_tube(scene: Scene, rng: np.random.Generator) -> F32:
    a = scene.anatomy
    tip = a.carina - rng.uniform(2.0, 4.5)
    x = a.trachea * 0.7
    tube = scene.grid.line([x - 0.1, x + 0.1, x], [-21, (tip - 21) / 2, tip], 0.45, wall=0.25)
    return tube * np.float32(0.3)


def _gastric_tube(scene: Scene, rng: np.random.Generator) -> F32:
    a = scene.anatomy
    low = a.dome[1]
    xs = [0.5, 0.3, 0.6, 1.4, 4.5, 6.5 + rng.uniform(-1, 1)]
    ys = [-21, -8, low - 5, low - 0.5, low + 3, low + 4.5 + rng.uniform(-1, 1)]
    return scene.grid.line(xs, ys, 0.2) * np.float32(0.5)


def _central_line(scene: Scene, rng: np.random.Generator) -> F32:
    a = scene.anatomy
    edge = -0.8 * a.mediastinum
    tip = a.carina + rng.uniform(-0.5, 3.5)
    if rng.random() < 0.5:
        xs, ys = [-4.5, -3.4, edge, edge + 0.2], [-21.0, -13.0, a.carina - 3.5, tip]
    else:
        top = a.clavicle[0]
        xs, ys = [-14.0, -8.0, -4.0, edge, edge + 0.2], [top + 3.0, top - 0.6, top + 0.6, a.carina - 3.0, tip]
    return scene.grid.line(xs, ys, 0.15) * np.float32(0.75)


def _chest_tube(scene: Scene, rng: np.random.Generator) -> F32:
    a = scene.anatomy
    s = float(rng.choice([-1, 1]))
    entry = a.height(int(s), rng.uniform(0.7, 0.9))
    end = a.height(int(s), rng.uniform(0.15, 0.35))
    out = a.lateral(entry)
    xs = [s * (out + 6), s * (out + 0.5), s * (out - 2.5), s * rng.uniform(4.2, 5.5)]
    ys = [entry + 2.5, entry, 0.6 * entry + 0.4 * end, end]
    return scene.grid.line(xs, ys, 0.38, wall=0.3) * np.float32(0.4)


def _pacemaker(scene: Scene, rng: np.random.Generator) -> F32:
    a, grid = scene.anatomy, scene.grid
    s = 1.0 if rng.random() < 0.8 else -1.0
    cx, cy = s * rng.uniform(7.8, 9.2), a.clavicle[0] + rng.uniform(3.0, 4.5)
    box = grid.box(cx, cy, 2.6, 2.2)
    x, y = (grid.x[box] - np.float32(cx)) / 2.3, (grid.y[box] - np.float32(cy)) / 1.9
    metal = np.zeros_like(scene.metal)
    x2, y2 = x * x, y * y
    metal[box] = np.where(x2 * x2 + y2 * y2 < 1, np.float32(0.65), np.float32(0.0))
    hx, hy, length, width = a.heart
    vein = -0.7 * a.mediastinum
    top = a.clavicle[0] + 0.8
    targets = [(hx + 0.45 * length, hy + 0.45 * width)]
    if rng.random() < 0.6:
        targets.append((hx - 0.75 * length, hy - 0.35 * width))
    for tx, ty in targets:
        xs = [cx - s * 1.2, s * 5.5, s * 2.0, vein, vein - 0.5, (vein - 0.5 + tx) / 2, tx]
        ys = [cy - 1.5, top, top + 1.4, a.carina - 1.5, hy - 1.5, max(hy + 0.5, ty), ty]
        metal += grid.line(xs, ys, 0.13) * np.float32(0.8)
    return metal


def _electrodes(scene: Scene, rng: np.random.Generator) -> F32:
    a, grid = scene.anatomy, scene.grid
    metal = np.zeros_like(scene.metal)
    places = [(-9.0, -6.5), (9.0, -6.5), (10.5, a.dome[1] - 0.5), (-10.0, a.dome[0] + 1.0), (2.0, 4.0)]
    for x0, y0 in places[: int(rng.integers(3, 6))]:
        x, y = x0 + rng.normal(0, 0.9), y0 + rng.normal(0, 0.9)
        box = grid.box(x, y, 1.0, 1.0)
        far = np.hypot(grid.x[box] - np.float32(x), grid.y[box] - np.float32(y))
        metal[box] += np.where(far < 0.45, 0.30, np.where(far < 0.85, 0.05, 0.0)).astype(np.float32)
        end = x + rng.normal(0, 2.0) + 1.5 * np.sign(x)
        metal += grid.line([x, (x + end) / 2 + rng.normal(0, 1.0), end], [y, y + 6.0, 21.0], 0.09)
    return metal


def _sternal_wires(scene: Scene, rng: np.random.Generator) -> F32:
    a = scene.anatomy
    metal = np.zeros_like(scene.metal)
    for y in np.linspace(a.carina - 3.0, a.dome[1] - 3.5, int(rng.integers(5, 8))):
        t = rng.uniform(-0.25, 0.25)
        xs = [-0.75, -0.2, 0.75, 0.85, 0.1, -0.8, -0.75]
        ys = [y + t, y - 0.3, y - t, y + 0.3, y + 0.35, y + 0.35 + t, y + t]
        metal += scene.grid.line(xs, ys, 0.10) * np.float32(1.3)
    return metal


_DEVICES: tuple[Callable[[Scene, np.random.Generator], F32], ...] = (
    _endotracheal_tube,
    _gastric_tube,
    _central_line,
    _chest_tube,
    _pacemaker,
    _electrodes,
    _sternal_wires,
)
