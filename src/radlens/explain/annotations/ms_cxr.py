"""MS-CXR: boxes for phrases of reports on films of MIMIC-CXR."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from radlens.core.errors import DataError
from radlens.core.regions import Annotations, Box
from radlens.core.registry import register
from radlens.explain.annotations.coco_json import CocoDocument, collect_coco
from radlens.explain.annotations.collecting import Collector, SizedFormat, Sizes
from radlens.explain.annotations.documents import checked, number, read_json, read_table

_NUMBERS = ("x", "y", "w", "h", "image_width", "image_height")
_COLUMNS = ("dicom_id", "category_name", *_NUMBERS)


@register("formats", "ms-cxr")
class MsCxr(SizedFormat):
    """MS-CXR's boxes, from the CSV or the JSON of PhysioNet's release; images are found by dicom_id.

    A film is annotated for the findings that it shows alone: nothing is known of the others. Boxes for several phrases
    of one finding count as one region together.
    """

    def read(self, path: Path, labels: Sequence[str], sizes: Sizes) -> Annotations:
        """See `AnnotationFormat.read`; a box outside its film raises `DataError`."""
        found = Collector(path, labels, sizes, self.labels, rescale=self.rescale)
        match path.suffix.lower():
            case ".json":
                document = checked(path, read_json(path), CocoDocument)
                collect_coco(found, path, document, ["reader"] * len(document.annotations), None, complete=False)
            case ".csv":
                _collect(found, path)
            case ending:
                raise DataError(f"expected MS-CXR's .csv or .json at {path}, found the ending {ending!r}.")
        return found.annotations("box", "image ids must be MIMIC-CXR's dicom_id")


def _collect(found: Collector, path: Path) -> None:
    for at, row in enumerate(read_table(path, _COLUMNS).iter_rows(named=True), start=2):
        where = f"{path} row {at}"
        image_id = found.image(row["dicom_id"] or "", where)
        targets = found.targets(row["category_name"] or "") if image_id is not None else ()
        if image_id is None or not targets:
            continue
        x, y, width, height, *size = (number(where, f"column {name!r}", row[name]) for name in _NUMBERS)
        frame = found.frame(where, image_id, (round(size[0]), round(size[1])))
        found.add(where, image_id, targets, Box(x, y, width, height), "reader", frame)
