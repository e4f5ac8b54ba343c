"""Masks as pictures: one PNG a label and image."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from radlens.core.errors import DataError, SpecError
from radlens.core.regions import Annotations, Mask
from radlens.core.registry import register
from radlens.explain.annotations.collecting import Collector, SizedFormat, Sizes
from radlens.explain.annotations.documents import files_of

_FIELDS = ("image", "label", "reader")
_MODES = ("1", "L", "P", "LA", "I", "I;16")


@register("formats", "mask-png")
class MaskPng(SizedFormat):
    """A folder of PNG masks, a file for each image and label: any value above 0 is inside.

    pattern: how a file's path in the folder names image, label and, if it does, reader; `{image}` may span folders.
    A mask without a pixel inside says that the label was looked for and not found.
    """

    pattern: str = "{image}/{label}.png"

    def read(self, path: Path, labels: Sequence[str], sizes: Sizes) -> Annotations:
        """See `AnnotationFormat.read`; a file that is no mask, or of another size, raises `DataError`."""
        if not path.is_dir():
            raise DataError(f"expected a folder of masks at {path}, found {'a file' if path.exists() else 'nothing'}.")
        expression = _expression(self.pattern)
        found = Collector(path, labels, sizes, self.labels, rescale=self.rescale)
        for file, _ in files_of(path, (".png",)):
            match = expression.fullmatch(file.relative_to(path).as_posix())
            if match is None:
                found.left_out["a file that does not fit the pattern"] += 1
                continue
            named = match.groupdict()
            image_id = found.image(named["image"], str(file))
            targets = found.targets(named["label"]) if image_id is not None else ()
            if image_id is not None and targets:
                _collect(found, file, image_id, targets, named.get("reader") or "reader")
        return found.annotations("mask", f"check pattern: {self.pattern!r}")


def _collect(found: Collector, file: Path, image_id: str, targets: Sequence[str], reader: str) -> None:
    try:
        with Image.open(file, formats=["PNG"]) as picture:
            # the size is checked before a pixel is decoded
            frame = found.frame(str(file), image_id, picture.size)
            if picture.mode not in _MODES:
                raise DataError(f"{file}: expected a mask of one channel, found the mode {picture.mode}.")
            pixels = np.array(picture)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{file} is not a readable PNG ({error}).") from error
    inside = (pixels[..., 0] if pixels.ndim == 3 else pixels) > 0
    found.add(str(file), image_id, targets, Mask.pack(inside), reader, frame)


def _expression(pattern: str) -> re.Pattern[str]:
    """A pattern as a regular expression. Raises `SpecError` for one without image or label, or outside the folder."""
    parts = re.split(r"\{(\w*)\}", pattern)
    names = parts[1::2]
    if {"image", "label"} - set(names) or set(names) - set(_FIELDS) or len(set(names)) < len(names):
        raise SpecError(
            f"pattern: expected {{image}} and {{label}}, each once, and at most {{reader}} beside them, "
            f"found {pattern!r}."
        )
    if pattern.startswith("/") or ".." in re.split(r"[/\\]", pattern):
        raise SpecError(f"pattern: expected a path inside the folder of masks, found {pattern!r}.")
    fields = {"image": "(?P<image>.+)", "label": "(?P<label>[^/]+)", "reader": "(?P<reader>[^/]+)"}
    return re.compile("".join(fields[part] if at % 2 else re.escape(part) for at, part in enumerate(parts)))
