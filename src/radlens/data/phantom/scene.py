"""A chest in the making: what findings may add to or take from a thorax."""

from dataclasses import dataclass, field

import numpy as np

from .anatomy import Anatomy
from .blur import F32, smooth_noise
from .grid import Box, Grid
from .thorax import Mask, Thorax


@dataclass
class Scene:
    """Layers (size, size) that findings write to.

    open_lung   share of the lung's air that is left, 1 is normal, above 1 is free air
    soft        added soft tissue or fluid in cm; bone and metal likewise
    vessel      multiplies the pulmonary vessels
    claimed     True where a finding has been drawn already
    """

    anatomy: Anatomy
    grid: Grid
    thorax: Thorax
    open_lung: F32 = field(init=False)
    soft: F32 = field(init=False)
    bone: F32 = field(init=False)
    metal: F32 = field(init=False)
    vessel: F32 = field(init=False)
    claimed: Mask = field(init=False)

    def __post_init__(self) -> None:
        shape = (self.grid.size, self.grid.size)
        self.open_lung, self.vessel = np.ones(shape, np.float32), np.ones(shape, np.float32)
        self.claimed = np.zeros(shape, np.bool_)
        self.soft, self.bone, self.metal = (np.zeros(shape, np.float32) for _ in range(3))

    @property
    def in_lung(self) -> Mask:
        """Pixels where at least half a centimetre of lung lies in the beam."""
        return self.thorax.lung > 0.5

    def empty_mask(self) -> Mask:
        return np.zeros((self.grid.size, self.grid.size), np.bool_)

    def fill(self, box: Box, share: F32) -> None:
        """Replace a share (0 to 1) of the air in a box by fluid."""
        self.open_lung[box] *= 1 - share

    def spot(self, rng: np.random.Generator, side: int, zone: str, margin: float) -> tuple[float, float]:
        """A point (x, y) in a lung zone, at least about `margin` cm from the borders."""
        low, high = {"upper": (0.2, 0.42), "mid": (0.42, 0.64), "lower": (0.66, 0.88)}[zone]
        y = self.anatomy.height(side, rng.uniform(low, high))
        outer = self.anatomy.lateral(y) - 0.8 * margin
        inner = self.anatomy.mediastinum + margin
        if zone == "lower" and side > 0:
            inner = max(inner, 0.72 * self.anatomy.heart[2] + self.anatomy.heart[0])
        inner = min(inner, outer - 0.5)
        return side * rng.uniform(inner, outer), y

    def blob(
        self,
        rng: np.random.Generator,
        centre: tuple[float, float],
        radii: tuple[float, float],
        *,
        softness: float,
        roughness: float,
        cells: int = 6,
    ) -> tuple[Box, F32]:
        """A rough-edged ellipse: its box and a field from 0 outside to 1 inside.

        radii in cm; softness: width of the edge and roughness: its waviness, as shares of the radius.
        """
        reach = 1.0 + softness + 1.5 * roughness
        box = self.grid.box(*centre, radii[0] * reach, radii[1] * reach)
        x, y = self.grid.x[box] - centre[0], self.grid.y[box] - centre[1]
        q = np.sqrt((x / radii[0]) ** 2 + (y / radii[1]) ** 2)
        if roughness > 0:
            q += np.float32(roughness * 0.6) * smooth_noise(rng, (q.shape[0], q.shape[1]), cells)
        edge: F32 = ((1 + softness / 2 - q) / softness).astype(np.float32)
        return box, smoothstep(edge)


def smoothstep(t: F32) -> F32:
    """0 below 0, 1 above 1, smooth between."""
    t = np.clip(t, 0, 1)
    return t * t * (3 - 2 * t)


def sides_of(side: str) -> tuple[int, ...]:
    """-1 (right, on the left of the screen) and 1 (left) that a side's word stands for."""
    return {"right": (-1,), "left": (1,), "bilateral": (-1, 1)}[side]
