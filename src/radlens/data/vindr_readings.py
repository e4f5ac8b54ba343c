"""What each radiologist saw in the images of VinDr-CXR, and what that makes of an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import polars as pl

from radlens.core.errors import DataError
from radlens.core.mapping import FindingMapping
from radlens.data import release
from radlens.data.released_boxes import box_numbers

Rule = Literal["majority", "any"]

_CORNERS = ("x_min", "y_min", "x_max", "y_max")
_NOTHING = "No finding"
_CONSENSUS = "consensus"
# the challenge's 14 findings; it shows the other 8 and the global labels to nobody
_CHALLENGE = (
    "Aortic enlargement",
    "Atelectasis",
    "Calcification",
    "Cardiomegaly",
    "Consolidation",
    "ILD",
    "Infiltration",
    "Lung Opacity",
    "Nodule/Mass",
    "Other lesion",
    "Pleural effusion",
    "Pleural thickening",
    "Pneumothorax",
    "Pulmonary fibrosis",
)


@dataclass(frozen=True)
class Readings:
    """table: `image_id`, `reader`, `split`, and an Int8 column a label that was looked for; a row a reading."""

    table: pl.DataFrame
    notes: tuple[str, ...]


def read_release(path: Path, part: str, mapping: FindingMapping) -> Readings:
    """PhysioNet's image labels: a row a reading, a column a finding of 1 and 0 (blank: that reader does not say).

    The test table has no reader: it is the consensus. Raises `DataError` naming file, row and value.
    """
    rows = release.read_released(path, ("image_id", _NOTHING))
    rows = rows.with_columns(pl.col("image_id").str.strip_chars(), _reader(rows))
    _refuse_blank(rows, path)
    twice = rows.select("image_id", "reader").is_duplicated()
    if twice.any():
        row = int(twice.arg_true()[0])
        image, reader = rows["image_id"][row], rows["reader"][row]
        raise DataError(
            f"table {path}: image {image} was read by {reader} twice (first in row {row + 1}); keep one row."
        )
    present = [name for name in mapping.findings if name in rows.columns]
    cells = pl.DataFrame(release.label_cells(rows, path, present))
    unsure = cells.select(pl.any_horizontal(pl.all() == -1).fill_null(False)).to_series()
    if unsure.any():
        raise DataError(f"table {path}: row {int(unsure.arg_true()[0]) + 1} has -1; readers of VinDr-CXR say 1 or 0.")
    columns = []
    for label, sources in mapping.sources.items():
        looked_for = [name for name in sources if name in present]
        if looked_for:
            columns.append(cells.select(pl.max_horizontal(looked_for).alias(label)).to_series())
    others = [name for name in present if name != _NOTHING]
    found = cells.select(pl.any_horizontal(pl.col(name) == 1 for name in others).fill_null(False)).to_series()
    strange = [name for name in rows.columns if name not in (*mapping.findings, "image_id", "rad_id", "reader")]
    notes = [f"{path.name} has columns that are not in the mapping: {', '.join(strange)}."] if strange else []
    table = rows.select("image_id", "reader", pl.lit(part).alias("split"), *columns)
    return _coherent(table, found, notes)


def read_challenge(path: Path, mapping: FindingMapping) -> Readings:
    """The challenge's table: a row a box, or "No finding" for a reader who drew none."""
    rows = _boxes(path)
    each = rows.group_by("image_id", "reader", maintain_order=True).agg(pl.col("class_name").unique().alias("found"))
    looked_for = {name for finding in (*_CHALLENGE, _NOTHING) for name in mapping.findings[finding]}
    columns = each.select(*mapping.columns(pl.col("found"))).select(x for x in mapping.assesses if x in looked_for)
    table = pl.concat([each.select("image_id", "reader", pl.lit("train").alias("split")), columns], how="horizontal")
    found = each.select(pl.col("found").list.eval(pl.element() != _NOTHING).list.any()).to_series()
    unknown = mapping.unknown(each["found"])
    listed = ", ".join(f"{name} ({count})" for name, count in list(unknown.items())[:5])
    notes = [f"{len(unknown)} findings are not in the mapping and set no label: {listed}."] if unknown else []
    return _coherent(table, found, notes)


def read_boxes(path: Path) -> pl.DataFrame:
    """`image_id`, `finding`, `reader`, `x`, `y`, `width`, `height` of every box; rows without one are dropped."""
    rows = _boxes(path)
    corners = box_numbers(rows, path, _CORNERS, ())
    x, y, right, bottom = (pl.col(name) for name in _CORNERS)
    numbers = corners.select(x.alias("x"), y.alias("y"), (right - x).alias("width"), (bottom - y).alias("height"))
    flat = numbers.select(((pl.col("width") <= 0) | (pl.col("height") <= 0)).fill_null(False)).to_series()
    if flat.any():
        row = int(flat.arg_true()[0])
        found = ", ".join(f"{name} {rows[name][row]}" for name in _CORNERS)
        raise DataError(f"table {path}: row {row + 1} is a box without width or height ({found}).")
    named = rows.select("image_id", pl.col("class_name").alias("finding"), "reader")
    return pl.concat([named, numbers], how="horizontal").drop_nulls("x")


def decide(readings: pl.DataFrame, labels: Sequence[str], rule: Rule) -> pl.DataFrame:
    """One row an image: `image_id`, `split`, `readers` (how many), and Int8 columns of 1, 0, or null where none says.

    majority: more than half of those readers who say anything of the label. any: at least one of them; for "No Finding"
    all of them, since one reader's finding is then a finding.
    """
    present = [name for name in labels if name in readings.columns]
    votes = []
    for name in present:
        positive, asked = pl.col(name).sum().cast(pl.Int32), pl.col(name).count().cast(pl.Int32)
        needed = (
            positive * 2 > asked if rule == "majority" else positive == asked if name == "No Finding" else positive > 0
        )
        votes.append(pl.when(asked > 0).then(needed).cast(pl.Int8).alias(name))
    grouped = readings.group_by("image_id", "split", maintain_order=True)
    return grouped.agg(pl.len().cast(pl.Int16).alias("readers"), *votes)


def _boxes(path: Path) -> pl.DataFrame:
    rows = release.read_released(path, ("image_id", "class_name", *_CORNERS))
    rows = rows.with_columns(pl.col("image_id", "class_name").str.strip_chars(), _reader(rows))
    _refuse_blank(rows, path)
    return rows


def _reader(rows: pl.DataFrame) -> pl.Expr:
    if "rad_id" not in rows.columns:
        return pl.lit(_CONSENSUS).alias("reader")
    return pl.col("rad_id").str.strip_chars().alias("reader")


def _refuse_blank(rows: pl.DataFrame, path: Path) -> None:
    for column in ("image_id", "class_name", "reader"):
        if column in rows.columns:
            blank = (rows[column] == "").fill_null(True)
            if blank.any():
                named = "rad_id" if column == "reader" else column
                raise DataError(f"table {path}: row {int(blank.arg_true()[0]) + 1} has no {named!r}.")


def _coherent(table: pl.DataFrame, found: pl.Series, notes: list[str]) -> Readings:
    """A reader who calls an image free of findings and names one has found something."""
    both = (table["No Finding"] == 1).fill_null(False) & found
    if both.any():
        notes.append(f'{int(both.sum())} readings say "{_NOTHING}" beside a finding: the finding stands.')
        table = table.with_columns(
            pl.when(both).then(0).otherwise(pl.col("No Finding")).cast(pl.Int8).alias("No Finding")
        )
    return Readings(table, tuple(notes))
