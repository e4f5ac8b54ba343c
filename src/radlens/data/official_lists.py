"""An official split stated as text files with an image name a line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from radlens.core.cohort import LeftOut
from radlens.core.errors import DataError


def read_list(path: Path) -> pl.Series:
    """Names, one a line, without blank lines. Raises `DataError` for a file that cannot be read or that is empty."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"list {path} cannot be read as UTF-8 text: {error}.") from error
    names = [name for line in lines if (name := line.strip())]
    if not names:
        raise DataError(f"list {path} is empty; expected an image name a line.")
    return pl.Series("image_id", names, pl.String)


def split_by_lists(image_ids: pl.Series, lists: Mapping[str, Path]) -> tuple[pl.Series, list[str], list[LeftOut]]:
    """`split` of each image by the part whose list names it, null where none does; notes; listed names without a row.

    Raises `DataError` for a name that stands in two lists.
    """
    stated = pl.concat(
        [read_list(path).unique().to_frame().with_columns(split=pl.lit(part)) for part, path in lists.items()]
    )
    twice = stated.filter(pl.col("image_id").is_duplicated()).sort("image_id")
    if twice.height:
        first, second = (lists[part] for part in twice["split"][:2])
        raise DataError(
            f"image {twice['image_id'][0]} stands in {first} and in {second} ({twice.height // 2} images do); take the "
            "lists as they were released."
        )
    ids = image_ids.alias("image_id")
    split = ids.to_frame().join(stated, on="image_id", how="left", maintain_order="left")["split"]
    unlisted = split.null_count()
    notes = [f"{unlisted} of {len(ids)} images stand in no list of the official split."] if unlisted else []
    strange = stated.join(ids.to_frame(), on="image_id", how="anti")["image_id"].sort().to_list()
    return (
        split,
        notes,
        [LeftOut.of("images of the official lists without a row in the table", strange)] if strange else [],
    )
