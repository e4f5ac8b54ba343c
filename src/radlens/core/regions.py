"""Where things are in an image: radiologists' regions, saliency maps, and the way between image and model input."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from radlens.core.shapes import Box as Box
from radlens.core.shapes import Mask as Mask
from radlens.core.shapes import Point as Point
from radlens.core.shapes import Polygon as Polygon
from radlens.core.shapes import Shape as Shape


@dataclass(frozen=True)
class Region:
    """One region that one reader drew for one label of one image, in pixels of the original image."""

    image_id: str
    label: str
    shape: Shape
    reader: str = "reader"


@dataclass(frozen=True)
class Annotations:
    """All regions of a study. `left_out` counts what could not be used, by reason.

    examined: (image, reader) -> labels that the reader looked for in the image, whether or not there is a region: a
    label without one was looked for and not found. What stands neither here nor in a region was not annotated.
    unknown_images: names in the source that fit no image of the cohort.
    """

    regions: tuple[Region, ...]
    source: str
    left_out: dict[str, int] = field(default_factory=dict)
    examined: Mapping[tuple[str, str], frozenset[str]] = field(default_factory=dict)
    unknown_images: tuple[str, ...] = ()

    @cached_property
    def _by_image(self) -> dict[str, list[Region]]:
        found: dict[str, list[Region]] = {}
        for region in self.regions:
            found.setdefault(region.image_id, []).append(region)
        return found

    def image_ids(self) -> tuple[str, ...]:
        """Images with at least one region, in order of first appearance."""
        return tuple(self._by_image)

    def labels_of(self, image_id: str) -> tuple[str, ...]:
        """Labels with at least one region in an image."""
        return tuple(dict.fromkeys(region.label for region in self._by_image.get(image_id, ())))

    def readers(self) -> tuple[str, ...]:
        """Every reader who drew or examined, in order of first appearance."""
        drew = dict.fromkeys(region.reader for region in self.regions)
        return tuple(drew | dict.fromkeys(reader for _, reader in self.examined))

    def of(self, image_ids: Iterable[str]) -> Annotations:
        """Only the regions, and the looks, of these images."""
        wanted = set(image_ids)
        kept = tuple(region for region in self.regions if region.image_id in wanted)
        looks = {key: labels for key, labels in self.examined.items() if key[0] in wanted}
        return Annotations(kept, self.source, self.left_out, looks, self.unknown_images)

    def presence(self, image_id: str, label: str, reader: str) -> bool | None:
        """Whether a reader drew a label in an image; None where the reader is not known to have looked for it."""
        if any(region.label == label and region.reader == reader for region in self._by_image.get(image_id, ())):
            return True
        return False if label in self.examined.get((image_id, reader), ()) else None

    def shapes(self, image_id: str, label: str, reader: str | None = None) -> tuple[Shape, ...]:
        """What was drawn of a label in an image, by one reader or (None) by all of them."""
        return tuple(
            region.shape
            for region in self._by_image.get(image_id, ())
            if region.label == label and reader in (None, region.reader)
        )

    def mask(
        self, image_id: str, label: str, height: int, width: int, reader: str | None = None
    ) -> npt.NDArray[np.bool_]:
        """Union of a label's regions in an image, of one reader or (None) of all: boolean (height, width)."""
        masks = (shape.mask(height, width) for shape in self.shapes(image_id, label, reader))
        union = next(masks, None)
        if union is None:
            return np.zeros((height, width), bool)
        for mask in masks:
            union |= mask
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

    `maps` is float16 (images, labels, methods, layers, grid height, grid width), non-negative, each divided by its own
    maximum. `flags` names what makes a map meaningless ("constant", "label-invariant") for (image, label, method,
    layer) positions; a site with zero gradient never gets this far.
    strengths: float32 (images, labels, methods, layers), what each map was divided by, 0 for a map of zeros; None for
    maps stored before strengths were. has_depth: one a method, False where its map is the same at every layer; empty
    means that all have depth. Sizes that do not fit raise `ValueError`.
    """

    image_ids: tuple[str, ...]
    labels: tuple[str, ...]
    methods: tuple[str, ...]
    layers: tuple[str, ...]
    maps: npt.NDArray[np.float16]
    flags: dict[tuple[int, int, int, int], str] = field(default_factory=dict)
    strengths: npt.NDArray[np.float32] | None = None
    has_depth: tuple[bool, ...] = ()

    def __post_init__(self) -> None:
        expected = (len(self.image_ids), len(self.labels), len(self.methods), len(self.layers))
        if self.maps.shape[:4] != expected or self.maps.ndim != 6:
            raise ValueError(f"maps of shape {self.maps.shape} do not fit {expected} plus a grid.")
        if self.strengths is not None and self.strengths.shape != expected:
            raise ValueError(f"strengths of shape {self.strengths.shape} do not fit {expected}.")
        if not self.has_depth:
            object.__setattr__(self, "has_depth", (True,) * len(self.methods))
        if len(self.has_depth) != len(self.methods):
            raise ValueError(f"{len(self.has_depth)} values of has_depth for {len(self.methods)} methods.")

    def distinct(self) -> tuple[tuple[int, int, str], ...]:
        """(method, layer, layer's name) of every map that differs from the others: a method without depth stands once.

        method, layer: positions in `methods` and `layers`; the name is "-" for a method without depth.
        """
        return tuple(
            (method, at, layer if depth else "-")
            for method, depth in enumerate(self.has_depth)
            for at, layer in enumerate(self.layers if depth else self.layers[:1])
        )

    def of(self, image_ids: Sequence[str]) -> SaliencyMaps:
        """Only the maps of these images, in their order. An image without maps raises `ValueError`."""
        rows = [self.image_ids.index(image_id) for image_id in image_ids]
        place = {row: at for at, row in enumerate(rows)}
        flags = {(place[at[0]], *at[1:]): why for at, why in self.flags.items() if at[0] in place}
        strengths = None if self.strengths is None else self.strengths[rows]
        return replace(self, image_ids=tuple(image_ids), maps=self.maps[rows], flags=flags, strengths=strengths)
