"""Archives from strangers unpacked where they can do no harm, whole or not at all."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from radlens.core.errors import DataError, StoreError
from radlens.core.parts import Progress, unheard
from radlens.core.store import fingerprint, write_failure
from radlens.data.archive_members import Member, members, refused

# Left free on the disk whatever an archive says.
_RESERVE = 64 << 20


def extract(archive: Path, to: Path, progress: Progress = unheard) -> int:
    """Unpack the regular files of an archive into the new folder `to`, whole or not at all; returns how many.

    Files get this process's ordinary permissions and today's date, whatever the archive says. progress: called with
    (bytes of the archive read, its size). Raises what `members` raises, and `StoreError` when `to` exists, when the
    disk is too small or cannot be written.
    """
    if to.exists():
        raise StoreError(f"cannot unpack {archive.name}: {to} exists already; remove it or name another folder.")
    aside = to.with_name(f".{to.name}.{os.getpid()}.part")
    count = 0
    try:
        aside.mkdir(parents=True)
        size = archive.stat().st_size if archive.is_file() else 0
        for member in members(archive):
            _require_space(archive, aside, member)
            _write(member, aside, archive)
            count += 1
            progress(member.at, size)
        aside.rename(to)
    except OSError as error:
        raise StoreError(write_failure(to, error)) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    progress(size, size)
    return count


def extract_once(archive: Path, work: Path, progress: Progress = unheard) -> Path:
    """The folder in the cache `work` with an archive's files, unpacked when it is not there yet.

    It is known by the archive's path, size and time of change: a changed archive is unpacked anew.
    """
    try:
        facts = archive.stat()
    except OSError as error:
        raise DataError(f"archive {archive} cannot be read: {error.strerror}.") from error
    key = fingerprint(str(archive.resolve()), facts.st_size, facts.st_mtime_ns)
    folder = work / "archives" / key
    if not folder.is_dir():
        try:
            extract(archive, folder, progress)
        except StoreError:
            # another process was faster
            if not folder.is_dir():
                raise
    return folder


def _write(member: Member, folder: Path, archive: Path) -> None:
    path = folder / member.name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # "x": two names that are one on this disk (a and A) must not overwrite each other
        with path.open("xb") as file:
            file.writelines(member.blocks())
    except (FileExistsError, NotADirectoryError) as error:
        raise refused(archive, member.name, "takes the place of another member on this disk") from error


def _require_space(archive: Path, folder: Path, member: Member) -> None:
    free = shutil.disk_usage(folder).free
    if member.size + _RESERVE > free:
        raise StoreError(
            f"cannot unpack {archive.name}: member {member.name} takes {member.size:,} bytes and the disk of "
            f"{folder.parent} has {free:,} free; free some space, or use another disk."
        )
