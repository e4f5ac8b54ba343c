"""Width and height of an image from its header alone."""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from radlens.core.errors import ImageError


def image_size(path: Path | str) -> tuple[int, int]:
    """(width, height) in pixels of a DICOM, PNG, JPEG or TIFF file; the pixels are not decoded.

    Raises `ImageError` for a file that is missing or whose header does not say.
    """
    try:
        with Path(path).open("rb") as file:
            is_dicom = file.read(132)[128:] == b"DICM"
        if is_dicom:
            header = dcmread(path, stop_before_pixels=True, specific_tags=["Rows", "Columns"])
            return int(header.Columns), int(header.Rows)
        with Image.open(path) as image:
            return image.size
    except (OSError, InvalidDicomError, AttributeError, ValueError, TypeError, Image.DecompressionBombError) as error:
        raise ImageError(str(path), f"its size cannot be read to place a box ({error}).") from error
