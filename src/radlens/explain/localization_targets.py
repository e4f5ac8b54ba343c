"""What is scored against what: the regions of explained images, and the maps that each image has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from radlens.core.errors import DataError
from radlens.core.regions import Annotations, Geometry, Point, Region, SaliencyMaps
from radlens.explain.region_pixels import RegionPixels, region_pixels

NO_LAYER = "-"
Key = tuple[str, str, str]
"""(setting, method, layer)."""


@dataclass(frozen=True)
class Target:
    """One label of one image that has a region."""

    image_id: str
    label: str
    annotations: Annotations
    geometry: Geometry

    def pixels(self, reader: str | None = None) -> RegionPixels:
        """The region of one reader, or (None) of all of them."""
        shapes = self.annotations.shapes(self.image_id, self.label, reader)
        return region_pixels(shapes, self.geometry.height, self.geometry.width)

    @cached_property
    def readers(self) -> tuple[str, ...]:
        """Readers who drew an area; a point is none."""
        drew = self.annotations.regions
        areas = (r for r in drew if r.label == self.label and not isinstance(r.shape, Point))
        return tuple(dict.fromkeys(region.reader for region in areas))


class DrawnMaps:
    """The maps of one setting, found by image and label.

    columns: (method, layer) of each map, in order; a method without depth has the layer `-`, once.
    """

    def __init__(self, maps: SaliencyMaps) -> None:
        self.maps = maps
        self.images = {image_id: at for at, image_id in enumerate(maps.image_ids)}
        self.labels = {label: at for at, label in enumerate(maps.labels)}
        places = maps.distinct()
        self.columns = [(maps.methods[method], name) for method, _, name in places]
        self._places = [(method, layer) for method, layer, _ in places]
        self._which = tuple(np.array(self._places, np.intp).reshape(-1, 2).T)

    def has(self, image_id: str, label: str) -> bool:
        """Whether there are maps of a label in an image."""
        return image_id in self.images and label in self.labels

    def grids(self, image_id: str, label: str) -> npt.NDArray[np.float32]:
        """(columns, rows of the grid, columns of the grid)."""
        found: npt.NDArray[np.float32] = self.maps.maps[self.images[image_id], self.labels[label]][self._which].astype(
            np.float32
        )
        return found

    def flags(self, image_id: str, label: str) -> list[str | None]:
        """What is wrong with each map, or None."""
        at = self.images[image_id], self.labels[label]
        return [self.maps.flags.get((*at, *place)) for place in self._places]


def targets_of(
    results: Mapping[str, SaliencyMaps], annotations: Annotations, geometries: Mapping[str, Geometry]
) -> list[Target]:
    """Every label of an explained image that has a region. Raises `DataError` when there is none."""
    explained = dict.fromkeys(image for maps in results.values() for image in maps.image_ids)
    labels = {label for maps in results.values() for label in maps.labels}
    by_image: dict[str, list[Region]] = {}
    for region in annotations.regions:
        by_image.setdefault(region.image_id, []).append(region)
    found = []
    for image_id in annotations.image_ids():
        if image_id in explained:
            own = Annotations(tuple(by_image[image_id]), annotations.source)
            drawn = (label for label in own.labels_of(image_id) if label in labels)
            found += [Target(image_id, label, own, geometries[image_id]) for label in drawn]
    if not found:
        raise DataError(
            f"none of the {len(annotations.regions)} regions of {annotations.source} belongs to one of the "
            f"{len(explained)} explained images and their labels; explain more images or check the image ids."
        )
    return found


def grid_of(results: Mapping[str, SaliencyMaps]) -> tuple[int, int]:
    """(rows, columns) of the patch grid that all settings share; another one raises `ValueError`."""
    shapes = {maps.maps.shape[-2:] for maps in results.values()}
    if len(shapes) != 1:
        raise ValueError(f"maps on grids of {len(shapes)} sizes cannot stand in one table: {sorted(shapes)}.")
    rows, columns = shapes.pop()
    return int(rows), int(columns)
