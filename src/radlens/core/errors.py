"""One family of errors that a user can mend: what was expected, what was found, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RadlensError(Exception):
    """Base of every error that the user can mend; its text is one clear sentence, shown without traceback."""


class SpecError(RadlensError):
    """The study file, an option, or a name in it is wrong."""


class DataError(RadlensError):
    """A table, an image, a report or an annotation cannot be used as it is."""


class ImageError(DataError):
    """One image cannot be decoded; `path` names it."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"image {path}: {reason}")
        self.path = path
        self.reason = reason

    def __reduce__(self) -> tuple[type[ImageError], tuple[str, str]]:
        return ImageError, (self.path, self.reason)


class ModelError(RadlensError):
    """A model folder, its weights or its tokenizer is not what it should be."""


class ExplainError(RadlensError):
    """A saliency map that was asked for would mean nothing."""


class StoreError(RadlensError):
    """The run folder or the cache cannot be read or written."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
    """The sentence for a name that does not exist: the nearest one, and the list of those that do."""
    options = sorted(known)
    near = difflib.get_close_matches(name, options, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    listed = ", ".join(options) if options else "none"
    return f"unknown {kind} {name!r}.{hint} Known: {listed}."
