"""What a cohort may know of one DICOM file: read from its header, names of persons and places left where they are."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Any, NamedTuple

from pydicom.datadict import tag_for_keyword
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_partial
from pydicom.multival import MultiValue

from radlens.data.decoder_warnings import heard_warnings
from radlens.data.dicom_pseudonyms import Pseudonyms

NOT_DICOM = "files that are not DICOM"
UNREADABLE = "DICOM files that cannot be read"
NO_IMAGE = "DICOM objects that are no image (reports, presentation states, folders)"
FRAMES = "DICOM images of several frames"
NO_PIXELS = "DICOM images without pixels, or cut short"

# All that is looked at. Birth date, person names, institution, station, dates and texts are not.
_KEYWORDS = (
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "AccessionNumber",
    "PatientID",
    "PatientSex",
    "PatientAge",
    "Modality",
    "Manufacturer",
    "ManufacturerModelName",
    "BodyPartExamined",
    "ViewPosition",
    "ViewCodeSequence",
    "ImageLaterality",
    "Laterality",
    "NumberOfFrames",
    "Rows",
    "Columns",
)
_TAGS: list[Any] = [tag_for_keyword(keyword) for keyword in _KEYWORDS]
_PIXELS = (0x7FE00008, 0x7FE00009, 0x7FE00010)
_UNDEFINED = 0xFFFFFFFF
_DAMAGED = (
    InvalidDicomError,
    BytesLengthException,
    AttributeError,
    ValueError,
    LookupError,
    TypeError,
    RuntimeError,
    NotImplementedError,
    OverflowError,
    EOFError,
    MemoryError,
    struct.error,
)
_VIEWS = {
    "PA": "PA",
    "AP": "AP",
    **dict.fromkeys(("LL", "RL", "LAT", "LATERAL", "LLAT", "RLAT", "LEFT LATERAL", "RIGHT LATERAL"), "lateral"),
    "POSTEROANTERIOR": "PA",
    "ANTEROPOSTERIOR": "AP",
}
_YEARS = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25, "": 1.0}
OLDEST = 90.0
"""Ages from 90 on are told as 90: alone they point to a person (HIPAA, 45 CFR 164.514(b)(2)(i)(C))."""


class Header(NamedTuple):
    """One file. left_out: why it is no image of a cohort, or "". Names are pseudonyms; null where there are none."""

    left_out: str
    image: str | None = None
    patient: str | None = None
    study: str | None = None
    series: str | None = None
    accession: str | None = None
    view: str | None = None
    laterality: str | None = None
    age: float | None = None
    sex: str | None = None
    modality: str | None = None
    manufacturer: str | None = None
    device: str | None = None
    chest: bool | None = None
    """Whether the body part that was examined lies in the chest; null where the file does not say."""


def read_header(path: Path, size: int, names: Pseudonyms) -> Header:
    """Read one header, pixels left on the disk. size: of the file in bytes. Never raises for what a file holds."""
    try:
        with path.open("rb") as file, heard_warnings():
            if file.read(132)[128:] != b"DICM":
                return Header(NOT_DICOM)
            file.seek(0)
            pixels: list[tuple[int, int]] = []

            def at_pixels(tag: int, kind: str | None, length: int) -> bool:
                # tag and length take 8 bytes where kinds are implicit, else 12
                if tag in _PIXELS:
                    pixels.append((8 if kind is None else 12, length))
                return tag >= _PIXELS[0]

            data = read_partial(file, at_pixels, specific_tags=_TAGS)
            deflated = data.file_meta.TransferSyntaxUID.is_deflated
            header = _header(data, names)
            before, length = pixels[0] if pixels else (0, 0)
            # the file stands where the element of the pixels begins; what is deflated has no such place
            there = length if deflated else size - file.tell() - before
            whole = bool(pixels) and length > 0 and (there > 0 if length == _UNDEFINED else there >= length)
            return header if header.left_out or whole else header._replace(left_out=NO_PIXELS)
    except OSError:
        return Header(UNREADABLE)
    except _DAMAGED:
        return Header(UNREADABLE)


def _header(data: Any, names: Pseudonyms) -> Header:
    if not data.get("Rows") or not data.get("Columns"):
        return Header(NO_IMAGE)

    def pseudonym(kind: str, value: str | None) -> str | None:
        return None if value is None else names.of(kind, value)

    instance = _text(data, "SOPInstanceUID") or _text(data.file_meta, "MediaStorageSOPInstanceUID")
    patient = pseudonym("patient", _text(data, "PatientID"))
    modality = (_text(data, "Modality") or "").upper()
    part = _text(data, "BodyPartExamined")
    return Header(
        FRAMES if int(data.get("NumberOfFrames") or 1) > 1 else "",
        image=pseudonym("image", instance),
        patient=patient,
        study=pseudonym("study", _text(data, "StudyInstanceUID")),
        series=pseudonym("series", _text(data, "SeriesInstanceUID")),
        accession=pseudonym("accession", _text(data, "AccessionNumber")),
        view=_view(data),
        laterality={"L": "L", "R": "R", "B": "B"}.get((_text(data, "ImageLaterality", "Laterality") or "").upper()),
        age=age_in_years(_text(data, "PatientAge")),
        sex={"M": "M", "F": "F"}.get((_text(data, "PatientSex") or "").upper()),
        modality=modality if re.fullmatch("[A-Z]{2,8}", modality) else None,
        manufacturer=_text(data, "Manufacturer"),
        device=_text(data, "ManufacturerModelName"),
        chest=None if part is None else bool(re.search("CHEST|THORA|LUNG|RIB|STERN", part.upper())),
    )


def age_in_years(text: str | None) -> float | None:
    """A DICOM age (`045Y`, `018M`, `003W`, `010D`; a bare number is years) in years, at most 90; None if it is none."""
    match = re.fullmatch(r"(\d{1,3})([YMWD]?)", (text or "").strip().upper())
    if match is None:
        return None
    years = int(match[1]) * _YEARS[match[2]]
    # nobody was that old: a placeholder such as 999Y
    return None if years > 130 else min(round(years, 2), OLDEST)


def _view(data: Any) -> str | None:
    """`PA`, `AP` or `lateral`: from View Position, or else the meaning of View Code Sequence."""
    codes = data.get("ViewCodeSequence") or []
    meaning = _text(codes[0], "CodeMeaning") if len(codes) else None
    for text in (_text(data, "ViewPosition"), meaning):
        words = re.sub(r"[^A-Z ]", "", (text or "").upper().replace("_", " ")).strip()
        if words in _VIEWS:
            return _VIEWS[words]
    return None


def _text(data: Any, *keywords: str) -> str | None:
    """The first of the elements that holds text; blanks and binary rubbish are none."""
    for keyword in keywords:
        value = data.get(keyword)
        value = value[0] if isinstance(value, MultiValue) and len(value) else value
        text = "" if value is None else " ".join(str(value).split("\0")[0].split())
        if text:
            return text
    return None
