"""LabelMe: one JSON file an image."""

from __future__ import annotations

import base64
import binascii
import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError
from pydantic import Field

from radlens.core.errors import DataError
from radlens.core.regions import Annotations, Box, Mask, Point, Polygon, Shape
from radlens.core.registry import register
from radlens.explain.annotations.collecting import Collector, ProjectFormat, Sizes
from radlens.explain.annotations.documents import Entries, checked, files_of, read_json
from radlens.explain.annotations.frames import Frame
from radlens.explain.annotations.outlines import ellipse


class _Shape(Entries):
    label: str
    points: list[tuple[float, float]]
    shape_type: str = "polygon"
    mask: str | None = None


class _Document(Entries):
    shapes: list[_Shape]
    image_path: str | None = Field(None, alias="imagePath")
    width: int = Field(alias="imageWidth")
    height: int = Field(alias="imageHeight")


@register("formats", "labelme-json")
class LabelMeJson(ProjectFormat):
    """LabelMe's JSON, a file or a folder of them: polygons, rectangles, circles, points and masks.

    The image is that of imagePath, by its name. reader_folders: the sub-folders of the folder are readers. Lines have
    no area; they are left out and counted.
    """

    reader_folders: bool = False

    def read(self, path: Path, labels: Sequence[str], sizes: Sizes) -> Annotations:
        """See `AnnotationFormat.read`; a shape outside its image or of too few points raises `DataError`."""
        found = Collector(path, labels, sizes, self.labels, rescale=self.rescale)
        for file, reader in files_of(path, (".json",), reader_folders=self.reader_folders):
            document = checked(file, read_json(file), _Document)
            image_id = found.image(document.image_path or file.name, str(file), len(document.shapes))
            if self.complete:
                found.declare(shape.label for shape in document.shapes)
            if image_id is None:
                continue
            if self.complete:
                found.looked(image_id, reader)
            frame = found.frame(str(file), image_id, (document.width, document.height))
            for at, entry in enumerate(document.shapes):
                where = f"{file} shapes[{at}]"
                targets = found.targets(entry.label)
                shape = _shape(where, entry, frame) if targets else None
                if shape is not None:
                    found.add(where, image_id, targets, shape, reader, frame)
                elif targets:
                    found.left_out[f"a shape of type {entry.shape_type!r} has no area"] += 1
        return found.annotations("region", "check imagePath")


_POINTS = {"rectangle": 2, "circle": 2, "point": 1, "mask": 2}


def _shape(where: str, entry: _Shape, frame: Frame) -> Shape | None:
    """The shape of an entry; None for a kind without an area."""
    expected = _POINTS.get(entry.shape_type, len(entry.points))
    if len(entry.points) != expected:
        raise DataError(
            f"{where}: expected {expected} point{'s' * (expected > 1)} of a {entry.shape_type}, found "
            f"{len(entry.points)}."
        )
    match entry.shape_type:
        case "polygon":
            return Polygon(tuple(entry.points))
        case "rectangle":
            (x, y), (to_x, to_y) = entry.points
            return Box(min(x, to_x), min(y, to_y), abs(to_x - x), abs(to_y - y))
        case "circle":
            (x, y), (to_x, to_y) = entry.points
            radius = math.hypot(to_x - x, to_y - y)
            return ellipse(x, y, radius, radius)
        case "point":
            return Point(*entry.points[0])
        case "mask":
            return _mask(where, entry, frame)
        case _:
            return None


def _mask(where: str, entry: _Shape, frame: Frame) -> Mask:
    """The whole image's mask: a PNG of the part between two points, the last pixel included."""
    left, top, right, bottom = (round(value) for point in entry.points for value in point)
    try:
        with Image.open(io.BytesIO(base64.b64decode(entry.mask or "", validate=True)), formats=["PNG"]) as picture:
            if picture.size != (right - left + 1, bottom - top + 1):
                raise DataError(
                    f"{where}: a mask of {picture.width}x{picture.height} pixels between points that span "
                    f"{right - left + 1}x{bottom - top + 1}."
                )
            part = np.array(picture.convert("L")) > 0
    except (binascii.Error, UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{where}: the mask is not a readable PNG ({error}).") from error
    width, height = frame.drawn
    if left < 0 or top < 0 or right >= width or bottom >= height:
        raise DataError(
            f"{where}: the mask spans {left} to {right + 1} across and {top} to {bottom + 1} down, outside the "
            f"{width}x{height} pixels of the image."
        )
    mask = np.zeros((height, width), bool)
    mask[top : bottom + 1, left : right + 1] = part
    return Mask.pack(mask)
