"""DICOM radiographs to 8-bit pixels, through pydicom: modality LUT, VOI LUT or window, photometric interpretation."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pydicom
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut
from pydicom.pixels.utils import pixel_array

from radlens.core.errors import ImageError
from radlens.data.decoded import DecodedImage
from radlens.data.decoder_warnings import heard_warnings
from radlens.data.dicom_grey import grey_pixels

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
# Where an object of the multi-frame kind keeps what a plain one has at its top: macro -> elements.
_MACROS = {
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept"),
    "FrameVOILUTSequence": ("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence"),
}


def decode_dicom(file: BinaryIO, name: str, largest: int) -> DecodedImage:
    """Decode a DICOM image of one frame to uint8 (H, W) or (H, W, 3).

    Grey: modality LUT or rescale; the file's first VOI LUT, or else its first window (LINEAR, LINEAR_EXACT, SIGMOID;
    DICOM PS3.3 C.11.2), whose output range becomes 0..255; without one, 8-bit values stay as they are and deeper ones
    get `robust_window`. Then the presentation LUT; MONOCHROME1 is inverted, so that dense is bright. Padding pixels
    become black. Colour: to RGB, upper 8 bits. `name` goes into the `ImageError` raised for a file that is damaged, has
    no pixels or several frames, more than `largest` pixels, or needs a decoder that is not installed. Threads need not
    wait for each other; but a codec that holds the interpreter's lock (JPEG 2000 and RLE do) still runs one at a time.
    """
    # pydicom warns about every value that bends the standard; which of them matters is decided here.
    with heard_warnings() as texts:
        try:
            decoded = _decode(file, name, largest)
        except MemoryError as error:
            raise ImageError(name, "not enough memory to decode it.") from error
        except _DAMAGED as error:
            first = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
            raise ImageError(name, f"is a DICOM file that cannot be decoded: {first}.") from error
    told = sorted(text.splitlines()[0].rstrip(".") for text in texts if "pixel data" in text.lower())
    return DecodedImage(decoded.pixels, "; ".join(filter(None, (decoded.note, *told))) or None)


def is_compressed_dicom(path: Path) -> bool:
    """Whether a file says of itself that it is DICOM with compressed pixels; False for what cannot be read."""
    try:
        with heard_warnings():
            return bool(read_file_meta_info(path).TransferSyntaxUID.is_compressed)
    except _DAMAGED:
        return False


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
        _lift_macros(data)
        return grey_pixels(data, values.reshape(values.shape[-2:]))
    depth = int(data.BitsStored)
    if data.PhotometricInterpretation == "PALETTE COLOR":
        values = apply_color_lut(values, data)
        depth = values.dtype.itemsize * 8
    colour = np.ascontiguousarray(values[..., :3])
    if depth <= 8:
        return DecodedImage(colour.astype(np.uint8, copy=False))
    return DecodedImage((colour >> (depth - 8)).astype(np.uint8), f"DICOM {depth}-bit colour: upper 8 bits kept")


def _lift_macros(data: Any) -> None:
    for groups in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"):
        for group in (data.get(groups) or [])[:1]:
            for macro, keywords in _MACROS.items():
                for item in (group.get(macro) or [])[:1]:
                    for keyword in keywords:
                        if keyword in item and keyword not in data:
                            data[keyword] = item[keyword]


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
