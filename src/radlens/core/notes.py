"""What decoding had to do to an image, remembered by the content of its file."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from radlens.core.errors import StoreError
from radlens.core.store import write_failure

_TABLE = "create table if not exists note (digest text primary key, text text)"


class ImageNotes:
    """Notes such as "16-bit: windowed to 8 bit" by SHA-256 of the file, so that cached embeddings keep theirs."""

    def __init__(self, cache: Path) -> None:
        self._path = cache / "notes.sqlite"
        self._lock = threading.Lock()

    def remember(self, digest: str, text: str) -> None:
        """Store a note at once; safe from several threads."""
        with self._lock, self._open() as connection, connection:
            connection.execute("insert or replace into note values (?, ?)", (digest, text))

    def of(self, digests: Sequence[str | None]) -> dict[str, str]:
        """Digest -> note, for those of these files that have one."""
        wanted = set(digests)
        with self._lock, self._open() as connection:
            return {d: text for d, text in connection.execute("select digest, text from note") if d in wanted}

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.closing(sqlite3.connect(self._path, timeout=60)) as connection:
                # a lost note of a crashed machine costs a note; a sync for each of 400,000 images costs an hour
                connection.execute("pragma synchronous = off")
                connection.execute(_TABLE)
                yield connection
        except sqlite3.Error as error:
            raise StoreError(f"cannot use {self._path}: {error}; name another cache with RADLENS_CACHE.") from error
        except OSError as error:
            raise StoreError(write_failure(self._path, error)) from error
