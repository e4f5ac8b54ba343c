"""Decoding of many images: compressed DICOM in processes, since its codecs hold Python's lock; all else in threads."""

from __future__ import annotations

import multiprocessing
import signal
import threading
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import TracebackType
from typing import Self

from radlens.core.errors import DataError
from radlens.data.decoded import DecodedImage
from radlens.data.dicom import is_compressed_dicom
from radlens.data.images import read_image

_SUFFIXES = (".dcm", ".dicom", ".dic", "")
WORTH = 32
"""Fewer DICOM files than this are decoded sooner than a process has started."""


class Decoding:
    """Decodes one image at a time for each thread that asks; a context, since it may hold processes.

    paths: all that will be asked for. workers: threads that ask, and processes at most. Processes are started when the
    first compressed file is asked for, by spawning: a script of yours needs the usual `if __name__ == "__main__":`.
    """

    def __init__(self, paths: Sequence[str | Path], workers: int) -> None:
        dicom = sum(_may_be_dicom(path) for path in paths)
        self._processes = min(workers, dicom // WORTH) if workers > 1 else 0
        self._pool: ProcessPoolExecutor | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def read(self, path: Path) -> DecodedImage:
        """As `read_image`, in another process where that is worth it. Raises `ImageError`."""
        if self._processes < 2 or not _may_be_dicom(path) or not is_compressed_dicom(path):
            return read_image(path)
        try:
            return self._processes_started().submit(read_image, path).result()
        except BrokenProcessPool as error:
            raise DataError(
                f"a process that decoded images was ended at {path}, perhaps for want of memory; "
                "use --set compute.workers=1."
            ) from error

    def _processes_started(self) -> ProcessPoolExecutor:
        with self._lock:
            if self._pool is None:
                context = multiprocessing.get_context("spawn")
                self._pool = ProcessPoolExecutor(self._processes, context, _ignore_interrupt)
            return self._pool


def _may_be_dicom(path: str | Path) -> bool:
    return Path(path).suffix.lower() in _SUFFIXES


def _ignore_interrupt() -> None:
    # Ctrl-C reaches the whole group: the parent ends, and ends its processes
    signal.signal(signal.SIGINT, signal.SIG_IGN)
