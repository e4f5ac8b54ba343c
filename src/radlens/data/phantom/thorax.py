"""Soft tissue and air of the chest as path lengths (cm) through analytic solids."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .anatomy import Anatomy
from .blur import F32
from .grid import Grid

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Thorax:
    """Path lengths and distances, all (size, size) float32 in cm.

    body       soft tissue if the lungs were solid
    lung       lung, before heart and mediastinum take their share
    heart      heart; centre: upper mediastinum, aorta and hila
    lateral    distance inside the lateral lung border; above: distance above the diaphragm
    u          distance from the midline
    left       True on the patient's left
    tube       air of trachea and main bronchi; bubble: gas of the stomach
    """

    body: F32
    lung: F32
    heart: F32
    centre: F32
    lateral: F32
    above: F32
    u: F32
    left: Mask
    tube: F32
    bubble: F32

    @property
    def open_field(self) -> Mask:
        """The lungs as they are outlined on a film: no heart before them, little mediastinum or hilum."""
        field: Mask = (self.lung > 0.5) & (self.heart <= 0) & (self.centre < 2.0)
        return field


def build_thorax(a: Anatomy, grid: Grid) -> Thorax:
    """Path lengths through the soft tissue of a patient."""
    x, y = grid.x, grid.y
    u = np.abs(x)
    left = x > 0
    fall = np.clip((a.sulcus - y) / np.float32(a.sulcus - a.apex), 0, 1)
    lateral = np.float32(a.lung_width) * np.sqrt(1 - fall * fall * fall) - u
    above = _diaphragm(a, u, left) - y
    top = np.clip((np.float32(a.apex + 2.5) - y) / 2.5, 0, 1)
    medial = u - (1.6 + 2.0 * top * top)
    lung = _rise(lateral, 4.5) * _rise(medial, 2.0) * _rise(above, 2.2)
    lung *= np.float32(0.74 * a.depth)
    # The lungs are shallower towards the apices.
    lung *= 0.55 + 0.45 * _rise(y - np.float32(a.apex), 11.0)
    return Thorax(
        body=_body(a, x, y, u),
        lung=lung,
        heart=heart_chord(a, x, y),
        centre=_centre(a, x, y),
        lateral=lateral,
        above=above,
        u=u,
        left=left,
        tube=_airway(a, x, y, grid),
        bubble=_bubble(a, grid),
    )


def heart_chord(a: Anatomy, x: F32, y: F32) -> F32:
    """Path length through the heart: left ventricle and right atrium as two ellipsoids."""
    hx, hy, length, width = a.heart
    cosine, sine = np.cos(a.heart_tilt), np.sin(a.heart_tilt)
    p = (float(cosine) * (x - hx) + float(sine) * (y - hy)) / length
    q = (float(-sine) * (x - hx) + float(cosine) * (y - hy)) / width
    ventricle = 1 - p * p - q * q
    px, py = (x - (hx - 0.42 * length)) / (0.62 * length), (y - (hy - 0.1 * width)) / (0.98 * width)
    atrium = 1 - px * px - py * py
    inside = np.maximum(ventricle, atrium)
    chord: F32 = np.sqrt(np.maximum(inside, 0)) * np.float32(13.0)
    return chord


def _diaphragm(a: Anatomy, u: F32, left: Mask) -> F32:
    dome: F32 = np.where(left, np.float32(a.dome[1]), np.float32(a.dome[0])).astype(np.float32)
    t = (u - np.float32(0.42 * a.lung_width)) / np.float32(0.58 * a.lung_width)
    t2 = t * t
    deep: F32 = np.where(t > 0, np.float32(1.0), np.float32(0.45)).astype(np.float32)
    line = dome + (np.float32(a.sulcus) - dome) * (0.7 * t2 + 0.3 * t2 * t2) * deep
    return line.astype(np.float32, copy=False)


def _rise(distance: F32, radius: float) -> F32:
    """From 0 at the border to 1 at `radius` inside it, round as a circle."""
    t = np.clip(distance * np.float32(1 / radius), 0, 1)
    rise: F32 = np.sqrt(t * (2 - t))
    return rise


def _body(a: Anatomy, x: F32, y: F32, u: F32) -> F32:
    wall = np.float32(a.lung_width + 1.0 + a.fat)
    arm = np.clip((-3.5 - y) / 7.0, 0, 1)
    half = wall + 9.0 * arm * arm * (3 - 2 * arm)
    inside = half - u
    # The shoulders slope down and out from the neck.
    t = np.clip((u - 5.5) / 13.0, 0, 1)
    top = y - (np.float32(a.shoulder) + 4.6 * t * t - 7.0 * np.clip(1 - (u - 3.6) / 2.6, 0, 1) ** 2)
    body = _rise(inside, 6.0) * _rise(top, 6.5) * np.float32(a.depth)
    body *= 1 - 0.12 * arm
    if a.breast > 0.1:
        cx, cy, rx, ry = 7.4, a.dome[0] - 4.6, 5.8, 5.4
        px, py = (u - cx) / rx, (y - cy) / ry
        # Fuller below: the lower border is seen as an arc, the upper fades.
        bulge = np.maximum(1 - px * px - py * py, 0)
        body += np.sqrt(bulge) * np.clip(0.45 + 0.55 * py, 0, 1) * np.float32(1.6 * a.breast)
    return body


def _centre(a: Anatomy, x: F32, y: F32) -> F32:
    """Upper mediastinum, aortic knob, descending aorta and hila."""
    upper = np.clip((y - np.float32(a.carina - 7.0)) / 3.0, 0, 1)
    lower = np.clip((y - np.float32(a.carina + 1.0)) / 5.0, 0, 1)
    half = np.float32(a.mediastinum) * (0.8 + 0.2 * upper) * (1 - 0.15 * lower)
    inside = np.maximum(1 - (x - 0.15) ** 2 / (half * half), 0)
    band = np.sqrt(inside) * 14.0
    kx, ky, radius = a.knob
    inside = radius**2 - (x - (kx - 0.45 * radius)) ** 2 - (y - ky) ** 2
    knob = np.sqrt(np.maximum(inside, 0)) * (9.5 / radius)
    down = np.clip((y - ky) / 1.5, 0, 1)
    along = x - np.float32(kx - 0.5 * radius) + 0.09 * (y - ky)
    aorta = np.sqrt(np.maximum(1 - (along / (0.75 * radius)) ** 2, 0)) * down * 5.0
    hx, hy = a.hilum
    hilum = np.exp(-(((np.abs(x) - hx + 0.5) / 1.35) ** 2) - ((y - hy) / 1.9) ** 2) * (3.6 * a.vessel)
    centre: F32 = np.maximum(np.maximum(band, knob), aorta) + hilum.astype(np.float32)
    return centre


def _airway(a: Anatomy, x: F32, y: F32, grid: Grid) -> F32:
    middle = np.float32(a.trachea) * np.clip((y + 19) / np.float32(a.carina + 19), 0, 1)
    inside = np.maximum(0.85**2 - (x - middle) ** 2, 0)
    tube = 2 * np.sqrt(inside) * np.clip((np.float32(a.carina + 0.3) - y) / 0.8, 0, 1)
    for side, slope in ((-1, 1.15), (1, 0.75)):
        xs = [a.trachea, a.trachea + side * 1.6, a.trachea + side * 3.4]
        ys = [a.carina - 0.3, a.carina + 1.6 * slope, a.carina + 3.0 * slope]
        tube = np.maximum(tube, np.minimum(grid.line(xs, ys, 0.55), 1.1))
    air: F32 = tube * np.float32(1.5)
    return air


def _bubble(a: Anatomy, grid: Grid) -> F32:
    out = np.zeros((grid.size, grid.size), np.float32)
    if a.bubble < 0.4:
        return out
    rx, ry = 1.5 * a.bubble + 0.6, 0.9 * a.bubble + 0.4
    cx, cy = 0.45 * a.lung_width, a.dome[1] + 0.5 + ry
    box = grid.box(cx, cy, rx, ry)
    inside = 1 - ((grid.x[box] - cx) / rx) ** 2 - ((grid.y[box] - cy) / ry) ** 2
    out[box] = np.sqrt(np.maximum(inside, 0)) * np.float32(3.2 * a.bubble)
    return out
