"""Download one file: resumed where it stopped, asked for again when the connection drops, checked at the end."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import requests

from radlens.core.errors import DataError
from radlens.core.parts import Progress
from radlens.core.store import file_digest, write_failure
from radlens.data.cards import DataFile
from radlens.data.fetch_answer import Interrupted, answer, body, check_start
from radlens.data.fetch_partial import Offer, Partial, offer
from radlens.data.fetch_room import check_room, unpacked_size


@dataclass(frozen=True)
class Patience:
    """How long to go on.

    attempts: requests in a row that bring nothing new. first_pause: seconds before the second one, doubled each time
    up to longest_pause, which also bounds what a server may ask for. connect, silence: seconds to wait for a
    connection, and for the next bytes.
    """

    attempts: int = 6
    first_pause: float = 1.0
    longest_pause: float = 120.0
    connect: float = 15.0
    silence: float = 60.0


def download(
    session: requests.Session,
    file: DataFile,
    folder: Path,
    *,
    unpacks: bool,
    patience: Patience,
    tell: Callable[[str], object],
    progress: Progress,
) -> Path:
    """Download a file of a card into a folder, and return its path.

    Until it is whole and checked it is `NAME.part`, which stays when the download stops, and is resumed later.
    unpacks: whether room for its members is needed too. progress: (done, total) in bytes, never going back; total is
    0 while unknown. Raises `DataError` when the file cannot be had, when it is not the one of the card (it is then
    set aside as `NAME.rejected`), when the disk is too small, or when it cannot be written.
    """
    partial, path = Partial(folder, file.name), folder / file.name
    furthest = failures = 0

    def report(done: int, total: int) -> None:
        nonlocal furthest, failures
        if done > furthest:  # bytes that a restart brings a second time are no progress
            furthest, failures = done, 0
            progress(done, total)

    while True:
        try:
            _attempt(session, file, partial, unpacks, patience, report)
            _check_whole(file, partial, folder)
            partial.finish(path)
            return path
        except Interrupted as stop:
            failures += 1
            kept = _kept(file, partial)
            if failures >= patience.attempts:
                raise DataError(
                    f"{file.name} cannot be downloaded from {file.url}: {stop}, {failures} times in a row; {kept}, "
                    "run the command again to go on."
                ) from stop
            pause = min(patience.first_pause * 2 ** (failures - 1), patience.longest_pause)
            if stop.wait is not None and stop.wait > patience.longest_pause:
                raise DataError(
                    f"{file.name}: {stop} and asks to wait {stop.wait:.0f} seconds; {kept}, run the command again then."
                ) from stop
            pause = max(pause, stop.wait or 0.0)
            tell(f"{file.name}: {stop}; asking again in {pause:.0f} s ({kept}).")
            time.sleep(pause)
        except OSError as error:
            raise DataError(write_failure(partial.path, error).replace("--out", "--to")) from error


def _attempt(
    session: requests.Session,
    file: DataFile,
    partial: Partial,
    unpacks: bool,
    patience: Patience,
    report: Progress,
) -> None:
    """One request. Returns when the file is whole; raises `Interrupted` when it is not yet."""
    known = partial.remembered(file.url, checked=file.sha256 is not None)
    held = partial.held if known is not None else 0
    whole = file.size or (known.total if known else None)
    if whole is not None and held > whole:
        known, held = None, 0
    if held and held == whole:
        return
    # identity: a byte range counts in the bytes of what is sent, which must be the file itself
    headers = {"Accept-Encoding": "identity", "User-Agent": "radlens"}
    if known is not None and held:
        headers["Range"] = f"bytes={held}-"
        if known.validator is not None:
            headers["If-Range"] = known.validator
    with answer(session, file.url, headers, (patience.connect, patience.silence)) as response:
        if response.status_code == 416:
            if held and response.headers.get("Content-Range", "").strip() == f"bytes */{held}":
                return
            partial.begin(Offer(file.url))
            raise Interrupted("the server no longer has the rest of the file")
        offered, start = offer(file.url, response.status_code, response.headers)
        if start and (known is None or start != held or known.contradicts(offered)):
            partial.begin(offered)
            raise Interrupted("the file on the server has changed, or its answer is of another part")
        pieces = body(response)
        first = next(pieces, b"")
        if start == 0 and not first:
            raise Interrupted("the server sent nothing")
        if start == 0:  # before the bytes that are held make way
            check_start(file.name, first)
        if file.size is not None and offered.total is not None and offered.total != file.size:
            raise DataError(
                f"{file.name}: the card says {file.size:,} bytes, {file.url} offers {offered.total:,}; the data set "
                "has changed or moved, and if the new file is right for you, download it by hand."
            )
        whole = file.size or offered.total
        if whole is not None:
            swell = unpacked_size(file, whole) if unpacks else 0
            check_room(partial.path.parent, whole - partial.held + swell)
        if start == 0:
            partial.begin(offered)
        with partial.path.open("ab") as target:
            done = start
            while first:
                target.write(first)
                done += len(first)
                report(done, whole or 0)
                first = next(pieces, b"")
    if whole is not None and partial.held < whole:
        raise Interrupted("the connection was dropped")


def _kept(file: DataFile, partial: Partial) -> str:
    if partial.held and partial.remembered(file.url, checked=file.sha256 is not None):
        return f"{partial.held:,} bytes are kept in {partial.path}"
    return "nothing could be kept"


def _check_whole(file: DataFile, partial: Partial, folder: Path) -> None:
    held = partial.held
    wrong = None
    if file.size is not None and held != file.size:
        wrong = f"the card says {file.size:,} bytes, {held:,} arrived"
    elif file.sha256 is not None:
        found = file_digest(partial.path)
        if found != file.sha256:
            wrong = f"the card says SHA-256 {file.sha256}, the download has {found}"
    if wrong is not None:
        aside = folder / f"{file.name}.rejected"
        partial.finish(aside)
        raise DataError(f"{file.name} is not the file of the card: {wrong}; it was set aside as {aside}.")
