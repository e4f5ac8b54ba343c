"""Label Studio: one JSON file of tasks, with places in percent of the image."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from pydantic import Field

from radlens.core.errors import DataError
from radlens.core.regions import Annotations, Box, Mask, Point, Polygon, Shape
from radlens.core.registry import register
from radlens.explain.annotations.brush import brush_mask
from radlens.explain.annotations.collecting import Collector, ProjectFormat, Sizes
from radlens.explain.annotations.documents import Entries, checked, read_json
from radlens.explain.annotations.frames import Frame
from radlens.explain.annotations.outlines import ellipse, rectangle

# an upload's name is put behind eight characters and a dash
_UPLOADED = re.compile(r"^(.*/data/upload/(?:\d+/)?)[0-9a-f]{8}-")
_LOCAL = "/data/local-files/?d="
_KINDS = ("rectanglelabels", "polygonlabels", "ellipselabels", "keypointlabels", "brushlabels")


class _Result(Entries):
    type: str = ""
    value: dict[str, Any] = Field(default_factory=dict)
    original_width: int | None = None
    original_height: int | None = None


class _Annotation(Entries):
    result: list[_Result]
    completed_by: int | str | dict[str, Any] | None = None
    was_cancelled: bool = False


class _Task(Entries):
    data: dict[str, Any]
    annotations: list[_Annotation]


class _Tasks(Entries):
    tasks: list[_Task]


class _Rectangle(Entries):
    x: float
    y: float
    width: float
    height: float
    rotation: float = 0.0


class _Ellipse(Entries):
    x: float
    y: float
    radius_x: float = Field(alias="radiusX")
    radius_y: float = Field(alias="radiusY")
    rotation: float = 0.0


class _Polygon(Entries):
    points: list[tuple[float, float]]


class _KeyPoint(Entries):
    x: float
    y: float


class _Brush(Entries):
    rle: list[int]


@register("formats", "label-studio")
class LabelStudio(ProjectFormat):
    """Label Studio's JSON export: rectangles, polygons, ellipses, key points and brush masks.

    image_key: the key of a task's data that names its image. Each annotation of a task is of the reader who completed
    it; cancelled ones are left out and counted.
    """

    image_key: str = "image"

    def read(self, path: Path, labels: Sequence[str], sizes: Sizes) -> Annotations:
        """See `AnnotationFormat.read`; a region outside its image, or a value that is none, raises `DataError`."""
        found = Collector(path, labels, sizes, self.labels, rescale=self.rescale)
        tasks = checked(path, {"tasks": read_json(path)}, _Tasks).tasks
        for at, task in enumerate(tasks):
            where = f"{path} tasks[{at}]"
            name = task.data.get(self.image_key)
            if not isinstance(name, str):
                raise DataError(f"{where}: expected an image's name under data.{self.image_key}, found {name!r}.")
            entries = sum(len(one.result) for one in task.annotations)
            image_id = found.image(_image_name(name), where, entries)
            for number, one in enumerate(task.annotations):
                if self.complete:
                    found.declare(label for result in one.result for label in _labels(where, result))
                if one.was_cancelled:
                    found.left_out["a cancelled annotation"] += 1
                elif image_id is not None:
                    self._collect(found, f"{where} annotations[{number}]", image_id, one)
        return found.annotations("region", "check image_key")

    def _collect(self, found: Collector, annotation: str, image_id: str, one: _Annotation) -> None:
        reader = _reader(one.completed_by)
        if self.complete:
            found.looked(image_id, reader)
        for at, result in enumerate(one.result):
            where = f"{annotation} result[{at}]"
            targets = tuple(dict.fromkeys(x for label in _labels(where, result) for x in found.targets(label)))
            if not targets:
                continue
            if result.original_width is None or result.original_height is None:
                raise DataError(f"{where}: expected original_width and original_height of the image, found none.")
            frame = found.frame(where, image_id, (result.original_width, result.original_height))
            found.add(where, image_id, targets, _shape(where, result, frame), reader, frame)


def _image_name(address: str) -> str:
    """The path of an image in the address that Label Studio gives it."""
    _, local, path = address.partition(_LOCAL)
    return unquote(path) if local else _UPLOADED.sub(r"\1", unquote(address.partition("?")[0]))


def _labels(where: str, result: _Result) -> tuple[str, ...]:
    """Names of the findings of a region; none for what is no region."""
    if result.type not in _KINDS:
        return ()
    names = result.value.get(result.type)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"{where}: expected a list of findings under value.{result.type}, found {names!r}.")
    return tuple(names)


def _reader(completed_by: int | str | dict[str, Any] | None) -> str:
    if isinstance(completed_by, dict):
        completed_by = completed_by.get("email") or completed_by.get("id")
    return "reader" if completed_by is None else str(completed_by)


def _shape(where: str, result: _Result, frame: Frame) -> Shape:
    across, down = (side / 100 for side in frame.drawn)
    match result.type:
        case "rectanglelabels":
            box = checked(where, result.value, _Rectangle)
            x, y, width, height = box.x * across, box.y * down, box.width * across, box.height * down
            return rectangle(x, y, width, height, (x, y), box.rotation) if box.rotation else Box(x, y, width, height)
        case "polygonlabels":
            points = checked(where, result.value, _Polygon).points
            return Polygon(tuple((x * across, y * down) for x, y in points))
        case "ellipselabels":
            oval = checked(where, result.value, _Ellipse)
            sides = (oval.x * across, oval.y * down, oval.radius_x * across, oval.radius_y * down)
            return ellipse(*sides, degrees=oval.rotation)
        case "keypointlabels":
            point = checked(where, result.value, _KeyPoint)
            return Point(point.x * across, point.y * down)
        case _:
            content = checked(where, result.value, _Brush).rle
            try:
                return Mask.pack(brush_mask(content, frame.drawn[1], frame.drawn[0]))
            except ValueError as error:
                raise DataError(f"{where}: the brush mask is damaged: {error}.") from error
