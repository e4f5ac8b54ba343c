"""Decode one radiograph, or many in parallel: PNG, JPEG, TIFF and DICOM to 8-bit pixels."""

from __future__ import annotations

import itertools
import struct
import threading
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageFile, ImageOps
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from radlens.core.errors import ImageError
from radlens.data.decoded import DecodedImage
from radlens.data.decoder_warnings import heard_warnings
from radlens.data.dicom import decode_dicom
from radlens.data.windowing import robust_window, to_eight_bit

# No scanner makes a film of more than 20,000 x 20,000 pixels: a header that claims more is a mistake or a trap.
LARGEST = 400_000_000
_LIMIT_LOCK = threading.Lock()
_MAGIC: tuple[tuple[bytes, type[ImageFile.ImageFile]], ...] = (
    (b"\x89PNG\r\n\x1a\n", PngImageFile),
    (b"\xff\xd8\xff", JpegImageFile),
    *((magic, TiffImageFile) for magic in (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")),
)
_WHITE_IS_ZERO, _PHOTOMETRIC, _BITS = 0, 262, 258
# What Pillow raises for a damaged file, depending on the place of the damage.
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, OverflowError, struct.error, zlib.error)


def read_image(path: Path | str, *, dicom: bool = True) -> DecodedImage:
    """Decode one image to uint8 (H, W) or (H, W, 3). The format is told from the content, never from the name.

    PNG, JPEG, TIFF: grey, RGB, RGBA or LA (composited on black), palette, 1 bit, CMYK; EXIF orientation is applied.
    More than 8 bits of grey are windowed linearly from the 0.5th to the 99.5th percentile (`robust_window`) to 0..255;
    16-bit colour keeps its upper 8 bits. A TIFF whose zero is white is inverted. DICOM: see `decode_dicom`; with
    `dicom=False` it is refused. `note` of the result says what was done to the values. Safe to call from many threads.

    Raises `ImageError` for a file that is missing, empty, truncated, corrupt, of another format, or larger than
    20,000 x 20,000 pixels. JPEG has no checksum: damage inside its data that still decodes cannot be noticed.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            head = file.read(132)
            file.seek(0)
            if not head:
                raise ImageError(str(path), "the file is empty (0 bytes); copy it again.")
            if head[128:] == b"DICM":
                if not dicom:
                    raise ImageError(str(path), "is a DICOM file, which is not expected here.")
                return decode_dicom(file, str(path), LARGEST)
            plugin = next((plugin for magic, plugin in _MAGIC if head.startswith(magic)), None)
            if plugin is None:
                raise ImageError(str(path), _stranger(path, head))
            return _decode(file, str(path), plugin, head)
    except FileNotFoundError as error:
        raise ImageError(str(path), "no such file.") from error
    except IsADirectoryError as error:
        raise ImageError(str(path), "is a folder, not an image.") from error
    except PermissionError as error:
        raise ImageError(str(path), "no permission to read it.") from error
    except OSError as error:
        raise ImageError(str(path), f"cannot be read: {error.strerror or error}.") from error


def read_images(paths: Iterable[Path | str], workers: int = 2) -> Iterator[DecodedImage | ImageError]:
    """Decode many images in order, in `workers` threads; an image that fails yields its `ImageError`.

    At most 2 x workers + 1 decoded images exist at a time, however many paths there are. When the consumer stops
    (an error, Ctrl-C), what has not begun is not begun.
    """
    if workers < 1:
        raise ValueError(f"workers must be at least 1, found {workers}.")
    pool = ThreadPoolExecutor(workers, thread_name_prefix="radlens-decode")
    try:
        rest = iter(paths)
        ahead: deque[Future[DecodedImage | ImageError]] = deque(
            pool.submit(_attempt, path) for path in itertools.islice(rest, 2 * workers)
        )
        while ahead:
            done = ahead.popleft().result()
            ahead.extend(pool.submit(_attempt, path) for path in itertools.islice(rest, 1))
            yield done
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _attempt(path: Path | str) -> DecodedImage | ImageError:
    try:
        return read_image(path)
    except ImageError as error:
        return error


def _decode(file: BinaryIO, name: str, plugin: type[ImageFile.ImageFile], head: bytes) -> DecodedImage:
    try:
        image, notes = _load(file, name, plugin)
        return _pixels(image, name, notes, _deep_colour(image, head))
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError(name, "not enough memory to decode it.") from error
    except _DAMAGED as error:
        told = str(error).lower()
        if "truncated" in told or "unpack" in told or isinstance(error, struct.error | EOFError):
            raise ImageError(name, "is truncated: its pixels end early; copy it again.") from error
        reason = f"is corrupt or of a kind that cannot be decoded ({_first_line(error)}); copy or export it again."
        raise ImageError(name, reason) from error


def _load(file: BinaryIO, name: str, plugin: type[ImageFile.ImageFile]) -> tuple[Image.Image, list[str]]:
    # The plugin itself instead of Image.open: that one guesses among formats we do not name and holds a lower limit.
    notes: list[str] = []
    if plugin is not TiffImageFile:
        image = plugin(file)
        _check_size(image, name)
        image.load()
        return image, notes
    # Odd tags are Pillow's only warnings here; they say nothing of the pixels.
    with heard_warnings():
        tiff = TiffImageFile(file)
        _check_size(tiff, name)
        pages = tiff.n_frames
        if pages > 1:
            notes.append(f"TIFF of {pages} pages: the first was read")
            tiff.seek(0)
        tiff.getexif()
        limit = Image.MAX_IMAGE_PIXELS
        if limit is not None and tiff.width * tiff.height > limit:
            # the limit is one for all threads
            with _LIMIT_LOCK:
                limit = Image.MAX_IMAGE_PIXELS
                try:
                    Image.MAX_IMAGE_PIXELS = LARGEST
                    tiff.load()
                finally:
                    Image.MAX_IMAGE_PIXELS = limit
        tiff.load()
    return tiff, notes


def _pixels(image: Image.Image, name: str, notes: list[str], deep_colour: bool) -> DecodedImage:
    inverted = _zero_is_white(image)
    image = ImageOps.exif_transpose(image)
    if _is_deep_grey(image):
        values = np.asarray(image)
        values = values.astype(values.dtype.newbyteorder("="), copy=False)
        low, high = robust_window(values)
        pixels = to_eight_bit(values, low, high)
        if inverted:
            pixels = 255 - pixels
            notes.append("zero is white: inverted")
        depth = {"I": "32-bit", "F": "float"}.get(image.mode, "16-bit")
        return DecodedImage(pixels, "; ".join([f"{depth}: windowed {low:.6g}..{high:.6g} to 8 bit", *notes]))
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or (image.mode == "P" and "transparency" in image.info):
        layers = image.convert("RGBA")
        black = Image.new("RGBA", layers.size, (0, 0, 0, 255))
        composed = Image.alpha_composite(black, layers)
        image = composed.convert("L" if image.mode in ("LA", "La") else "RGB")
    elif image.mode == "1":
        image = image.convert("L")
    elif image.mode not in ("L", "RGB"):
        image = image.convert("RGB")
    pixels = np.asarray(image)
    if deep_colour:
        if pixels.max(initial=0) < 16:
            raise ImageError(name, "16-bit colour with only its lowest bits in use; save it as 16-bit grey or 8-bit.")
        notes.insert(0, "16-bit colour: upper 8 bits kept")
    return DecodedImage(pixels, "; ".join(notes) or None)


def _deep_colour(image: Image.Image, head: bytes) -> bool:
    """Whether Pillow has cut 16-bit colour (or grey with alpha) down to 8 bits while decoding."""
    if _is_deep_grey(image):
        return False
    if isinstance(image, TiffImageFile):
        return bool(max(image.tag_v2.get(_BITS, (1,))) > 8)
    # The first chunk of a PNG: width and height at byte 16, bits at byte 24.
    return isinstance(image, PngImageFile) and head[24] > 8


def _is_deep_grey(image: Image.Image) -> bool:
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def _zero_is_white(image: Image.Image) -> bool:
    # Pillow inverts such TIFFs itself up to 8 bits, not above.
    return isinstance(image, TiffImageFile) and image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO


def _check_size(image: Image.Image, name: str) -> None:
    if image.width * image.height > LARGEST:
        found = f"{image.width} x {image.height}"
        raise ImageError(name, f"claims {found} pixels; expected at most 20,000 x 20,000 in all.")


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")


def _stranger(path: Path, head: bytes) -> str:
    if path.suffix.lower() in (".dcm", ".dicom"):
        return "has no DICOM header (DICM at byte 128); it is corrupt or not a DICOM file."
    return f"is not a PNG, JPEG, TIFF or DICOM file (it begins with {head[:8]!r}); convert it or copy it again."
