"""Where the images of a released table lie: found in the folder's tree, or else where the release has them."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from radlens.data.image_folder import RADIOGRAPHS, index_images


def image_paths(names: pl.Series, released: pl.Series, folder: Path) -> tuple[pl.Series, pl.Series]:
    """(paths, missing): (N,) text `path`, and (N,) boolean, True where the folder's tree holds no such image.

    names: what a file is called without its extension, so that converted copies (PNG for DICOM) are found as well;
    where there are several kinds of one image, the released one is taken. released: path below `folder` as released,
    which stands for an image that is missing. No image is opened. Raises `DataError` as `index_images` does.
    """
    released = released.alias("path")
    as_released = released.to_frame().select(pl.lit(f"{folder}/") + pl.col("path")).to_series().alias("path")
    if not folder.is_dir():
        return as_released, pl.Series("missing", [True] * len(names), pl.Boolean)
    there = index_images(folder, RADIOGRAPHS)
    files = pl.DataFrame({"file": list(there), "found": list(there.values())}, {"file": pl.String, "found": pl.String})
    stems = (
        files.with_columns(name=pl.col("file").str.replace(r"\.[^.]*$", ""))
        .sort("file")
        .unique("name", keep="first", maintain_order=True)
    )
    wanted = pl.DataFrame({"name": names, "file": released.str.extract(r"([^/]+)$"), "path": as_released})
    joined = wanted.join(files, on="file", how="left", maintain_order="left").join(
        stems.select("name", other="found"), on="name", how="left", maintain_order="left"
    )
    found = joined.select(pl.coalesce("found", "other").alias("found"))["found"]
    return found.fill_null(joined["path"]).alias("path"), found.is_null().alias("missing")
