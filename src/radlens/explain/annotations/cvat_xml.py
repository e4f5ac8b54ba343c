"""CVAT for images 1.1: one XML file for all images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from radlens.core.errors import DataError
from radlens.core.regions import Annotations, Box, Mask, Point, Polygon, Shape
from radlens.core.registry import register
from radlens.core.run_lengths import mask_of_runs
from radlens.explain.annotations.collecting import Collector, ProjectFormat, Sizes
from radlens.explain.annotations.documents import files_by_reader, number, read_xml
from radlens.explain.annotations.frames import Frame
from radlens.explain.annotations.outlines import ellipse, rectangle

_DRAWN = ("box", "polygon", "points", "ellipse", "mask", "polyline", "cuboid", "skeleton")


@register("formats", "cvat-xml")
class CvatXml(ProjectFormat):
    """CVAT's XML for images, or a folder with one such file a reader: boxes, polygons, ellipses, points and masks.

    reader_attribute: the attribute of a shape that names its reader. Lines, cuboids and skeletons are left out and
    counted.
    """

    reader_attribute: str | None = None

    def read(self, path: Path, labels: Sequence[str], sizes: Sizes) -> Annotations:
        """See `AnnotationFormat.read`; a shape outside its image, or a damaged one, raises `DataError`."""
        found = Collector(path, labels, sizes, self.labels, rescale=self.rescale)
        for file, reader in files_by_reader(path, ".xml"):
            root = read_xml(file, "annotations")
            if self.complete:
                found.declare(text for name in root.findall("meta//label/name") if (text := (name.text or "").strip()))
                found.declare(shape.get("label", "") for shape in root.findall("image/*") if shape.tag in _DRAWN)
            for image in root.findall("image"):
                self._collect(found, f"{file} image {image.get('name')!r}", image, reader)
        return found.annotations("region", "check the names of its images")

    def _collect(self, found: Collector, where: str, image: Element, reader: str | None) -> None:
        shapes = [shape for shape in image if shape.tag in _DRAWN]
        image_id = found.image(image.get("name", ""), where, len(shapes))
        if image_id is None:
            return
        if self.complete and self.reader_attribute is None:
            found.looked(image_id, reader or "reader")
        width, height = (round(_number(where, image, side)) for side in ("width", "height"))
        frame = found.frame(where, image_id, (width, height))
        for at, entry in enumerate(shapes):
            drawn = f"{where} shape {at + 1}"
            targets = found.targets(entry.get("label", ""))
            if not targets:
                continue
            own = self._reader(drawn, entry, reader)
            if self.complete:
                found.looked(image_id, own)
            regions = _shapes(drawn, entry, frame)
            if not regions:
                found.left_out[f"a shape of type {entry.tag!r} has no area"] += 1
            for shape in regions:
                found.add(drawn, image_id, targets, shape, own, frame)

    def _reader(self, where: str, entry: Element, reader: str | None) -> str:
        if self.reader_attribute is None:
            return reader or "reader"
        for attribute in entry.findall("attribute"):
            if attribute.get("name") == self.reader_attribute and (attribute.text or "").strip():
                return (attribute.text or "").strip()
        raise DataError(f"{where}: expected a reader in the attribute {self.reader_attribute!r}, found none.")


def _shapes(where: str, entry: Element, frame: Frame) -> list[Shape]:
    """The shapes of an entry (points may be several); none of a kind without an area."""
    match entry.tag:
        case "box":
            left, top, right, bottom = (_number(where, entry, name) for name in ("xtl", "ytl", "xbr", "ybr"))
            degrees = _number(where, entry, "rotation", "0")
            if degrees:
                centre = ((left + right) / 2, (top + bottom) / 2)
                return [rectangle(left, top, right - left, bottom - top, centre, degrees)]
            return [Box(left, top, right - left, bottom - top)]
        case "polygon":
            return [Polygon(tuple(_points(where, entry)))]
        case "points":
            return [Point(*point) for point in _points(where, entry)]
        case "ellipse":
            x, y, across, down = (_number(where, entry, name) for name in ("cx", "cy", "rx", "ry"))
            return [ellipse(x, y, across, down, _number(where, entry, "rotation", "0"))]
        case "mask":
            return [_mask(where, entry, frame)]
        case _:
            return []


def _mask(where: str, entry: Element, frame: Frame) -> Mask:
    """The whole image's mask: run lengths of a part of it, row after row."""
    left, top, across, down = (round(_number(where, entry, name)) for name in ("left", "top", "width", "height"))
    width, height = frame.drawn
    if left < 0 or top < 0 or across < 1 or down < 1 or left + across > width or top + down > height:
        raise DataError(
            f"{where}: the mask spans {left} to {left + across} across and {top} to {top + down} down, outside the "
            f"{width}x{height} pixels of the image."
        )
    try:
        runs = [int(run) for run in entry.get("rle", "").split(",")]
        part = mask_of_runs(runs, across, down).T
    except ValueError as error:
        raise DataError(f"{where}: the run lengths of the mask are damaged: {error}.") from error
    mask = np.zeros((height, width), bool)
    mask[top : top + down, left : left + across] = part
    return Mask.pack(mask)


def _points(where: str, entry: Element) -> list[tuple[float, float]]:
    points = []
    for pair in entry.get("points", "").split(";"):
        x, _, y = pair.partition(",")
        points.append((number(where, "'points'", x), number(where, "'points'", y)))
    return points


def _number(where: str, entry: Element, name: str, default: str | None = None) -> float:
    return number(where, f"attribute {name!r}", entry.get(name, default))
