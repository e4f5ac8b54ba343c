"""The transformations that a DICOM file may carry for its grey values, each as a function of values."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.multival import MultiValue

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Transform:
    """A function from values to values of the same shape, and what it is, for the note; `ascending`: it keeps order."""

    apply: Callable[[Floats], Floats]
    note: str | None = None
    ascending: bool = False


@dataclass(frozen=True)
class LookupTable:
    """A table of an image: `entries[0]` is for values up to `first`, the last for all beyond it; `bits` as declared."""

    entries: Floats
    first: int
    bits: int

    def __call__(self, values: Floats) -> Floats:
        """The entry of each value (rounded to whole numbers: a rescale makes floats of them)."""
        place = np.clip(np.rint(values) - self.first, 0, len(self.entries) - 1)
        found: Floats = self.entries[place.astype(np.intp)]
        return found


def modality_transform(data: Any) -> Transform | None:
    """Modality LUT or rescale (DICOM PS3.3 C.11.1); None where there is neither, or it changes nothing."""
    table = lookup_table(data, "ModalityLUTSequence")
    if table is not None:
        return Transform(table)
    slope, intercept = number(data, "RescaleSlope"), number(data, "RescaleIntercept")
    slope, intercept = 1.0 if slope is None else slope, 0.0 if intercept is None else intercept
    # a slope of 0 would make one grey of the whole film
    if (slope, intercept) == (1.0, 0.0) or slope == 0.0:
        return None
    return Transform(lambda values: values * slope + intercept, ascending=slope > 0)


def voi_transform(data: Any) -> tuple[Transform | None, str | None]:
    """The first VOI LUT, or else the first window (DICOM PS3.3 C.11.2), to 0..1; and why a window is of no use.

    Many files declare 16 bits an entry of a table and fill 12: its greatest entry, not the declared depth, is 1.
    """
    table = lookup_table(data, "VOILUTSequence")
    if table is not None and table.entries.max() > 0:
        top = table.entries.max()
        return Transform(lambda values: table(values) / top, "lookup table of the file applied"), None
    centre, width = number(data, "WindowCenter"), number(data, "WindowWidth")
    if centre is None or width is None:
        return None, None
    function = str(data.get("VOILUTFunction") or "LINEAR").strip().upper()
    if width <= 0 or (width < 1 and function == "LINEAR"):
        return None, f"window of the file of no use (width {width:g})"
    note = f"window of the file (centre {centre:g}, width {width:g})"
    if function == "SIGMOID":
        # beyond 700 the exponential overflows, long after the result is 0
        curve = Transform(lambda v: 1 / (1 + np.exp(np.minimum(-4 * (v - centre) / width, 700.0))), note)
        return curve, None
    if function == "LINEAR_EXACT":
        return Transform(_line(centre, width), note), None
    unknown = "" if function == "LINEAR" else f", its unknown function {function[:16]!r} read as LINEAR"
    return Transform(_line(centre - 0.5, width - 1), note + unknown), None


def presentation_transform(data: Any) -> Transform | None:
    """From the output of the VOI stage, 0..1, to 0..1 with black 0 (DICOM PS3.3 C.11.4 and C.11.6); None: as it is.

    A Presentation LUT Sequence gives the shown values themselves. Else MONOCHROME1 and Presentation LUT Shape INVERSE
    say the same: the smallest value is white. The standard pairs them, so that both together invert once.
    """
    table = lookup_table(data, "PresentationLUTSequence")
    if table is not None and table.entries.max() > 0:
        top = max(2.0**table.bits - 1, float(table.entries.max()))
        last = len(table.entries) - 1
        return Transform(
            lambda values: table(values * last + table.first) / top, "presentation LUT of the file applied"
        )
    inverse = str(data.get("PresentationLUTShape") or "").strip().upper() == "INVERSE"
    if data.PhotometricInterpretation == "MONOCHROME1":
        return Transform(lambda values: 1 - values)
    if inverse:
        return Transform(lambda values: 1 - values, "inverted by its Presentation LUT Shape")
    return None


def lookup_table(data: Any, keyword: str) -> LookupTable | None:
    """The first table of a sequence; None where there is none. Raises `ValueError` where its data are too short."""
    sequence = data.get(keyword)
    item = sequence[0] if sequence else None
    if item is None or item.get("LUTDescriptor") is None or item.get("LUTData") is None:
        return None
    declared, first, bits = (int(value) for value in item.LUTDescriptor)
    length = declared or 65536
    if isinstance(item.LUTData, bytes):
        wide = len(item.LUTData) >= 2 * length
        little = data.file_meta.TransferSyntaxUID.is_little_endian
        kind = np.dtype(np.uint8) if not wide else np.dtype("<u2" if little else ">u2")
        entries = np.frombuffer(item.LUTData, kind)
    else:
        entries = np.atleast_1d(np.asarray(item.LUTData))
    if len(entries) < length:
        raise ValueError(f"{keyword} declares {length} entries and holds {len(entries)}")
    return LookupTable(entries[:length].astype(np.float64), first, bits)


def number(data: Any, keyword: str) -> float | None:
    """The (first) number of an element; None where it is missing, blank or not finite."""
    value = data.get(keyword)
    if isinstance(value, MultiValue | list):
        value = value[0] if len(value) else None
    if value is None or value == "":
        return None
    found = float(value)
    return found if math.isfinite(found) else None


def _line(centre: float, width: float) -> Callable[[Floats], Floats]:
    if width == 0:
        return lambda values: (values > centre).astype(np.float64)
    return lambda values: np.clip((values - centre) / width + 0.5, 0, 1)
