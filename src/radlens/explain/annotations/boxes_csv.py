"""Boxes in a table: one row a box."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from radlens.core.regions import Annotations, Box
from radlens.core.registry import register
from radlens.explain.annotations.collecting import Collector, LabelledFormat, Sizes
from radlens.explain.annotations.documents import number, read_table


@register("formats", "boxes-csv")
class BoxesCsv(LabelledFormat):
    """CSV or TSV with one box a row: image, label, left, top, width, height.

    labels: the file's label -> one or several labels of the vocabulary; labels not named must match exactly.
    drawn_at: [width, height] of the images that the boxes were drawn on, where it differs from the cohort's images.
    reader_column: who drew the box. A row whose four numbers are all blank holds no box and is counted: that reader
    looked for the label and found none.
    """

    image_column: str = "image"
    label_column: str = "label"
    x: str = "x"
    y: str = "y"
    width: str = "w"
    height: str = "h"
    reader_column: str | None = None
    drawn_at: tuple[int, int] | None = None

    def read(self, path: Path, labels: Sequence[str], sizes: Sizes) -> Annotations:
        """See `AnnotationFormat.read`; a box outside its image, or no usable row at all, raises `DataError`."""
        numbers = (self.x, self.y, self.width, self.height)
        wanted = [self.image_column, self.label_column, *numbers]
        table = read_table(path, wanted + ([self.reader_column] if self.reader_column else []))
        found = Collector(path, labels, sizes, self.labels, drawn_at=self.drawn_at)
        # row 1 is the header
        for at, row in enumerate(table.iter_rows(named=True), start=2):
            where = f"{path} row {at}"
            image_id = found.image(row[self.image_column] or "", where)
            targets = found.targets(row[self.label_column] or "") if image_id is not None else ()
            if image_id is None or not targets:
                continue
            reader = (row[self.reader_column] if self.reader_column else None) or "reader"
            if all(not (row[column] or "").strip() for column in numbers):
                found.left_out["no box"] += 1
                found.looked(image_id, reader, targets)
                continue
            box = Box(*(number(where, f"column {column!r}", row[column]) for column in numbers))
            advice = (
                "if boxes were drawn on images of another size say drawn_at: [width, height], or name other columns "
                f"with x, y, width, height (the file has {', '.join(row)})"
            )
            found.add(where, image_id, targets, box, reader, found.frame(where, image_id, advice=advice))
        return found.annotations("box", "check image_column and label_column")
