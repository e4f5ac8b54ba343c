"""Boxes of a released table as regions of the images at hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import polars as pl

from radlens.core.cohort import Cohort
from radlens.core.errors import DataError, ImageError
from radlens.core.regions import Annotations, Box, Region
from radlens.data.image_size import image_size

# boxes are often rounded outwards: so many pixels beyond the edge are not an error
_OVERHANG = 1.0


def box_numbers(rows: pl.DataFrame, path: Path, columns: Sequence[str], shape: Sequence[str]) -> pl.DataFrame:
    """The columns of a box as Float64; a row whose columns are all blank has no box and keeps its nulls.

    shape: those of the columns that must be above 0. Raises `DataError` naming file, row and value for a cell that is
    no number, or a box that is only half there.
    """
    cells = rows.select(pl.col(name).str.strip_chars().replace("", None) for name in columns)
    boxless = cells.select(pl.all_horizontal(pl.all().is_null())).to_series()
    for name in columns:
        numbers = cells[name].cast(pl.Float64, strict=False)
        wrong = ~numbers.is_finite().fill_null(False) & ~boxless
        if name in shape:
            wrong |= (numbers <= 0).fill_null(False)
        if wrong.any():
            row = int(wrong.arg_true()[0])
            raise DataError(f"table {path}: row {row + 1} has {rows[name][row]!r} for {name!r}; expected pixels.")
        cells = cells.with_columns(numbers)
    return cells


def to_regions(
    boxes: pl.DataFrame,
    source: str,
    cohort: Cohort,
    image_ids: Collection[str],
    labels: Mapping[str, tuple[str, ...]],
    drawn_at: int | None = None,
) -> Annotations:
    """Boxes on `image_ids` as regions, each with its reader, in pixels of the images at hand.

    boxes: `image_id`, `finding`, `reader`, and `x`, `y`, `width`, `height` in pixels of the released images. labels:
    finding -> labels. drawn_at: edge of the square images that the boxes were drawn on; images of another size then
    scale them. Counted as left out: boxes on images outside the cohort, of a finding without a label here, and of a
    label that is not 1 for the image (a finding of one reader that the others did not share is not the truth that a map
    is held against). Raises `ImageError` for an image that is there and whose size does not fit its boxes.
    """
    known = boxes["image_id"].is_in(cohort.table["image_id"].implode())
    left_out = Counter({"image not in the cohort": int((~known).sum())}) if not known.all() else Counter[str]()
    there = boxes.filter(known)
    names = cohort.vocabulary.names
    usable = {finding: tuple(x for x in targets if x in names) for finding, targets in labels.items()}
    for finding, count in there["finding"].value_counts(sort=True).iter_rows():
        if not usable.get(finding):
            left_out[f"finding {finding!r} has no label in {cohort.vocabulary.name}"] += count
    wanted = there.filter(pl.col("image_id").is_in(list(image_ids)))
    rows = cohort.table.filter(pl.col("image_id").is_in(wanted["image_id"].implode()))
    truth = {row["image_id"]: row for row in rows.select("image_id", "path", *names).iter_rows(named=True)}
    reach = wanted.group_by("image_id").agg(
        (pl.col("x") + pl.col("width")).max().alias("right"), (pl.col("y") + pl.col("height")).max().alias("bottom")
    )
    scale = {
        image_id: _scale(truth[image_id]["path"], right, bottom, drawn_at)
        for image_id, right, bottom in reach.iter_rows()
    }
    regions = []
    columns = ("image_id", "finding", "reader", "x", "y", "width", "height")
    for image_id, finding, reader, *numbers in wanted.select(columns).iter_rows():
        box = Box(*(number * scale[image_id] for number in numbers))
        for label in usable.get(finding, ()):
            if truth[image_id][label] == 1:
                regions.append(Region(image_id, label, box, reader))
            else:
                left_out[f"{label} is not 1 for the image"] += 1
    return Annotations(tuple(regions), source, dict(left_out))


def _scale(path: str, right: float, bottom: float, drawn_at: int | None) -> float:
    """Pixels of the image at hand for one pixel of the released image; 1 where the image is not there."""
    if not Path(path).is_file():
        return 1.0
    width, height = image_size(path)
    if drawn_at is not None:
        if width != height:
            raise ImageError(path, f"{width} x {height} pixels; a box drawn at {drawn_at} x {drawn_at} needs a square.")
        return width / drawn_at
    if right > width + _OVERHANG or bottom > height + _OVERHANG:
        raise ImageError(
            path,
            f"{width} x {height} pixels, and a box on it reaches to {right:g} across and {bottom:g} down; boxes are in "
            "pixels of the released image, so use that instead of a resized copy.",
        )
    return 1.0
