"""The headers of a tree of DICOM files, each read once and remembered without a name in it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from radlens.core.errors import DataError, StoreError
from radlens.core.parts import Progress
from radlens.core.store import fingerprint, source_digest, write_failure
from radlens.data.dicom_header import Header, read_header
from radlens.data.dicom_pseudonyms import Pseudonyms

# reading waits for the disk or the network more than it computes
_READERS = 4
_BATCH = 2000
_FIELDS = ("file", "size", "changed", *Header._fields)


class File(NamedTuple):
    """A file of the tree: path from the tree's top, size in bytes, time of its last change in nanoseconds."""

    path: str
    size: int
    changed: int


def list_files(folder: Path) -> tuple[list[File], int]:
    """All files below a folder, in order, and how many folders in it may not be read; of links, those to files count.

    Raises `DataError` when the folder itself is not there or may not be read.
    """
    try:
        there = folder.is_dir()
        if there:
            os.scandir(folder).close()
    except OSError as error:
        raise DataError(f"folder {folder} cannot be read: {error.strerror}.") from error
    if not there:
        what = "is a file" if folder.is_file() else "does not exist"
        raise DataError(f"folder {folder} {what}; expected a folder of DICOM files.")
    closed: list[str] = []
    return sorted(_walk(folder, "", closed)), len(closed)


def read_headers(
    folder: Path, files: list[File], names: Pseudonyms, work: Path, progress: Progress
) -> Iterator[tuple[File, Header]]:
    """The header of each file, in order; those that have not changed since the last time come from the cache.

    The cache holds pseudonyms only, of the paths too. Read files are remembered batch by batch, so that a run that was
    stopped goes on where it was. Raises `StoreError` when the cache cannot be used.
    """
    made_by = fingerprint(names.check, source_digest("radlens.data.dicom_header", "radlens.data.dicom_pseudonyms"))
    index = work / "dicom" / f"headers-{made_by[:16]}.sqlite"
    try:
        index.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.closing(sqlite3.connect(index, timeout=60)) as connection:
            yield from _remembered(connection, folder, files, names, progress)
    except sqlite3.OperationalError as error:
        raise StoreError(f"cannot write {index}: {error}; name another cache with RADLENS_CACHE.") from error
    except sqlite3.DatabaseError as error:
        raise StoreError(f"cannot read {index}: {error}; delete that file, it is made anew.") from error
    except OSError as error:
        raise StoreError(write_failure(index, error)) from error


def _walk(folder: Path, prefix: str, closed: list[str]) -> Iterator[File]:
    folders: list[str] = []
    try:
        with os.scandir(folder / prefix) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.name)
                # a link to nowhere is no file
                elif entry.is_file():
                    stat = entry.stat()
                    yield File(prefix + entry.name, stat.st_size, stat.st_mtime_ns)
    except OSError:
        closed.append(prefix)
    for name in folders:
        yield from _walk(folder, f"{prefix}{name}/", closed)


def _remembered(
    connection: sqlite3.Connection, folder: Path, files: list[File], names: Pseudonyms, progress: Progress
) -> Iterator[tuple[File, Header]]:
    connection.execute(f"create table if not exists header ({_FIELDS[0]} text primary key, {', '.join(_FIELDS[1:])})")
    known = {row[0]: row[1:] for row in connection.execute(f"select {', '.join(_FIELDS)} from header")}
    base = str(folder.absolute())
    insert = f"insert or replace into header values ({', '.join('?' * len(_FIELDS))})"
    with ThreadPoolExecutor(_READERS, thread_name_prefix="radlens-headers") as pool:
        for start in range(0, len(files), _BATCH):
            batch = files[start : start + _BATCH]
            keys = [names.of("path", f"{base}/{file.path}") for file in batch]
            old = [known.get(key) for key in keys]
            stale = [row is None or row[:2] != file[1:] for row, file in zip(old, batch, strict=True)]
            asked = [file for file, is_stale in zip(batch, stale, strict=True) if is_stale]
            read = pool.map(lambda file: read_header(folder / file.path, file.size, names), asked)
            headers = [
                next(read) if is_stale or row is None else Header(*row[2:])
                for row, is_stale in zip(old, stale, strict=True)
            ]
            fresh = [
                (key, file.size, file.changed, *header)
                for key, file, header, is_stale in zip(keys, batch, headers, stale, strict=True)
                if is_stale
            ]
            with connection:
                connection.executemany(insert, fresh)
            yield from zip(batch, headers, strict=True)
            progress(start + len(batch), len(files))
