"""VinDr-CXR: boxes of single readers, or of the consensus."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from radlens.core.errors import DataError
from radlens.core.mapping import load_mapping
from radlens.core.regions import Annotations, Box
from radlens.core.registry import register
from radlens.explain.annotations.collecting import Collector, LabelledFormat, Sizes
from radlens.explain.annotations.documents import number, read_table

_CORNERS = ("x_min", "y_min", "x_max", "y_max")
_READER = "rad_id"
_CONSENSUS = "consensus"
_NOTHING = "No finding"


@register("formats", "vindr-csv")
class VinDrCsv(LabelledFormat):
    """VinDr-CXR's table of boxes: training with its readers kept apart by rad_id, test as the consensus of five.

    Findings are mapped to chexpert-14 as in the data set `vindr-cxr`, unless `labels` says otherwise. A reader with a
    row for an image looked for every finding that the table names; "No finding" is a row without a box. drawn_at:
    [width, height] of the images that boxes were drawn on, where all are resized from one size.
    """

    drawn_at: tuple[int, int] | None = None

    def read(self, path: Path, labels: Sequence[str], sizes: Sizes) -> Annotations:
        """See `AnnotationFormat.read`; a finding with a box that is only half there raises `DataError`."""
        table = read_table(path, ("image_id", "class_name", *_CORNERS))
        usual = load_mapping("vindr-cxr").findings
        found = Collector(path, labels, sizes, self.labels, usual=usual, drawn_at=self.drawn_at)
        found.declare(name for name in table["class_name"].unique().drop_nulls().sort() if name != _NOTHING)
        consensus = _READER not in table.columns
        for at, row in enumerate(table.iter_rows(named=True), start=2):
            where = f"{path} row {at}"
            image_id = found.image((row["image_id"] or "").strip(), where)
            if image_id is None:
                continue
            reader = _CONSENSUS if consensus else (row[_READER] or "").strip()
            if not reader:
                raise DataError(f"{where}: expected a reader in column {_READER!r}, found none.")
            found.looked(image_id, reader)
            finding, blank = row["class_name"] or "", all(not (row[name] or "").strip() for name in _CORNERS)
            if finding == _NOTHING and blank:
                continue
            targets = found.targets(finding)
            if targets:
                left, top, right, bottom = (number(where, f"column {name!r}", row[name]) for name in _CORNERS)
                box = Box(left, top, right - left, bottom - top)
                found.add(where, image_id, targets, box, reader, found.frame(where, image_id))
        return found.annotations("box", "check image_id")
