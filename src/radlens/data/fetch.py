"""Download a data set by its card: licence first, room on the disk first, then file by file, checked and unpacked."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from pathlib import Path
from typing import get_args

import requests

from radlens.core.errors import DataError, SpecError, StoreError, unknown_name
from radlens.core.parts import Progress, unheard
from radlens.core.store import file_digest, write_failure
from radlens.data.archives import extract as unpack
from radlens.data.cards import DataFile, DatasetCard, Kind, load_card
from radlens.data.fetch_file import Patience, download
from radlens.data.fetch_partial import Partial
from radlens.data.fetch_room import check_room, shown, still_needed, unpacked_folder

Tell = Callable[[str], object]
"""Called with one line."""
Bar = Callable[[str], AbstractContextManager[Progress]]
"""Called with a title; yields a callback (done, total)."""


def _silent(line: str) -> None: ...


def _no_bar(title: str) -> AbstractContextManager[Progress]:
    return contextlib.nullcontext(unheard)


def fetch_dataset(
    name: str,
    to: Path,
    *,
    kinds: Collection[str] | None = None,
    extract: bool = True,
    tell: Tell = _silent,
    bar: Bar = _no_bar,
) -> list[Path]:
    """Download the data set `name` into the folder `to`; see `fetch_files`. An unknown name raises `SpecError`."""
    return fetch_files(name, load_card(name), to, kinds=kinds, extract=extract, tell=tell, bar=bar)


def fetch_files(
    name: str,
    card: DatasetCard,
    to: Path,
    *,
    kinds: Collection[str] | None = None,
    extract: bool = True,
    tell: Tell = _silent,
    bar: Bar = _no_bar,
    patience: Patience | None = None,
) -> list[Path]:
    """Download a card's files and unpack its archives; returns of each the unpacked folder, or else the file.

    kinds: of the files that are wanted; none means all, but no DICOM where the same images come as PNG. What is there
    already is kept, a download that stopped is resumed. tell: gets a line at a time, licence and citation first.
    bar: makes a callback (done, total) in bytes of the file, for its download and for its unpacking. Raises
    `SpecError` for a kind that the card has no file of; `DataError` when the data set is not open to all, the disk is
    too small for what is still to come and its unpacked size, or a file cannot be had as the card describes it; and
    `StoreError` when an archive cannot be unpacked there.
    """
    if card.access != "open" or not card.file:
        raise DataError(f"data set {name!r} cannot be fetched: {card.how_to_get.rstrip('.')}; see {card.homepage}.")
    files = _wanted(name, card, kinds)
    tell(card.title)
    tell(f"licence: {card.licence}")
    tell(f"please cite: {card.citation}")
    for file in card.file:
        if not kinds and file not in files:
            tell(f"left out: {file.what} ({file.name}{_sized(file)}); ask for it with --only {file.kind}")
    try:
        to.mkdir(parents=True, exist_ok=True)
        check_room(to, sum(still_needed(file, to, extract) for file in files))
        with requests.Session() as session:
            return [_fetch(session, file, to, extract, tell, bar, patience or Patience()) for file in files]
    except OSError as error:
        raise DataError(write_failure(to, error).replace("--out", "--to")) from error


def _fetch(
    session: requests.Session, file: DataFile, to: Path, extract: bool, tell: Tell, bar: Bar, patience: Patience
) -> Path:
    unpacks, path, folder = extract and file.extract, to / file.name, unpacked_folder(file, to)
    if unpacks and folder.is_dir():
        tell(f"{file.name} is there already, unpacked in {folder}")
        return folder
    if path.exists():
        _check_present(file, path)
        tell(f"{file.name} is there already")
    else:
        held = Partial(to, file.name).held
        tell(f"{file.what}: {file.url}{_sized(file)}" + (f", {shown(held)} are there" if held else ""))
        with bar(file.name) as progress:
            download(session, file, to, unpacks=unpacks, patience=patience, tell=tell, progress=progress)
    if not unpacks:
        return path
    with bar(f"unpacking {file.name}") as progress:
        _unpack(file, path, folder, progress)
    return folder


def _wanted(name: str, card: DatasetCard, kinds: Collection[str] | None) -> tuple[DataFile, ...]:
    there = sorted({file.kind for file in card.file})
    if not kinds:
        return tuple(file for file in card.file if file.kind != "dicom" or "png" not in there)
    for kind in kinds:
        if kind not in get_args(Kind):
            raise SpecError(unknown_name("kind of file", kind, get_args(Kind)))
        if kind not in there:
            raise SpecError(f"data set {name!r} has no file of kind {kind!r}; it has {', '.join(there)}.")
    return tuple(file for file in card.file if file.kind in kinds)


def _check_present(file: DataFile, path: Path) -> None:
    # a file that a person put there by hand is as good, if it is the same one
    if not path.is_file():
        wrong = "it is no file"
    elif file.size is not None and path.stat().st_size != file.size:
        wrong = f"the card says {file.size:,} bytes, it has {path.stat().st_size:,}"
    elif file.sha256 is not None and (found := file_digest(path)) != file.sha256:
        wrong = f"the card says SHA-256 {file.sha256}, it has {found}"
    else:
        return
    raise DataError(f"{path} is not the file of the card: {wrong}; move it away and run the command again.")


def _unpack(file: DataFile, archive: Path, folder: Path, progress: Progress) -> None:
    try:
        unpack(archive, folder, progress)
    except StoreError as error:
        raise StoreError(str(error).replace("--out", "--to")) from error
    except DataError as error:
        if file.sha256 is not None:  # it is what the card says, and another download would be the same
            raise
        aside = archive.with_name(f"{archive.name}.rejected")
        archive.replace(aside)
        raise DataError(f"{str(error).rstrip('.')}; it was set aside as {aside}.") from error


def _sized(file: DataFile) -> str:
    return f", {shown(file.size)}" if file.size is not None else ""
