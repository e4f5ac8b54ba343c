"""Where things are in an image: radiologists' regions, saliency maps, and the way between image and model input."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from radlens.core.errors import DataError


@dataclass(frozen=True)
class Box:
    """An axis-parallel box in pixels of the original image: left, top, width, height (floats)."""

    x: float
    y: float
    width: float
    height: float

    def mask(self, height: int, width: int) -> npt.NDArray[np.bool_]:
        """Boolean (height, width): pixels whose centre lies in the box."""
        rows = np.arange(height) + 0.5
        columns = np.arange(width) + 0.5
        inside_rows = (rows >= self.y) & (rows < self.y + self.height)
        inside_columns = (columns >= self.x) & (columns < self.x + self.width)
        return np.logical_and.outer(inside_rows, inside_columns)


@dataclass(frozen=True)
class Mask:
    """A pixel mask, one bit a pixel. Make it with `Mask.pack`."""

    height: int
    width: int
    bits: bytes = field(repr=False)

    @staticmethod
    def pack(mask: npt.NDArray[np.bool_]) -> Mask:
        """From a boolean (height, width) array."""
        return Mask(mask.shape[0], mask.shape[1], np.packbits(mask).tobytes())

    def mask(self, height: int, width: int) -> npt.NDArray[np.bool_]:
        """Boolean (height, width); a size other than the image's raises `DataError`."""
        if (height, width) != (self.height, self.width):
            raise DataError(
                f"a mask of {self.width}x{self.height} pixels does not fit an image of {width}x{height} pixels."
            )
        flat = np.unpackbits(np.frombuffer(self.bits, np.uint8), count=height * width)
        return flat.reshape(height, width).astype(bool)


@dataclass(frozen=True)
class Region:
    """One region that one reader drew for one label of one image, in pixels of the original image."""

    image_id: str
    label: str
    shape: Box | Mask
    reader: str = "reader"


@dataclass(frozen=True)
class Annotations:
    """All regions of a study. `left_out` counts what could not be used, by reason."""

    regions: tuple[Region, ...]
    source: str
    left_out: dict[str, int] = field(default_factory=dict)

    def image_ids(self) -> tuple[str, ...]:
        """Images with at least one region, in order of first appearance."""
        return tuple(dict.fromkeys(region.image_id for region in self.regions))

    def labels_of(self, image_id: str) -> tuple[str, ...]:
        """Labels with at least one region in an image."""
        return tuple(dict.fromkeys(r.label for r in self.regions if r.image_id == image_id))

    def of(self, image_ids: Iterable[str]) -> Annotations:
        """Only the regions of these images."""
        wanted = set(image_ids)
        kept = tuple(region for region in self.regions if region.image_id in wanted)
        return Annotations(kept, self.source, self.left_out)

    def mask(self, image_id: str, label: str, height: int, width: int) -> npt.NDArray[np.bool_]:
        """Union of a label's regions in an image: boolean (height, width)."""
        union = np.zeros((height, width), bool)
        for region in self.regions:
            if region.image_id == image_id and region.label == label:
                union |= region.shape.mask(height, width)
        return union


@dataclass(frozen=True)
class Geometry:
    """The way between an original image and the model's square input: shortest side to `size`, then centre crop.

    Rounding follows torchvision's Resize (the longer side truncated) and CenterCrop (offset rounded), which is
    what open_clip's default transform does.
    """

    width: int
    height: int
    size: int

    @property
    def resized(self) -> tuple[int, int]:
        """(width, height) after the resize and before the crop."""
        short, long = sorted((self.width, self.height))
        longer = int(self.size * long / short)
        return (self.size, longer) if self.width <= self.height else (longer, self.size)

    @property
    def offset(self) -> tuple[int, int]:
        """(left, top) of the crop in the resized image."""
        width, height = self.resized
        return round((width - self.size) / 2.0), round((height - self.size) / 2.0)

    def visible(self) -> tuple[float, float, float, float]:
        """(left, top, right, bottom) of what the model sees, in pixels of the original image."""
        (width, height), (left, top) = self.resized, self.offset
        across, down = self.width / width, self.height / height
        return left * across, top * down, (left + self.size) * across, (top + self.size) * down

    def visible_mask(self) -> npt.NDArray[np.bool_]:
        """Boolean (height, width): original pixels whose centre survives the crop."""
        left, top, right, bottom = self.visible()
        return Box(left, top, right - left, bottom - top).mask(self.height, self.width)

    def enlarge(self, grid: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """A map on the patch grid (h, w), bilinearly enlarged to original pixels (height, width); 0 outside the crop.

        Grid cells are areas: the value of a cell sits at its centre, and edges are clamped.
        """
        left, top, right, bottom = self.visible()
        columns = _interpolation(np.arange(self.width) + 0.5, left, right, grid.shape[1])
        rows = _interpolation(np.arange(self.height) + 0.5, top, bottom, grid.shape[0])
        enlarged = rows @ grid.astype(np.float32) @ columns.T
        return enlarged.astype(np.float32)


def _interpolation(
    positions: npt.NDArray[np.floating[Any]], start: float, stop: float, cells: int
) -> npt.NDArray[np.float32]:
    """Weights (positions, cells) of linear interpolation between cell centres; rows outside the span are zero."""
    at = (positions - start) / (stop - start) * cells - 0.5
    clamped = np.clip(at, 0, cells - 1)
    low = np.minimum(np.floor(clamped).astype(int), max(cells - 2, 0))
    high = np.minimum(low + 1, cells - 1)
    share = clamped - low
    weights = np.zeros((len(positions), cells), np.float32)
    inside = (positions >= start) & (positions < stop)
    index = np.arange(len(positions))
    weights[index, low] += (1 - share) * inside
    weights[index, high] += share * inside
    return weights


@dataclass(frozen=True)
class SaliencyMaps:
    """Maps of one classifier on the patch grid.

    `maps` is float16 (images, labels, methods, layers, grid height, grid width), non-negative. `flags` names what
    makes a map meaningless ("constant", "label-invariant") for (image, label, method, layer) positions; a site with
    zero gradient never gets this far.
    """

    image_ids: tuple[str, ...]
    labels: tuple[str, ...]
    methods: tuple[str, ...]
    layers: tuple[str, ...]
    maps: npt.NDArray[np.float16]
    flags: dict[tuple[int, int, int, int], str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        expected = (len(self.image_ids), len(self.labels), len(self.methods), len(self.layers))
        if self.maps.shape[:4] != expected or self.maps.ndim != 6:
            raise ValueError(f"maps of shape {self.maps.shape} do not fit {expected} plus a grid.")
