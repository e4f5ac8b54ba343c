"""The radiologists' boxes of ChestX-ray14 (BBox_List_2017.csv)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.csv as pc
from PIL import Image

from radlens.core.cohort import Cohort
from radlens.core.errors import DataError, ImageError
from radlens.core.regions import Annotations, Box, Region

RELEASED = "BBox_List_2017.csv"
DRAWN_AT = 1024
_COLUMNS = ("image", "finding", "x", "y", "width", "height")
# the table of labels has another word for it
_RENAMED = {"Infiltrate": "Infiltration"}
_OVERHANG = 1.0


def read_boxes(path: Path) -> pl.DataFrame:
    """Image, finding (in the words of the label table), x, y, width, height (Float64, pixels of 1024 x 1024).

    The released header is `Image Index,Finding Label,Bbox [x,y,w,h],,,`, which is nine columns over rows of six: the
    first six are read by position. Raises `DataError` naming file, row and value.
    """
    # surplus separators end the header in every release, and the rows in some
    try:
        table = pl.from_arrow(
            pc.read_csv(
                path,
                read_options=pc.ReadOptions(column_names=["line"], skip_rows=1, use_threads=False),
                parse_options=pc.ParseOptions(delimiter="\x1f", quote_char=False),
                convert_options=pc.ConvertOptions(column_types={"line": pa.string()}),
            )
        )
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"boxes {path} cannot be read: {str(error).splitlines()[0]}.") from error
    assert isinstance(table, pl.DataFrame)
    fields = table["line"].str.strip_chars_end(", \r").str.split(",")
    short = fields.list.len() != len(_COLUMNS)
    if short.any():
        row = int(short.arg_true()[0])
        raise DataError(f"boxes {path}: row {row + 1} is {table['line'][row]!r}; expected image, finding, x, y, w, h.")
    rows = fields.list.to_struct(fields=list(_COLUMNS)).struct.unnest()
    for column in _COLUMNS[2:]:
        numbers = rows[column].cast(pl.Float64, strict=False)
        wrong = ~numbers.is_finite().fill_null(False)
        if column in ("width", "height"):
            wrong |= (numbers <= 0).fill_null(False)
        if wrong.any():
            row = int(wrong.arg_true()[0])
            raise DataError(f"boxes {path}: row {row + 1} has {rows[column][row]!r} for {column}; expected pixels.")
        rows = rows.with_columns(numbers)
    start, end = (
        pl.min_horizontal("x", "y"),
        pl.max_horizontal(pl.col("x") + pl.col("width"), pl.col("y") + pl.col("height")),
    )
    outside = rows.with_row_index("row").filter((start < -_OVERHANG) | (end > DRAWN_AT + _OVERHANG))
    if outside.height:
        raise DataError(
            f"boxes {path}: row {outside['row'][0] + 1}: the box on {outside['image'][0]} reaches beyond the "
            f"{DRAWN_AT} x {DRAWN_AT} pixels that it was drawn on."
        )
    return rows.with_columns(pl.col("finding").str.strip_chars().replace(_RENAMED))


def to_regions(
    boxes: pl.DataFrame,
    path: Path,
    cohort: Cohort,
    image_ids: Collection[str],
    labels: Mapping[str, tuple[str, ...]],
) -> Annotations:
    """Boxes on `image_ids` as regions in pixels of the images at hand.

    labels: finding -> labels of the cohort's vocabulary. Boxes on images outside the cohort and boxes of a finding
    without a label are counted. Raises `ImageError` for an image that cannot be opened or is no longer a square.
    """
    known = boxes["image"].is_in(cohort.table["image_id"].implode())
    left_out = Counter({"image not in the cohort": int((~known).sum())}) if not known.all() else Counter[str]()
    there = boxes.filter(known)
    for finding, count in there["finding"].value_counts().iter_rows():
        if not labels.get(finding):
            left_out[f"finding {finding!r} has no label in {cohort.vocabulary.name}"] += count
    wanted = there.filter(pl.col("image").is_in(list(image_ids)))
    where = cohort.table.filter(pl.col("image_id").is_in(wanted["image"].implode()))
    scale = {name: _scale(file) for name, file in where.select("image_id", "path").iter_rows()}
    regions = [
        Region(image, label, Box(x * scale[image], y * scale[image], w * scale[image], h * scale[image]), "radiologist")
        for image, finding, x, y, w, h in wanted.select(*_COLUMNS).iter_rows()
        for label in labels.get(finding, ())
    ]
    return Annotations(tuple(regions), str(path), dict(left_out))


def _scale(path: str) -> float:
    """Pixels of the image at hand for one pixel of the image that the box was drawn on."""
    try:
        with Image.open(path) as image:
            width, height = image.size
    except (OSError, Image.DecompressionBombError) as error:
        raise ImageError(path, f"its size cannot be read to place a box ({error})") from error
    if width != height:
        raise ImageError(
            path, f"{width} x {height} pixels; a box drawn at {DRAWN_AT} x {DRAWN_AT} needs a square image"
        )
    return width / DRAWN_AT
