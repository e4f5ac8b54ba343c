"""Whether the disk has room for a download and for what comes out of it, before the first byte is asked for."""

from __future__ import annotations

import shutil
from pathlib import Path

from radlens.core.errors import DataError
from radlens.data.cards import DataFile
from radlens.data.fetch_partial import Partial

# bytes that an archive's members take for each byte of the archive, where the card does not know: PNG is compressed
# already, the pixels of DICOM shrink by about half, text shrinks most
_SWELL = {"png": 1.1, "dicom": 2.0, "reports": 20.0, "labels": 20.0}
# a disk filled to the last byte harms more than this download
_SPARE = 100 * 10**6
_ARCHIVES = (".tar.gz", ".tgz", ".tar", ".zip")


def unpacked_folder(file: DataFile, to: Path) -> Path:
    """Where an archive's members go: a folder of its own, so that no archive writes over another's members."""
    ending = next((e for e in _ARCHIVES if file.name.lower().endswith(e)), "")
    return to / (file.name[: -len(ending)] if ending else f"{file.name}-unpacked")


def unpacked_size(file: DataFile, size: int) -> int:
    """Bytes that an archive of `size` bytes unpacks to: as the card says, else estimated from its kind."""
    return file.unpacked or int(size * _SWELL[file.kind])


def still_needed(file: DataFile, to: Path, extract: bool) -> int:
    """Bytes of disk that a file still needs, as far as its card tells: 0 for what is there or of unknown size."""
    unpacks = extract and file.extract
    if unpacks and unpacked_folder(file, to).is_dir():
        return 0
    path = to / file.name
    if path.is_file():
        return unpacked_size(file, path.stat().st_size) if unpacks else 0
    if file.size is None:
        return 0
    ahead = max(0, file.size - Partial(to, file.name).held)
    return ahead + (unpacked_size(file, file.size) if unpacks else 0)


def check_room(to: Path, need: int) -> None:
    """Raise `DataError` when the disk of the folder `to` has less than `need` bytes free, and 100 MB to spare."""
    free = shutil.disk_usage(to).free
    if need and need + _SPARE > free:
        raise DataError(
            f"the disk of {to} is too small: about {shown(need + _SPARE)} are needed for what is still to come, "
            f"unpacked files included, and {shown(free)} are free; free some space or name another folder with --to."
        )


def shown(size: int) -> str:
    """A number of bytes for people, in decimal units."""
    for unit, bytes_ in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= bytes_:
            return f"{size / bytes_:.1f} {unit}"
    return f"{size} bytes"
