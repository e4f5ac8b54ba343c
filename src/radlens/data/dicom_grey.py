"""Stored grey values of a DICOM image to 8 bits: modality, values of interest, presentation, in that order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from radlens.data.decoded import DecodedImage
from radlens.data.dicom_tables import Transform, modality_transform, presentation_transform, voi_transform
from radlens.data.windowing import robust_window

Shade = Callable[[npt.NDArray[Any]], npt.NDArray[np.uint8]]
# pixels mapped at a time: the indices of so many stay in the processor's cache
_BLOCK = 1 << 16


def grey_pixels(data: Any, stored: npt.NDArray[Any]) -> DecodedImage:
    """8-bit pixels (H, W) of a MONOCHROME image whose stored values, any integer type (H, W), are decoded.

    Modality LUT or rescale; the first VOI LUT, or else the first window; presentation. Without a usable VOI LUT or
    window, 8-bit values stay as they are and deeper ones get `robust_window`. Padding pixels become black.
    """
    modality, presentation = modality_transform(data), presentation_transform(data)
    voi, useless = voi_transform(data)
    padding = _padding(data, stored)
    if voi is None:
        voi = _default(data, stored, modality, None if padding is None else ~padding)
    stages = [stage.apply for stage in (modality, voi, presentation) if stage is not None]

    def shade(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        current = values.astype(np.float64)
        for stage in stages:
            current = stage(current)
        return np.rint(np.clip(current, 0, 1) * 255).astype(np.uint8)

    pixels = _mapped(stored, shade)
    if padding is not None:
        pixels[padding] = 0
    told = [useless, voi.note, presentation.note if presentation else None]
    note = "; ".join(filter(None, told))
    return DecodedImage(pixels, f"DICOM {int(data.BitsStored)}-bit: {note}" if note else None)


def _mapped(stored: npt.NDArray[Any], shade: Shade) -> npt.NDArray[np.uint8]:
    """`shade` of every pixel; up to 16 bits it is computed once for each value that there can be."""
    stored = np.ascontiguousarray(stored, stored.dtype.newbyteorder("="))
    if stored.dtype.itemsize > 2:
        return shade(stored)
    pattern = stored.view(f"u{stored.dtype.itemsize}").ravel()
    every = np.arange(2 ** (8 * pattern.itemsize)).astype(pattern.dtype).view(stored.dtype)
    table = shade(every)
    pixels = np.empty(stored.shape, np.uint8)
    flat = pixels.ravel()
    for start in range(0, flat.size, _BLOCK):
        # an index beyond the table cannot be: `clip` only spares the check, and a copy
        table.take(pattern[start : start + _BLOCK], out=flat[start : start + _BLOCK], mode="clip")
    return pixels


def _default(
    data: Any, stored: npt.NDArray[Any], modality: Transform | None, valid: npt.NDArray[np.bool_] | None
) -> Transform:
    depth = int(data.BitsStored)
    if depth <= 8 and data.PixelRepresentation == 0 and modality is None:
        return Transform(lambda values: values / (2**depth - 1))
    if modality is None or modality.ascending:
        # in order, so that percentiles can be taken before the rescale: on whole numbers they are counted
        low, high = _stored_window(stored, valid)
        if modality is not None:
            low, high = (float(value) for value in modality.apply(np.array([low, high])))
    else:
        low, high = robust_window(modality.apply(stored.astype(np.float64)), valid)
    note = f"windowed {low:.6g}..{high:.6g} to 8 bit"
    if not high > low:
        return Transform(np.zeros_like, note)
    return Transform(lambda values: (values - low) / (high - low), note)


def _stored_window(stored: npt.NDArray[Any], valid: npt.NDArray[np.bool_] | None) -> tuple[float, float]:
    if stored.dtype != np.int16:
        return robust_window(stored, valid)
    # shifted to begin at 0, since 16-bit values without a sign are counted instead of sorted
    low, high = robust_window(stored.view(np.uint16) ^ np.uint16(1 << 15), valid)
    return low - 2**15, high - 2**15


def _padding(data: Any, stored: npt.NDArray[Any]) -> npt.NDArray[np.bool_] | None:
    value = data.get("PixelPaddingValue")
    if not isinstance(value, int):
        return None
    limit = data.get("PixelPaddingRangeLimit")
    low, high = sorted((value, limit if isinstance(limit, int) else value))
    found = (stored >= low) & (stored <= high)
    # Padding that covers everything is a wrong entry in the file, not an image without content.
    return found if found.any() and not found.all() else None
