"""CheXlocalize: radiologists' outlines on films of CheXpert, as polygons or as masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from radlens.core.errors import DataError
from radlens.core.regions import Annotations, Polygon
from radlens.core.registry import register
from radlens.explain.annotations.coco_json import RunLengths, mask_from
from radlens.explain.annotations.collecting import Collector, SizedFormat, Sizes
from radlens.explain.annotations.documents import Entries, checked, files_by_reader, read_json

_SIZE = "img_size"
_USUAL = {"Airspace Opacity": ("Lung Opacity",)}


class _Outlines(Entries):
    img_size: tuple[int, int]
    outlines: list[list[tuple[float, float]]]


@register("formats", "chexlocalize")
class CheXlocalize(SizedFormat):
    """CheXlocalize's JSON of polygons (gt_annotations) or of run lengths (gt_segmentations).

    Which of the two is seen from the file; a folder holds one file a reader. An empty mask says that the finding is
    absent; the polygons do not say what is. Airspace Opacity is Lung Opacity unless `labels` says otherwise.
    """

    def read(self, path: Path, labels: Sequence[str], sizes: Sizes) -> Annotations:
        """See `AnnotationFormat.read`; an outline outside its film, or a mask of another size, raises `DataError`."""
        found = Collector(path, labels, sizes, self.labels, usual=_USUAL, rescale=self.rescale)
        for file, reader in files_by_reader(path, ".json"):
            films = read_json(file)
            if not isinstance(films, dict) or not all(isinstance(film, dict) for film in films.values()):
                raise DataError(f"{file}: expected films, each with its findings, as CheXlocalize writes them.")
            for name, film in films.items():
                image_id = found.image(name, f"{file} {name}", len(film.keys() - {_SIZE}))
                if image_id is not None:
                    _collect(found, f"{file} {name}", image_id, film, reader or "reader")
        return found.annotations("region", "check the names of its films")


def _collect(found: Collector, film: str, image_id: str, findings: Mapping[str, Any], reader: str) -> None:
    for finding, drawn in findings.items():
        if finding == _SIZE:
            continue
        where = f"{film} {finding!r}"
        targets = found.targets(finding)
        if not targets:
            continue
        if isinstance(drawn, dict):
            runs = checked(where, drawn, RunLengths)
            frame = found.frame(where, image_id, (runs.size[1], runs.size[0]))
            found.add(where, image_id, targets, mask_from(where, runs, frame.drawn), reader, frame)
            continue
        outlines = checked(where, {_SIZE: findings.get(_SIZE), "outlines": drawn}, _Outlines)
        # [height, width], as in the run lengths
        frame = found.frame(where, image_id, (outlines.img_size[1], outlines.img_size[0]))
        for outline in outlines.outlines:
            found.add(where, image_id, targets, Polygon(tuple(outline)), reader, frame)
