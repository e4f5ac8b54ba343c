"""One saliency map over one film as files: a PNG for slides, an SVG whose layers and legend stay apart."""

from __future__ import annotations

import base64
import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from radlens.core.regions import Geometry
from radlens.core.store import write_text, writing
from radlens.report.overlays import heat_colours, jpeg_uri, overlay

SIDE = 768
"""Longest side of a picture in a file, in pixels."""
_OUTSIDE = 0.4
# half a pixel of the original: less is rounding
_HIDDEN = 0.5
_LINE = 18


@dataclass(frozen=True)
class Film:
    """A film at the size it is shown: pixels uint8 (h, w); geometry of that size; seen: what the model sees of it.

    seen: (left, top, right, bottom) in shown pixels, or None where it is the whole film.
    """

    pixels: npt.NDArray[np.uint8]
    geometry: Geometry
    seen: tuple[int, int, int, int] | None

    @cached_property
    def uri(self) -> str:
        """The film alone, as a data URI."""
        return jpeg_uri(self.pixels)

    def heat(self, grid: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """A map on the patch grid over the film, (h, w) in [0, 1], its brightest place at 1; 0 outside the crop."""
        enlarged = self.geometry.enlarge(grid.astype(np.float32)).astype(np.float64)
        top = float(enlarged.max())
        return np.clip(enlarged / top, 0, 1) if top > 0 else enlarged

    def picture(self, heat: npt.NDArray[np.float64] | None) -> npt.NDArray[np.uint8]:
        """RGB (h, w, 3): film and heatmap, dimmed and framed where the model does not see it."""
        drawn = overlay(self.pixels, heat, None)
        if self.seen is None:
            return drawn
        left, top, right, bottom = self.seen
        framed = np.round(drawn * _OUTSIDE).astype(np.uint8)
        framed[top:bottom, left:right] = drawn[top:bottom, left:right]
        thickness = max(1, max(drawn.shape[:2]) // 300)
        for row in (top, bottom - thickness):
            framed[row : row + thickness, left:right] = 255
        for column in (left, right - thickness):
            framed[top:bottom, column : column + thickness] = 255
        return framed


def shown_film(pixels: npt.NDArray[np.uint8], input_size: int, side: int) -> Film:
    """A decoded film, uint8 (H, W) or (H, W, 3), scaled so that its longest side is `side`.

    input_size: side of the model's square input, which decides what a centre crop leaves of the film.
    """
    grey = pixels if pixels.ndim == 2 else np.round(pixels.mean(axis=2)).astype(np.uint8)
    height, width = grey.shape
    scale = side / max(height, width)
    across, down = max(1, round(width * scale)), max(1, round(height * scale))
    small = np.asarray(Image.fromarray(grey).resize((across, down), Image.Resampling.LANCZOS))
    left, top, right, bottom = Geometry(width, height, input_size).visible()
    hidden = left > _HIDDEN or top > _HIDDEN or right < width - _HIDDEN or bottom < height - _HIDDEN
    seen = None
    if hidden:
        seen = (
            max(0, round(left * across / width)),
            max(0, round(top * down / height)),
            min(across, round(right * across / width)),
            min(down, round(bottom * down / height)),
        )
    return Film(small, Geometry(across, down, input_size), seen)


def write_overlay(path: Path, film: Film, grid: npt.NDArray[np.floating], lines: Sequence[str]) -> tuple[Path, Path]:
    """Write `path` + `.png` and `.svg`; returns both. lines: what the SVG's legend says, the first one as its title."""
    heat = film.heat(grid)
    png, svg = path.with_name(f"{path.name}.png"), path.with_name(f"{path.name}.svg")
    with writing(png) as aside:
        Image.fromarray(film.picture(heat)).save(aside, "PNG", compress_level=3)
    write_text(svg, _svg(film, heat, lines))
    return png, svg


def _svg(film: Film, heat: npt.NDArray[np.float64], lines: Sequence[str]) -> str:
    height, width = film.pixels.shape
    # about 0.58 em a letter
    letters = max(16, int((width - 20) / (13 * 0.58)))
    wrapped = [part for line in lines for part in textwrap.wrap(_printable(line), letters) or [""]]
    foot = 46 + _LINE * len(wrapped)
    heading = escape(_printable(lines[0])) if lines else ""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height + foot}" '
        f'viewBox="0 0 {width} {height + foot}" role="img">',
        f"<title>{heading}</title>",
        f'<rect width="{width}" height="{height + foot}" fill="#fff"/>',
        f'<image id="film" width="{width}" height="{height}" href="{film.uri}"/>',
        f'<image id="map" width="{width}" height="{height}" href="{_heat_uri(heat)}"/>',
        _outside(film, width, height),
        _ramp(height + 14),
    ]
    for index, line in enumerate(wrapped):
        weight = ' font-weight="600"' if index == 0 else ""
        parts.append(_text(10, height + 54 + _LINE * index, line, weight))
    return "\n".join([*(part for part in parts if part), "</svg>", ""])


def _outside(film: Film, width: int, height: int) -> str:
    """The part that the crop takes away, dimmed, and the frame of what is left."""
    if film.seen is None:
        return ""
    left, top, right, bottom = film.seen
    inner = f"M{left} {top}V{bottom}H{right}V{top}Z"
    dim = f'<path d="M0 0H{width}V{height}H0Z{inner}" fill="#000" fill-opacity="{1 - _OUTSIDE:g}" fill-rule="evenodd"/>'
    return f'<g id="not-seen-by-the-model">{dim}<path d="{inner}" fill="none" stroke="#fff" stroke-width="2"/></g>'


def _ramp(y: int) -> str:
    """What the colours mean, drawn as the map is over a grey film."""
    values = np.linspace(0, 1, 6)
    colours = overlay(np.full((1, 6), 96, np.uint8), values[None], None)[0]
    stops = "".join(
        f'<stop offset="{value:g}" stop-color="#{r:02x}{g:02x}{b:02x}"/>'
        for value, (r, g, b) in zip(values, colours.tolist(), strict=True)
    )
    return (
        f'<defs><linearGradient id="ramp">{stops}</linearGradient></defs>{_text(10, y + 11, "least")}'
        f'<rect x="50" y="{y}" width="150" height="12" fill="url(#ramp)"/>{_text(208, y + 11, "most")}'
    )


def _text(x: int, y: int, text: str, more: str = "") -> str:
    return (
        f'<text x="{x}" y="{y}" font-family="Arial, Helvetica, sans-serif" font-size="13"{more}>{escape(text)}</text>'
    )


def _heat_uri(heat: npt.NDArray[np.float64]) -> str:
    """The heatmap alone, RGBA, so that it can be switched off over the film."""
    # a map of a few patches a side is smooth: a third of the size loses nothing
    size = max(1, heat.shape[1] // 3), max(1, heat.shape[0] // 3)
    small = np.asarray(Image.fromarray(heat.astype(np.float32)).resize(size, Image.Resampling.BOX), np.float64)
    colour, opacity = heat_colours(small)
    layers = np.round(np.dstack([colour, opacity * 255])).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(layers).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def _printable(text: str) -> str:
    """XML knows no control characters, however they are escaped."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
