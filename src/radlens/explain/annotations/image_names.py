"""Which image of a cohort an annotation file means: tools write paths, file names or bare ids."""

from __future__ import annotations

import re
from collections.abc import Iterable

from radlens.core.errors import DataError

# only endings of images: an id may hold dots of its own, as a DICOM UID does
_ENDING = re.compile(r"\.(png|jpe?g|tiff?|bmp|webp|dcm|dicom|json|xml)$", re.IGNORECASE)


class ImageNames:
    """Finds image ids. Names are only compared, never opened as files."""

    def __init__(self, image_ids: Iterable[str]) -> None:
        self._ids = dict.fromkeys(image_ids)
        self._by_file: dict[str, list[str]] = {}
        for image_id in self._ids:
            self._by_file.setdefault(_parts(image_id)[-1], []).append(image_id)
        self._taken: dict[str, str] = {}

    def find(self, name: str, where: str) -> str | None:
        """The image id of a name, None where no image fits.

        A name fits by itself, or without folders and ending as far as both have them: `images/a.png` fits `a.png` and
        `a`, but `x/a.png` does not fit `y/a.png`. Raises `DataError` where a name fits several images, or where two
        names of different folders fit one.
        """
        fitting = [name] if name in self._ids else self._alike(name)
        if len(fitting) > 1:
            raise DataError(
                f"{where}: the name {name!r} fits {fitting[0]!r} and {fitting[1]!r} of the cohort; name the folder too."
            )
        if not fitting:
            return None
        earlier = self._taken.setdefault(fitting[0], name)
        if not _agree(_parts(earlier), _parts(name)):
            raise DataError(
                f"{where}: {name!r} and {earlier!r} both fit image {fitting[0]!r} of the cohort; use image ids that "
                "tell their folders apart."
            )
        return fitting[0]

    def _alike(self, name: str) -> list[str]:
        parts = _parts(name)
        return [other for other in self._by_file.get(parts[-1], ()) if _agree(parts, _parts(other))]


def _parts(name: str) -> tuple[str, ...]:
    """Folders and file name without its ending."""
    steps = [step for step in re.split(r"[/\\]", name) if step not in ("", ".", "..")] or [name]
    return (*steps[:-1], _ENDING.sub("", steps[-1]))


def _agree(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    shared = min(len(one), len(other))
    return one[-shared:] == other[-shared:]
