"""What `radlens explain` is given, told apart: the classifier, the images, and names for the files it writes."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from radlens.core.errors import ImageError, ModelError

_LONGEST = 60


def classifier_folder(folder: Path) -> Path:
    """The folder itself, or the only classifier of a run. Raises `ModelError` where there is none, or more than one."""
    if not folder.is_dir():
        raise ModelError(f"no such folder: {folder}; expected classifiers/<setting> of a run.")
    if (folder / "card.json").is_file():
        return folder
    known = sorted(path.parent for path in folder.glob("classifiers/*/card.json"))
    if len(known) == 1:
        return known[0]
    if known:
        names = ", ".join(path.name for path in known)
        raise ModelError(f"{folder} holds {len(known)} classifiers ({names}); name one of them, such as {known[0]}.")
    raise ModelError(
        f"{folder} is not a classifier folder (no card.json in it); expected classifiers/<setting> of a run."
    )


def image_names(paths: Sequence[Path]) -> Mapping[str, Path]:
    """A name for each file: the file's own, or the path as it was given where two files share a name.

    A file that is given twice counts once. Raises `ImageError` for a path that is no file.
    """
    if not paths:
        raise ImageError("", "no image is named; give at least one file.")
    once: dict[Path, Path] = {}
    for path in paths:
        if path.is_dir():
            raise ImageError(str(path), "is a folder, not an image; name its files.")
        if not path.exists():
            raise ImageError(str(path), "no such file.")
        once.setdefault(path.resolve(), path)
    count = Counter(path.name.casefold() for path in once.values())
    # bytes that are no UTF-8 cannot be written to a page
    given = {_text(path.name if count[path.name.casefold()] == 1 else path): path for path in once.values()}
    return (
        given if len(given) == len(once) else {f"{_text(path)} ({i})": path for i, path in enumerate(once.values(), 1)}
    )


def file_names(texts: Mapping[str, str]) -> dict[str, str]:
    """Name -> text it should be called by, to name -> part of a file name: letters, digits, `.`, `_`, `-`; at most 60.

    Parts that would meet, on a file system that does not tell A from a, get a digest of their name behind them.
    """
    plain = {name: re.sub(r"[^A-Za-z0-9._-]+", "_", text).lstrip(".")[:_LONGEST] or "_" for name, text in texts.items()}
    count = Counter(part.casefold() for part in plain.values())
    return {name: part if count[part.casefold()] == 1 else f"{part}-{_digest(name)}" for name, part in plain.items()}


def _text(path: Path | str) -> str:
    return os.fsencode(path).decode("utf-8", "replace")


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:8]
