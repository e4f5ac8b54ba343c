"""ChestX-Det: three radiologists' outlines of 13 findings on NIH films."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from radlens.core.errors import DataError
from radlens.core.regions import Annotations, Box, Polygon
from radlens.core.registry import register
from radlens.explain.annotations.collecting import Collector, LabelledFormat, Sizes
from radlens.explain.annotations.documents import Entries, checked, read_json

_FINDINGS = (
    "Atelectasis",
    "Calcification",
    "Cardiomegaly",
    "Consolidation",
    "Diffuse Nodule",
    "Effusion",
    "Emphysema",
    "Fibrosis",
    "Fracture",
    "Mass",
    "Nodule",
    "Pleural Thickening",
    "Pneumothorax",
)
# in the words of chexpert-14; findings without a label there need the option
_USUAL = {
    "Effusion": ("Pleural Effusion",),
    "Mass": ("Lung Lesion",),
    "Nodule": ("Lung Lesion",),
    "Diffuse Nodule": ("Lung Lesion",),
    "Pleural Thickening": ("Pleural Other",),
}


class _Film(Entries):
    file_name: str
    syms: list[str]
    boxes: list[tuple[float, float, float, float]]
    polygons: list[list[tuple[float, float]]]


class _Films(Entries):
    films: list[_Film]


@register("formats", "chestx-det")
class ChestXDet(LabelledFormat):
    """ChestX-Det's JSON: a film's findings, each with a polygon and the box around it, at 1024 x 1024 pixels.

    shapes: which of the two to read. drawn_at: [width, height] of the films that they were drawn on, where the cohort's
    are resized. Effusion is Pleural Effusion, and Mass and both kinds of Nodule are Lung Lesion, unless `labels` says
    otherwise. A film is annotated for all 13 findings, so that one it does not name is absent.
    """

    shapes: Literal["polygons", "boxes"] = "polygons"
    drawn_at: tuple[int, int] = (1024, 1024)

    def read(self, path: Path, labels: Sequence[str], sizes: Sizes) -> Annotations:
        """See `AnnotationFormat.read`; lists of unequal length, or a region outside its film, raise `DataError`."""
        found = Collector(path, labels, sizes, self.labels, usual=_USUAL, drawn_at=self.drawn_at)
        found.declare(_FINDINGS)
        for at, film in enumerate(checked(path, {"films": read_json(path)}, _Films).films):
            where = f"{path} films[{at}]"
            if not len(film.syms) == len(film.boxes) == len(film.polygons):
                raise DataError(
                    f"{where}: {film.file_name} has {len(film.syms)} findings, {len(film.boxes)} boxes and "
                    f"{len(film.polygons)} polygons; expected one of each a finding."
                )
            image_id = found.image(film.file_name, where, len(film.syms))
            if image_id is None:
                continue
            found.looked(image_id, "reader")
            frame = found.frame(where, image_id)
            for finding, (left, top, right, bottom), outline in zip(film.syms, film.boxes, film.polygons, strict=True):
                targets = found.targets(finding)
                if targets:
                    box = Box(left, top, right - left, bottom - top)
                    shape = box if self.shapes == "boxes" else Polygon(tuple(outline))
                    found.add(where, image_id, targets, shape, "reader", frame)
        return found.annotations("region", "check file_name of its films")
