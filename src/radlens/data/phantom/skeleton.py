"""Bone as path lengths (cm): ribs, clavicles, spine and scapulae."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .anatomy import Anatomy
from .blur import F32
from .grid import F64, Grid

RIBS = 10


@dataclass(frozen=True)
class Break:
    """A broken rib: side -1 right or 1 left, rib 0 to 9, place 0 to 1 along it, step and gap in cm."""

    side: int
    rib: int
    place: float
    step: float
    gap: float
    callus: float


def rib_curve(a: Anatomy, side: int, rib: int, points: int) -> tuple[F64, F64, F64]:
    """Centre line (x, y, depth), each (points,), of a rib from the spine round to its front end."""
    t = np.linspace(0.1, 0.84, points)
    theta = np.pi * t
    start = a.apex + 0.2 + a.rib_pitch * rib
    drop = 4.6 + 5.0 * min(1.0, (rib + 0.5) / 4.0)
    y = start - 0.5 * np.sin(2 * theta) + drop * t**1.35
    turn = start + drop * 0.39
    reach = a.lateral(turn) + 0.35 if turn < a.sulcus else a.lung_width + 0.35
    x = side * np.maximum(reach, 4.5) * np.sin(theta) ** 0.85
    return x, y, 0.5 * a.depth * np.cos(theta)


def draw_skeleton(a: Anatomy, grid: Grid, breaks: Sequence[Break]) -> F32:
    """Path length (size, size) in cm through bone."""
    points = max(96, int(27.0 / grid.pixel))
    curves = [rib_curve(a, side, rib, points) for side in (-1, 1) for rib in range(RIBS)]
    x, y, depth = (np.stack(part) for part in zip(*curves, strict=True))
    radius = np.full(x.shape, a.rib_radius)
    t = np.linspace(0, 1, points)
    radius *= 1 + 0.15 * np.clip((t - 0.6) / 0.3, 0, 1)
    radius[:, t > 0.9] *= 1 - 0.6 * (t[t > 0.9] - 0.9) / 0.1
    for fracture in breaks:
        _snap(x, y, radius, fracture)
    bone = grid.tubes(x, y, radius, wall=0.5, depth=depth) * np.float32(0.58)
    bone += _clavicles(a, grid)
    bone += _spine(a, grid)
    bone += _scapulae(a, grid)
    return bone


def break_point(a: Anatomy, fracture: Break) -> tuple[float, float]:
    """(x, y) of a fracture in cm."""
    x, y, _ = rib_curve(a, fracture.side, fracture.rib, 201)
    i = round(200 * fracture.place)
    return float(x[i]), float(y[i]) + 0.5 * fracture.step


def _snap(x: F64, y: F64, radius: F64, fracture: Break) -> None:
    row = fracture.rib + (RIBS if fracture.side > 0 else 0)
    points = x.shape[1]
    at = round((points - 1) * fracture.place)
    run = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(x[row]), np.diff(y[row])))])
    along = run - run[at]
    beyond = along > 0
    # The far fragment is stepped at the break and comes back to its place some centimetres on.
    y[row] += fracture.step * beyond * np.exp(-np.maximum(along, 0) / 5.0)
    radius[row] *= 1 + fracture.callus * np.exp(-((along / 0.7) ** 2))
    radius[row][np.abs(along) < 0.5 * fracture.gap] = 0.02


def _clavicles(a: Anatomy, grid: Grid) -> F32:
    t = np.linspace(0, 1, max(64, int(18 / grid.pixel)))
    inner, rise = a.clavicle
    x = 1.5 + 13.5 * t
    y = inner - rise * t + 1.0 * np.sin(np.pi * 2 * t) * (1 - 0.3 * t)
    radius = 0.62 + 0.25 * np.exp(-((t / 0.12) ** 2)) + 0.15 * t
    xs, ys = np.stack([-x, x]), np.stack([y, y])
    return grid.tubes(xs, ys, np.stack([radius, radius]), wall=0.5) * np.float32(0.85)


def _spine(a: Anatomy, grid: Grid) -> F32:
    rows, columns = grid.box(0, 0, 2.9, 30)
    out = np.zeros((grid.size, grid.size), np.float32)
    x, y = grid.x[rows, columns], grid.y[rows, columns]
    pitch = np.float32(a.rib_pitch * 1.08)
    phase = (y - np.float32(a.apex)) / pitch
    wave = np.cos(2 * np.pi * phase)
    half = 1.5 + 0.015 * (y + 14) + 0.12 * wave
    inside = np.maximum(1 - (x / half) ** 4, 0)
    column = np.sqrt(inside) * (0.75 + 0.22 * np.clip(-wave * 2.5 + 1.2, -1.2, 1))
    near = (phase - np.round(phase)) * pitch
    away = near + np.float32(0.45)
    pedicle = np.exp(-((np.abs(x) - 1.0) ** 2 + away**2) / 0.10) * 0.35
    process = np.exp(-((x / 0.28) ** 2) - (near / 0.55) ** 2) * 0.35
    out[rows, columns] = column + pedicle + process
    return out


def _scapulae(a: Anatomy, grid: Grid) -> F32:
    u, y = np.abs(grid.x), grid.y
    inner = a.lateral(-6.0) + 1.6 - 2.2 * a.scapula
    t = np.clip((y + 12.5) / 12.0, 0, 1)
    medial = u - np.float32(inner) - 1.2 * t
    outer = np.float32(inner + 7.0) - 5.2 * t - u
    ends = np.minimum(y + 12.5, 0.6 - y)
    depth = np.minimum(np.minimum(medial, outer), ends)
    plate = np.clip(depth / 0.35, 0, 1)
    rim = np.clip(1 - np.abs(depth - 0.35) / 0.35, 0, 1)
    blade: F32 = plate * np.float32(0.28) + rim * np.float32(0.30)
    return blade
