"""Where the images of a folder lie: one listing of the whole tree, by file name."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from radlens.core.errors import DataError

RADIOGRAPHS = (".png", ".jpg", ".jpeg", ".dcm", ".dicom", ".tif", ".tiff")


def index_images(folder: Path, extensions: Collection[str] = RADIOGRAPHS) -> dict[str, str]:
    """File name -> path of every file below `folder` whose name ends in one of `extensions` (`.png`; case ignored).

    Each folder is listed once and no file is opened: 400,000 files take seconds on a local disk. Folders that are
    links are followed, each folder once. Files and folders whose name starts with a dot are passed over (macOS leaves
    such a file beside each image). Raises `DataError` when the folder cannot be listed, or when two files of one name
    would leave open which is meant.
    """
    endings = tuple(extension.lower() for extension in extensions)
    found: dict[str, str] = {}
    twice: list[str] = []
    open_folders, seen = [str(folder)], set[str]()
    while open_folders:
        current = open_folders.pop()
        real = os.path.realpath(current)
        if real in seen:
            continue
        seen.add(real)
        try:
            with os.scandir(current) as entries:
                for entry in entries:
                    name = entry.name
                    if name.startswith("."):
                        continue
                    if name.lower().endswith(endings) and not entry.is_dir():
                        if name in found:
                            twice.append(name)
                        else:
                            found[name] = entry.path
                    elif entry.is_dir():
                        open_folders.append(entry.path)
        except OSError as error:
            raise DataError(f"image folder {current} cannot be listed: {error.strerror}; check `images:`.") from error
    if twice:
        name = min(twice)
        raise DataError(
            f"image folder {folder} holds {name} more than once (one is {found[name]}; {len(set(twice))} names stand "
            "twice); name with `images:` the folder that holds each image once."
        )
    return found
