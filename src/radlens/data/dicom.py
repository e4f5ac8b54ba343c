"""DICOM radiographs to 8-bit pixels, through pydicom: modality LUT, VOI LUT or window, photometric interpretation."""

from __future__ import annotations

import struct
import warnings
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi_lut
from pydicom.pixels.utils import pixel_array

from radlens.core.errors import ImageError
from radlens.data.decoded import WARNINGS_LOCK, DecodedImage
from radlens.data.windowing import robust_window, to_eight_bit

_DAMAGED = (
    InvalidDicomError,
    BytesLengthException,
    OSError,
    AttributeError,
    ValueError,
    LookupError,
    TypeError,
    RuntimeError,
    OverflowError,
    EOFError,
    struct.error,
)
# Far outside any pixel value: what a window makes of them are the ends of its output range.
_EXTREMES = np.array([-1e12, 1e12])


def decode_dicom(file: BinaryIO, name: str, largest: int) -> DecodedImage:
    """Decode a single-frame DICOM image to uint8 (H, W) or (H, W, 3).

    Grey: modality LUT or rescale; then the file's first VOI LUT or window (DICOM PS3.3 C.11.2), whose output range
    becomes 0..255; without one, 8-bit values stay as they are and deeper ones get `robust_window`. MONOCHROME1 is
    inverted, so that dense is bright. Padding pixels become black. Colour: to RGB, upper 8 bits. `name` goes into
    the `ImageError` raised for a file that is damaged, has no pixels or several frames, more than `largest` pixels,
    or needs a decoder that is not installed.
    """
    # pydicom warns about every value that bends the standard; which of them matters is decided here.
    with WARNINGS_LOCK, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            decoded = _decode(file, name, largest)
        except MemoryError as error:
            raise ImageError(name, "not enough memory to decode it.") from error
        except _DAMAGED as error:
            first = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
            raise ImageError(name, f"is a DICOM file that cannot be decoded: {first}.") from error
    told = {str(w.message) for w in caught if "pixel data" in str(w.message).lower()}
    note = "; ".join(filter(None, (decoded.note, *sorted(text.splitlines()[0].rstrip(".") for text in told))))
    return DecodedImage(decoded.pixels, note or None)


def _decode(file: BinaryIO, name: str, largest: int) -> DecodedImage:
    data = pydicom.dcmread(file)
    if "PixelData" not in data:
        kind = data.file_meta.get("MediaStorageSOPClassUID", None)
        raise ImageError(
            name, f"is a DICOM file without pixels ({getattr(kind, 'name', 'of unknown kind')}), or is cut short."
        )
    frames = int(data.get("NumberOfFrames", 1) or 1)
    if frames > 1:
        raise ImageError(name, f"is a DICOM file of {frames} frames; expected one radiograph a file.")
    if int(data.Rows) * int(data.Columns) > largest:
        found = f"{data.Columns} x {data.Rows}"
        raise ImageError(name, f"claims {found} pixels; expected at most 20,000 x 20,000 in all.")
    _check_decoder(data, name)
    values = np.asarray(pixel_array(data))
    if str(data.PhotometricInterpretation).startswith("MONOCHROME"):
        return _grey(data, values)
    depth = int(data.BitsStored)
    if data.PhotometricInterpretation == "PALETTE COLOR":
        values = apply_color_lut(values, data)
        depth = values.dtype.itemsize * 8
    colour = np.ascontiguousarray(values[..., :3])
    if depth <= 8:
        return DecodedImage(colour.astype(np.uint8, copy=False))
    return DecodedImage((colour >> (depth - 8)).astype(np.uint8), f"DICOM {depth}-bit colour: upper 8 bits kept")


def _check_decoder(data: Any, name: str) -> None:
    syntax = data.file_meta.TransferSyntaxUID
    if not syntax.is_compressed or syntax.is_deflated:
        return
    try:
        available = get_decoder(syntax).is_available
    except NotImplementedError as error:
        raise ImageError(name, f"is DICOM with {syntax.name} compression, which has no decoder; convert it.") from error
    if not available:
        reason = f"is DICOM with {syntax.name} compression; install a decoder: pip install 'radlens[dicom]'."
        raise ImageError(name, reason)


def _grey(data: Any, stored: npt.NDArray[Any]) -> DecodedImage:
    depth = int(data.BitsStored)
    padding = _padding(data, stored)
    values = apply_modality_lut(stored, data)
    what = f"DICOM {depth}-bit: "
    if data.get("VOILUTSequence"):
        # A lookup table is meant for whole numbers; a rescale slope of 1 has made floats of them.
        pixels = to_eight_bit(apply_voi_lut(np.rint(values).astype(np.int64), data), 0.0, _table_top(data))
        note: str | None = what + "lookup table of the file applied"
    elif data.get("WindowWidth") is not None and data.get("WindowCenter") is not None:
        low, high = apply_voi_lut(_EXTREMES, data)
        pixels = to_eight_bit(apply_voi_lut(values, data), float(low), float(high))
        note = what + f"window of the file (centre {_first(data.WindowCenter):g}, width {_first(data.WindowWidth):g})"
    elif depth <= 8 and data.PixelRepresentation == 0 and np.array_equal(values, stored):
        pixels, note = (stored if depth == 8 else to_eight_bit(stored, 0, 2**depth - 1)).astype(np.uint8), None
    else:
        window = robust_window(values, None if padding is None else ~padding)
        pixels = to_eight_bit(values, *window)
        note = what + f"windowed {window[0]:.6g}..{window[1]:.6g} to 8 bit"
    if data.PhotometricInterpretation == "MONOCHROME1":
        pixels = 255 - pixels
    if padding is not None:
        pixels[padding] = 0
    return DecodedImage(pixels, note)


def _table_top(data: Any) -> float:
    # Many files declare 16 bits an entry and fill 12: the greatest entry, not the declared depth, is white.
    entries, first, _ = data.VOILUTSequence[0].LUTDescriptor
    return float(apply_voi_lut(np.arange(first, first + (entries or 65536)), data).max())


def _padding(data: Any, stored: npt.NDArray[Any]) -> npt.NDArray[np.bool_] | None:
    value = data.get("PixelPaddingValue")
    if not isinstance(value, int):
        return None
    limit = data.get("PixelPaddingRangeLimit")
    low, high = sorted((value, limit if isinstance(limit, int) else value))
    found = (stored >= low) & (stored <= high)
    # Padding that covers everything is a wrong entry in the file, not an image without content.
    return found if found.any() and not found.all() else None


def _first(value: Any) -> float:
    return float(value[0] if isinstance(value, pydicom.multival.MultiValue) else value)
