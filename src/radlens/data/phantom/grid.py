"""The image plane in the patient's centimetres, and tubes drawn onto it.

x runs to the right of the screen (the patient's left), y runs down; the origin is mid-chest.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .blur import F32

F64 = npt.NDArray[np.float64]
Box = tuple[slice, slice]

FIELD_CM = 33.0


@dataclass(frozen=True)
class Grid:
    """Coordinates of every pixel and the way back.

    x, y      (size, size) patient coordinates in cm
    pixel     edge of a pixel in patient cm
    """

    size: int
    pixel: float
    angle: float
    shift: tuple[float, float]
    x: F32
    y: F32

    @staticmethod
    def build(size: int, magnification: float, angle: float, shift: tuple[float, float]) -> "Grid":
        """Lay a grid over a patient.

        magnification  size on the detector over true size; angle in radians; shift (x, y) in cm.
        """
        pixel = FIELD_CM / size / magnification
        line = (np.arange(size, dtype=np.float32) - np.float32((size - 1) / 2)) * np.float32(pixel)
        cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        x = cosine * line[None, :] + sine * line[:, None] - np.float32(shift[0])
        y = -sine * line[None, :] + cosine * line[:, None] - np.float32(shift[1])
        return Grid(size, pixel, angle, shift, x, y)

    def to_pixels(self, x: F64, y: F64) -> tuple[F64, F64]:
        """Column and row (float, pixel centres at integers) of points in patient cm."""
        u, v = x + self.shift[0], y + self.shift[1]
        cosine, sine = np.cos(self.angle), np.sin(self.angle)
        half = (self.size - 1) / 2
        return (cosine * u - sine * v) / self.pixel + half, (sine * u + cosine * v) / self.pixel + half

    def box(self, x: float, y: float, rx: float, ry: float) -> Box:
        """Rows and columns that hold the rectangle of half-widths rx, ry (cm) around x, y; never empty."""
        corner_x = np.array([x - rx, x + rx, x - rx, x + rx])
        corner_y = np.array([y - ry, y - ry, y + ry, y + ry])
        columns, rows = self.to_pixels(corner_x, corner_y)
        left, top = (int(np.clip(v.min(), 0, self.size - 2)) for v in (columns, rows))
        right, bottom = (int(np.clip(v.max() + 2, 2, self.size)) for v in (columns, rows))
        return slice(top, max(bottom, top + 2)), slice(left, max(right, left + 2))

    def splat(self, x: F64, y: F64, volume: F64) -> F32:
        """Spread points of `volume` (cm3) over the pixels; returns the (size, size) thickness in cm."""
        column, row = self.to_pixels(x.ravel(), y.ravel())
        i, j = np.floor(row), np.floor(column)
        inside = (i >= 0) & (j >= 0) & (i < self.size - 1) & (j < self.size - 1)
        row, column, i, j = row[inside], column[inside], i[inside], j[inside]
        di, dj = row - i, column - j
        mass = volume.ravel()[inside] / self.pixel**2
        first = (i * self.size + j).astype(np.intp)
        low, high = mass * (1 - di), mass * di
        places = np.concatenate([first, first + 1, first + self.size, first + self.size + 1])
        shares = np.concatenate([low * (1 - dj), low * dj, high * (1 - dj), high * dj])
        flat = np.bincount(places, weights=shares, minlength=self.size**2)
        return flat.astype(np.float32).reshape(self.size, self.size)

    def tubes(
        self,
        x: F64,
        y: F64,
        radius: F64 | float,
        *,
        wall: float = 1.0,
        depth: F64 | None = None,
    ) -> F32:
        """Thickness (size, size) in cm of tubes along curves.

        x, y    (tubes, points) centre lines in cm; points should lie at most a pixel apart
        radius  cm, broadcast against x
        wall    share of the radius that is solid; 1 draws a rod, less a hollow tube
        depth   (tubes, points) distance along the beam in cm: curves that run along it look denser
        """
        dx, dy = np.gradient(x, axis=1), np.gradient(y, axis=1)
        run = np.sqrt(dx**2 + dy**2) + 1e-9
        length = run if depth is None else np.minimum(np.hypot(run, np.gradient(depth, axis=1)), 4 * run)
        r = np.broadcast_to(np.asarray(radius, dtype=np.float64), x.shape)
        across = max(1, int(np.ceil(2 * float(r.max()) / self.pixel)) + 1)
        v = (np.arange(across) + 0.5) / across * 2 - 1
        chord = np.sqrt(1 - v**2)
        if wall < 1.0:
            chord = chord - np.sqrt(np.maximum((1 - wall) ** 2 - v**2, 0.0))
        offset = r[..., None] * v
        volume = (length * r**2)[..., None] * chord * (4.0 / across)
        return self.splat(
            x[..., None] - dy[..., None] / run[..., None] * offset,
            y[..., None] + dx[..., None] / run[..., None] * offset,
            volume,
        )

    def line(self, xs: list[float], ys: list[float], radius: float, *, wall: float = 1.0) -> F32:
        """One tube through a few points, rounded by a smooth curve; same return as `tubes`."""
        knots = np.linspace(0, 1, len(xs))
        points = max(16, int(1.5 * np.hypot(np.diff(xs), np.diff(ys)).sum() / self.pixel))
        t = np.linspace(0, 1, points)
        x, y = (_catmull_rom(knots, np.asarray(v, dtype=np.float64), t) for v in (xs, ys))
        return self.tubes(x[None], y[None], radius, wall=wall)


def _catmull_rom(knots: F64, values: F64, t: F64) -> F64:
    slope = np.gradient(values, knots) if len(values) > 1 else np.zeros_like(values)
    k = np.clip(np.searchsorted(knots, t, side="right") - 1, 0, len(knots) - 2)
    width = knots[k + 1] - knots[k]
    s = (t - knots[k]) / width
    curve: F64 = (
        (2 * s**3 - 3 * s**2 + 1) * values[k]
        + (s**3 - 2 * s**2 + s) * width * slope[k]
        + (-2 * s**3 + 3 * s**2) * values[k + 1]
        + (s**3 - s**2) * width * slope[k + 1]
    )
    return curve
