"""Boxes in a table: one row a box."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl
from pydantic import Field

from radlens.core.errors import DataError, unknown_name
from radlens.core.parts import AnnotationFormat
from radlens.core.regions import Annotations, Box, Region
from radlens.core.registry import register

# boxes are often rounded outwards: so many pixels beyond the edge are cut off in silence
_OVERHANG = 1.0


@register("formats", "boxes-csv")
class BoxesCsv(AnnotationFormat):
    """CSV or TSV with one box a row: image, label, left, top, width, height.

    labels: the file's label -> one or several labels of the vocabulary; labels not named must match exactly.
    drawn_at: [width, height] of the images that the boxes were drawn on, where it differs from the cohort's images.
    reader_column: who drew the box. A row whose four numbers are all blank holds no box and is counted.
    """

    image_column: str = "image"
    label_column: str = "label"
    x: str = "x"
    y: str = "y"
    width: str = "w"
    height: str = "h"
    reader_column: str | None = None
    labels: dict[str, str | list[str]] = Field(default_factory=dict)
    drawn_at: tuple[int, int] | None = None

    def read(self, path: Path, labels: Sequence[str], sizes: Mapping[str, tuple[int, int]]) -> Annotations:
        """See `AnnotationFormat.read`; a box outside its image, or no usable box at all, raises `DataError`."""
        table = self._table(path)
        targets = self._targets(path, labels)
        left_out: Counter[str] = Counter()
        regions: list[Region] = []
        # row 1 is the header
        for number, row in enumerate(table.iter_rows(named=True), start=2):
            image_id, label = row[self.image_column] or "", row[self.label_column] or ""
            if image_id not in sizes:
                left_out["image not in the cohort"] += 1
            elif label not in targets:
                left_out[f"label {label!r} not in the vocabulary"] += 1
            elif all(not (row[column] or "").strip() for column in self._numbers()):
                left_out["no box"] += 1
            else:
                box = self._box(f"{path} row {number}", row, image_id, sizes[image_id])
                reader = (row[self.reader_column] if self.reader_column else None) or "reader"
                regions.extend(Region(image_id, target, box, reader) for target in targets[label])
        if not regions:
            reasons = "; ".join(f"{reason}: {count}" for reason, count in left_out.most_common(3)) or "it has no rows"
            raise DataError(
                f"{path} holds no box for this cohort ({reasons}); check image_column and label_column, or map the "
                f"file's labels with labels: {{file label: {labels[0] if labels else 'label'}}}."
            )
        return Annotations(tuple(regions), str(path), dict(left_out))

    def _numbers(self) -> tuple[str, str, str, str]:
        return self.x, self.y, self.width, self.height

    def _table(self, path: Path) -> pl.DataFrame:
        separator = "\t" if path.suffix.lower() in {".tsv", ".tab"} else ","
        try:
            table = pl.read_csv(path, separator=separator, infer_schema=False)
        except FileNotFoundError as error:
            raise DataError(f"annotation file {path} does not exist.") from error
        except (OSError, pl.exceptions.PolarsError) as error:
            reason = str(error).partition("\n")[0]
            raise DataError(f"annotation file {path} is not a readable table: {reason}.") from error
        wanted = [self.image_column, self.label_column, *self._numbers()]
        for column in wanted + ([self.reader_column] if self.reader_column else []):
            if column not in table.columns:
                raise DataError(f"{path}: " + unknown_name("column", column, table.columns))
        return table

    def _targets(self, path: Path, labels: Sequence[str]) -> dict[str, tuple[str, ...]]:
        targets: dict[str, tuple[str, ...]] = {label: (label,) for label in labels}
        for source, target in self.labels.items():
            names = (target,) if isinstance(target, str) else tuple(target)
            for name in names:
                if name not in labels:
                    raise DataError(f"labels: of {path}: {source!r} -> " + unknown_name("label", name, labels))
            targets[source] = names
        return targets

    def _box(self, where: str, row: Mapping[str, str | None], image_id: str, size: tuple[int, int]) -> Box:
        x, y, width, height = (_number(where, column, row[column]) for column in self._numbers())
        if width <= 0 or height <= 0:
            raise DataError(f"{where}: expected a box with a width and height above 0, found {width:g} x {height:g}.")
        frame = self.drawn_at or size
        for axis, start, length, limit in (("across", x, width, frame[0]), ("down", y, height, frame[1])):
            if start < -_OVERHANG or start + length > limit + _OVERHANG:
                raise DataError(
                    f"{where}: the box on {image_id} spans {start:g} to {start + length:g} {axis}, outside the "
                    f"{limit} pixels of the {'size in drawn_at' if self.drawn_at else 'image'}; if boxes were drawn on "
                    f"images of another size say drawn_at: [width, height], or name other columns with x, y, width, "
                    f"height (the file has {', '.join(row)})."
                )
        across, down = size[0] / frame[0], size[1] / frame[1]
        if abs(across / down - 1) > 0.01:
            raise DataError(
                f"{where}: drawn_at {frame[0]}x{frame[1]} has another shape than image {image_id} of "
                f"{size[0]}x{size[1]}; boxes can only be scaled between images of one shape."
            )
        left, top = max(x, 0.0), max(y, 0.0)
        right, bottom = min(x + width, frame[0]), min(y + height, frame[1])
        return Box(left * across, top * down, (right - left) * across, (bottom - top) * down)


def _number(where: str, column: str, text: str | None) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{where}: expected a number in column {column!r}, found {text!r}.")
    return value
