"""Archives from strangers: their files read in order, and refused where no honest archive has such a file."""

from __future__ import annotations

import lzma
import os
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

from radlens.core.errors import DataError

# Deflate reaches 1032:1, on zeros; reports reach 19:1, films less than 4:1. Below a gigabyte nothing is a bomb.
_MOST_SWOLLEN = 100
_HARMLESS = 1 << 30
_BLOCK = 1 << 20
_DRIVE = re.compile(r"^[A-Za-z]:")
# What the libraries raise for an archive that is damaged, encrypted or compressed in a way they do not know.
_DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    ValueError,
    OverflowError,
    NotImplementedError,
    RuntimeError,
)


@dataclass(frozen=True)
class Member:
    """A regular file in an archive. name: relative, with `/`. size: bytes it declares. at: bytes of the archive read.

    blocks: its contents, to be read before the next member is asked for. Raises `DataError` for damage.
    """

    name: str
    size: int
    at: int
    blocks: Callable[[], Iterator[bytes]]

    def read(self) -> bytes:
        """All of it."""
        return b"".join(self.blocks())


def is_archive(path: Path) -> bool:
    """Whether a path is named like an archive that `members` reads."""
    return path.name.lower().endswith((".tgz", ".tar.gz", ".tar", ".zip"))


def members(archive: Path) -> Iterator[Member]:
    """The regular files of a .tgz, .tar or .zip in their order, straight from the archive; folders are passed over.

    The whole archive is read, its checksum too. Raises `DataError` in one sentence, naming the archive and the member,
    for a missing or damaged archive and for a member that no honest archive has: an absolute path, a path with `..`,
    a link, a device, a name that stands twice, or sizes that add up to more than a hundred times the archive
    (and more than 1 GiB).
    """
    try:
        raw = archive.open("rb")
    except FileNotFoundError as error:
        raise DataError(f"archive {archive} does not exist.") from error
    except OSError as error:
        raise DataError(f"archive {archive} cannot be read: {error.strerror}.") from error
    with raw:
        size = os.fstat(raw.fileno()).st_size
        files = _zip_files(raw, archive) if raw.read(4)[:2] == b"PK" else _tar_files(raw, archive)
        seen: set[str] = set()
        total = 0
        for member in files:
            total += member.size + tarfile.BLOCKSIZE  # millions of empty files are no smaller burden
            if member.name in seen:
                raise refused(archive, member.name, "stands in it twice")
            seen.add(member.name)
            if total > max(_HARMLESS, _MOST_SWOLLEN * size):
                raise refused(
                    archive,
                    member.name,
                    f"brings its contents to {total:,} bytes, over {_MOST_SWOLLEN} times the {size:,} of the archive",
                )
            yield member


def _tar_files(raw: BinaryIO, archive: Path) -> Iterator[Member]:
    try:
        raw.seek(0)
        with _open_tar(raw, archive) as tar:
            while (info := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # kept for a look back that never comes
                _check_name(archive, info.name)
                if info.isdir():
                    continue
                if not info.isreg():
                    kind = "a link" if info.islnk() or info.issym() else "a device, pipe or other special file"
                    raise refused(archive, info.name, f"is {kind}")
                _second_opinion(archive, info)
                yield Member(info.name, info.size, raw.tell(), partial(_tar_blocks, tar, info, archive))
            _check_end(tar, raw, archive)
    except _DAMAGED as error:
        raise _damaged(archive, error) from error


def _open_tar(raw: BinaryIO, archive: Path) -> tarfile.TarFile:
    try:
        return tarfile.open(fileobj=raw, mode="r:*")
    except tarfile.ReadError as error:
        # often the web page of an error, saved under the archive's name
        raise DataError(
            f"archive {archive} is no .tgz, .tar or .zip, or not a whole one; download it again."
        ) from error


def _tar_blocks(tar: tarfile.TarFile, info: tarfile.TarInfo, archive: Path) -> Iterator[bytes]:
    try:
        file = tar.extractfile(info)
        while file is not None and (block := file.read(_BLOCK)):
            yield block
    except _DAMAGED as error:
        raise _damaged(archive, error, info.name) from error


def _second_opinion(archive: Path, info: tarfile.TarInfo) -> None:
    # Python's own filter (3.11.4 and later) knows traps of platforms that the checks here may not.
    data_filter = getattr(tarfile, "data_filter", None)
    if data_filter is None:
        return
    try:
        data_filter(info, str(archive.parent))
    except tarfile.FilterError as error:
        raise refused(archive, info.name, "is refused by Python's filter for data archives") from error


def _check_end(tar: tarfile.TarFile, raw: BinaryIO, archive: Path) -> None:
    # tarfile takes a header that is cut or damaged for the end of the archive
    file = cast(BinaryIO, tar.fileobj)
    if file is raw:
        raw.seek(tar.offset)
        if raw.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise _damaged(archive, EOFError("it has no end mark"))
    # the checksum of a compressed archive stands behind all that tarfile reads
    while file.read(_BLOCK):
        pass


def _zip_files(raw: BinaryIO, archive: Path) -> Iterator[Member]:
    try:
        with zipfile.ZipFile(raw) as opened:
            for info in opened.infolist():
                # as written in the archive: zipfile has already turned or cut what it does not like
                _check_name(archive, info.orig_filename)
                if info.is_dir():
                    continue
                mode = stat.S_IFMT(info.external_attr >> 16)
                if mode not in (0, stat.S_IFREG):
                    raise refused(archive, info.filename, "is a link" if mode == stat.S_IFLNK else "is a special file")
                if info.flag_bits & 1:
                    raise refused(archive, info.filename, "is encrypted")
                yield Member(
                    info.filename,
                    info.file_size,
                    raw.tell(),
                    partial(_zip_blocks, opened, info, archive),
                )
    except _DAMAGED as error:
        raise _damaged(archive, error) from error


def _zip_blocks(opened: zipfile.ZipFile, info: zipfile.ZipInfo, archive: Path) -> Iterator[bytes]:
    try:
        with opened.open(info) as file:
            while block := file.read(_BLOCK):
                yield block
    except _DAMAGED as error:
        raise _damaged(archive, error, info.filename) from error


def _check_name(archive: Path, name: str) -> None:
    parts = name.rstrip("/").split("/")
    if not name or "\0" in name or "\\" in name:
        raise refused(archive, name, "has a name with a character that no file should have")
    if name.startswith("/") or _DRIVE.match(name):
        raise refused(archive, name, "has an absolute path")
    if ".." in parts:
        raise refused(archive, name, "has a path that leads out of the folder (`..`)")
    if any(len(part.encode("utf-8", "replace")) > 255 for part in parts):
        raise refused(archive, name, "has a name of more than 255 bytes")


def refused(archive: Path, name: str, why: str) -> DataError:
    """The error for a member that is not taken."""
    shown = name if len(name) <= 100 else f"{name[:100]}..."
    return DataError(f"archive {archive}: member {shown!r} {why}; get the archive again from its source.")


def _damaged(archive: Path, error: BaseException, name: str | None = None) -> DataError:
    where = f" in member {name!r}" if name else ""
    first = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
    return DataError(f"archive {archive} is cut short or damaged{where} ({first[:150]}); copy or download it again.")
