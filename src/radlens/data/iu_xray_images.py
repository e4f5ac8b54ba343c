"""The image files of IU-Xray: which file is which image, however a distributor has named it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from radlens.core.errors import DataError
from radlens.data.image_folder import index_images

_SUFFIXES = (".png", ".dcm", ".dicom", ".jpg", ".jpeg")
_NAME = re.compile(r"^(?:CXR)?(\d+)_(?:\1_)?(IM-[0-9-]+)$", re.IGNORECASE)


@dataclass(frozen=True)
class ImageFiles:
    """key -> path of the files that are named like an image of the collection; paths of those that are not."""

    by_key: dict[str, str]
    strangers: tuple[str, ...]


def image_key(name: str) -> str | None:
    """What an id in a report, an id in the metadata and a file's name have in common; None for any other name.

    `CXR1_1_IM-0001-3001` (reports, NLM's PNG), `CXR1_IM-0001-3001` (metadata), `1_IM-0001-3001.dcm` (NLM's DICOM) and
    `1_IM-0001-3001.dcm.png` (Kaggle) are one image. The 7,470 images of the collection have 7,470 keys.
    """
    while (parts := os.path.splitext(name))[1].lower() in _SUFFIXES:  # noqa: PTH122 - a Path for each of 7,470 is slow
        name = parts[0]
    match = _NAME.match(name)
    return f"{int(match[1])}_{match[2].upper()}" if match else None


def find_images(folder: Path) -> ImageFiles:
    """All PNG, JPEG and DICOM files below a folder. Raises `DataError` when an image is there twice."""
    if not folder.is_dir():
        what = "is a file, not a folder or a .tgz" if folder.is_file() else "does not exist"
        raise DataError(f"images {folder} {what}; name the folder or the .tgz of IU-Xray's images with `images:`.")
    by_key: dict[str, str] = {}
    strangers: list[str] = []
    for name, path in sorted(index_images(folder, _SUFFIXES).items()):
        key = image_key(name)
        if key is None:
            strangers.append(path)
        elif key in by_key:
            raise DataError(
                f"images {folder}: {by_key[key]} and {path} are one image of IU-Xray; name a folder that holds it "
                "once (such as the PNG alone)."
            )
        else:
            by_key[key] = path
    return ImageFiles(by_key, tuple(strangers))
