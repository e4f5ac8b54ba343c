"""Files that are never half-written, fingerprints, and a cache addressed by content."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from radlens.core.errors import StoreError


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Yield a path to write to; it takes the place of `path` only when the block ends without an error.

    A full disk, a missing permission or a read-only folder raises `StoreError` with the path in the sentence.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield aside
        aside.replace(path)
    except OSError as error:
        raise StoreError(write_failure(path, error)) from error
    except (SafetensorError, pl.exceptions.PolarsError) as error:
        # these libraries tell of a full disk or a missing permission in their own errors, the number in the text
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        reason = OSError(int(number[1]), os.strerror(int(number[1])))
        raise StoreError(write_failure(path, reason)) from error
    finally:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)


def write_failure(path: Path, error: OSError) -> str:
    """The sentence for a failed write."""
    reasons = {
        errno.ENOSPC: "no space left on the disk; free some, or name another folder with --out",
        errno.EDQUOT: "the disk quota is used up; free some space, or name another folder with --out",
        errno.EACCES: "no permission to write there; name another folder with --out",
        errno.EPERM: "no permission to write there; name another folder with --out",
        errno.EROFS: "the file system is read-only; name another folder with --out",
        errno.ENOTDIR: "a file stands where a folder is needed; name another folder with --out",
        errno.EEXIST: "a file stands where a folder is needed; name another folder with --out",
    }
    reason = reasons.get(error.errno or 0, error.strerror or str(error))
    if default_cache() in path.parents:
        reason = reason.replace("name another folder with --out", "name another cache with RADLENS_CACHE")
    return f"cannot write {path}: {reason}."


def write_text(path: Path, text: str) -> None:
    """Write text in UTF-8, whole or not at all."""
    with writing(path) as aside:
        aside.write_text(text, "utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON, whole or not at all. NaN becomes null."""
    write_text(path, json.dumps(_plain(value), indent=2, ensure_ascii=False) + "\n")


Progress = Callable[[int, int], None]
"""Called with (done, total)."""
_SOURCE = (".py", ".html", ".css", ".toml", ".json")
_READERS = 4
_BATCH = 1000


def fingerprint(*values: Any) -> str:
    """32 hex digits of SHA-256 over plain values, dataclasses, paths and arrays; equal values, equal digits."""
    digest = hashlib.sha256()
    for value in values:
        _feed(digest, value)
    return digest.hexdigest()[:32]


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def source_digest(*modules: str) -> str:
    """Fingerprint of the source files (code, templates, tables) of modules or packages: a stage's code version."""
    import importlib.util

    texts: list[str] = []
    for module in modules:
        spec = importlib.util.find_spec(module)
        if spec is None or spec.origin is None:
            raise ValueError(f"no module {module}")
        folders = spec.submodule_search_locations
        found = (p for f in folders for p in Path(f).rglob("*")) if folders else [Path(spec.origin)]
        texts.extend(p.read_text("utf-8") for p in sorted(found) if p.suffix in _SOURCE)
    return fingerprint(texts)


class Cache:
    """Arrays addressed by the fingerprint of all that changes them, in a folder shared by all runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def arrays(
        self, room: str, key: str, make: Callable[[], Mapping[str, npt.NDArray[Any]]]
    ) -> tuple[dict[str, npt.NDArray[Any]], bool]:
        """Arrays under `key`, made when they are not there (or not readable), and whether they were there."""
        path = self.path(room, key)
        if path.is_file():
            # an unreadable entry is made anew
            with contextlib.suppress(SafetensorError, OSError):
                return dict(load_file(path)), True
        made = {name: np.ascontiguousarray(array) for name, array in make().items()}
        with writing(path) as aside:
            save_file(made, aside)
        return made, False

    def path(self, room: str, key: str) -> Path:
        """Where an entry lies."""
        return self.folder / room / key[:2] / f"{key}.safetensors"

    def file_digests(self, paths: Sequence[Path], progress: Progress | None = None) -> list[str | None]:
        """SHA-256 of each file (None where it cannot be read), remembered by path, size and modification time.

        progress: called with (done, total). What was read before a stop is remembered.
        """
        index = self.folder / "files.sqlite"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with contextlib.closing(sqlite3.connect(index, timeout=60)) as connection:
                return _remembered(connection, paths, progress)
        except sqlite3.OperationalError as error:
            raise StoreError(f"cannot write {index}: {error}; name another cache with RADLENS_CACHE.") from error
        except sqlite3.DatabaseError as error:
            raise StoreError(f"cannot read {index}: {error}; delete that file, it is made anew.") from error
        except OSError as error:
            raise StoreError(write_failure(index, error)) from error


def default_cache() -> Path:
    """`RADLENS_CACHE`, or `radlens` in the user's cache folder."""
    named = os.environ.get("RADLENS_CACHE")
    if named:
        return Path(named).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "radlens"


def _remembered(connection: sqlite3.Connection, paths: Sequence[Path], progress: Progress | None) -> list[str | None]:
    connection.execute(
        "create table if not exists file (path text primary key, size integer, changed integer, digest text)"
    )
    known = {row[0]: row[1:] for row in connection.execute("select path, size, changed, digest from file")}
    digests: list[str | None] = []
    # reading waits for the disk, and hashing does not hold the interpreter's lock
    with ThreadPoolExecutor(_READERS) as pool:
        for start in range(0, len(paths), _BATCH):
            found = list(pool.map(lambda path: _digest(path, known), paths[start : start + _BATCH]))
            fresh = [row for row, is_new in found if row is not None and is_new]
            with connection:
                connection.executemany("insert or replace into file values (?, ?, ?, ?)", fresh)
            digests += [None if row is None else row[3] for row, _ in found]
            if progress is not None:
                progress(len(digests), len(paths))
    return digests


def _digest(path: Path, known: Mapping[str, tuple[int, int, str]]) -> tuple[tuple[str, int, int, str] | None, bool]:
    """(path, size, time of change, digest) and whether it was read now; None for a file that cannot be read."""
    name = str(path.absolute())
    try:
        stat = path.stat()
        size, changed, digest = known.get(name, (-1, -1, ""))
        if (size, changed) == (stat.st_size, stat.st_mtime_ns):
            return (name, size, changed, digest), False
        return (name, stat.st_size, stat.st_mtime_ns, file_digest(path)), True
    except OSError:
        return None, False


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return [_plain(item) for item in sorted(value, key=str)]
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    if isinstance(value, Path):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain({f.name: getattr(value, f.name) for f in dataclasses.fields(value)})
    return value


def _feed(digest: Any, value: Any) -> None:
    # every token ends where its own length or closing mark says, so that no two values run into one text
    if isinstance(value, np.ndarray):
        if value.dtype.hasobject:
            raise TypeError("cannot fingerprint an array of objects")
        digest.update(f"array{value.dtype.str}{value.shape}".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    elif isinstance(value, bytes):
        digest.update(b"bytes%d:" % len(value))
        digest.update(value)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        digest.update(f"{type(value).__name__}(".encode())
        for f in dataclasses.fields(value):
            _feed(digest, (f.name, getattr(value, f.name)))
        digest.update(b")")
    elif isinstance(value, Mapping):
        digest.update(b"{")
        for key in sorted(value, key=str):
            _feed(digest, (str(key), value[key]))
        digest.update(b"}")
    elif isinstance(value, list | tuple):
        digest.update(b"[")
        for item in value:
            _feed(digest, item)
        digest.update(b"]")
    elif isinstance(value, set | frozenset):
        # a set has no order: its members' own fingerprints have
        digest.update(b"set")
        _feed(digest, sorted(fingerprint(item) for item in value))
    elif isinstance(value, str | int | float | bool | type(None) | Path):
        text = str(value).encode("utf-8", "surrogateescape")
        digest.update(f"{'Path' if isinstance(value, Path) else type(value).__name__}{len(text)}:".encode())
        digest.update(text)
    else:
        raise TypeError(f"cannot fingerprint a {type(value).__name__}")
