"""What is known of an image file once it was decoded, remembered by the content of the file."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from radlens.core.errors import StoreError
from radlens.core.store import write_failure

_TABLES = (
    "create table if not exists image (digest text primary key, width integer, height integer, note text)",
    "create table if not exists hash (digest text primary key, value blob not null)",
)


class ImageFacts:
    """Size and note ("16-bit: windowed to 8 bit") by SHA-256 of the file, so that cached embeddings keep theirs."""

    def __init__(self, cache: Path) -> None:
        self._path = cache / "images.sqlite"
        self._lock = threading.Lock()

    def remember(self, digest: str, width: int, height: int, note: str | None, perceptual_hash: bytes) -> None:
        """Store what decoding found, at once; safe from several threads."""
        with self._lock, self._open() as connection, connection:
            connection.execute("insert or replace into image values (?, ?, ?, ?)", (digest, width, height, note))
            connection.execute("insert or replace into hash values (?, ?)", (digest, perceptual_hash))

    def remember_size(self, digest: str, width: int, height: int) -> None:
        """Store the size alone; a note that is there stays."""
        with self._lock, self._open() as connection, connection:
            connection.execute("insert or ignore into image values (?, ?, ?, null)", (digest, width, height))

    def notes(self, digests: Sequence[str | None]) -> dict[str, str]:
        """Digest -> note, for those of these files that have one."""
        wanted = set(digests)
        with self._lock, self._open() as connection:
            found = connection.execute("select digest, note from image where note is not null")
            return {digest: note for digest, note in found if digest in wanted}

    def hashes(self, digests: Sequence[str | None]) -> list[bytes | None]:
        """(N,) the perceptual hash of each of these files; None where it was never decoded."""
        with self._lock, self._open() as connection:
            known = dict(connection.execute("select digest, value from hash"))
        return [known.get(digest) for digest in digests]

    def size(self, digest: str | None) -> tuple[int, int] | None:
        """(width, height) of a file that was decoded before, else None."""
        with self._lock, self._open() as connection:
            found = connection.execute("select width, height from image where digest = ?", (digest,)).fetchone()
        return None if found is None else (int(found[0]), int(found[1]))

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.closing(sqlite3.connect(self._path, timeout=60)) as connection:
                # a lost row of a crashed machine costs one decoding; a sync for each of 400,000 images costs an hour
                connection.execute("pragma synchronous = off")
                for table in _TABLES:
                    connection.execute(table)
                yield connection
        except sqlite3.Error as error:
            raise StoreError(f"cannot use {self._path}: {error}; name another cache with RADLENS_CACHE.") from error
        except OSError as error:
            raise StoreError(write_failure(self._path, error)) from error
