"""DICOM segmentations, written by the tests with pydicom: binary, fractional, label map; several readers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, FileMetaDataset
from pydicom.pixels import pack_bits
from pydicom.uid import ExplicitVRLittleEndian

from radlens.core.errors import DataError
from radlens.core.spec import build_part

LABELS = ("Pneumonia", "Edema")
UID = "1.2.3.4.5"
SIZES = {UID: (11, 9), "film": (11, 9)}
FIRST, SECOND = np.zeros((9, 11), bool), np.zeros((9, 11), bool)
FIRST[1:4, 2:7] = SECOND[6:9, 5:11] = True


def item(**values: Any) -> Dataset:
    data = Dataset()
    for key, value in values.items():
        setattr(data, key, value)
    return data


def frame(segment: int | None, uid: str | None = UID) -> Dataset:
    found = Dataset()
    if segment is not None:
        found.SegmentIdentificationSequence = [item(ReferencedSegmentNumber=segment)]
    if uid is not None:
        source = item(ReferencedSOPClassUID="1.2.840.10008.5.1.4.1.1.1.1", ReferencedSOPInstanceUID=uid)
        found.DerivationImageSequence = [item(SourceImageSequence=[source])]
    return found


def write(
    path: Path,
    pixels: np.ndarray,
    frames: list[Dataset],
    kind: str = "BINARY",
    names: tuple[str, ...] = ("opacity", "Edema"),
    creator: str | None = None,
    **changed: Any,
) -> None:
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = "1.2.840.10008.5.1.4.1.1.66.4"
    if kind == "LABELMAP":
        data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = "1.2.840.10008.5.1.4.1.1.66.7"
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = "1.2.3.9"
    data.Modality = "SEG"
    data.NumberOfFrames, data.Rows, data.Columns = pixels.shape
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 0
    data.BitsAllocated = data.BitsStored = 1 if kind == "BINARY" else 8
    data.HighBit = data.BitsStored - 1
    data.SegmentationType = kind
    if kind == "FRACTIONAL":
        data.SegmentationFractionalType, data.MaximumFractionalValue = "PROBABILITY", 200
    if creator is not None:
        data.ContentCreatorName = creator
    data.SegmentSequence = [item(SegmentNumber=at, SegmentLabel=name) for at, name in enumerate(names, start=1)]
    data.PerFrameFunctionalGroupsSequence = frames
    content = pack_bits(pixels.astype(np.uint8)) if kind == "BINARY" else pixels.astype(np.uint8).tobytes()
    data.PixelData = content + b"\0" * (len(content) % 2)
    data["PixelData"].VR = "OB"
    for key, value in changed.items():
        if value is None:
            delattr(data, key)
        else:
            setattr(data, key, value)
    data.save_as(path, enforce_file_format=True)


def read(path: Path, **options: Any) -> Any:
    return build_part("formats", "dicom-seg", {"labels": {"opacity": "Pneumonia"}} | options).read(path, LABELS, SIZES)


def test_binary_segments(tmp_path: Path) -> None:
    path = tmp_path / "seg.dcm"
    write(path, np.stack([FIRST, SECOND, SECOND]), [frame(1), frame(2), frame(1)], creator="Doe^Jane")
    found = read(path)
    assert np.array_equal(found.mask(UID, "Pneumonia", 9, 11), FIRST | SECOND), "both frames of segment 1"
    assert np.array_equal(found.mask(UID, "Edema", 9, 11), SECOND)
    assert found.readers() == ("Doe^Jane",)


def test_a_segment_without_a_frame_was_looked_for(tmp_path: Path) -> None:
    path = tmp_path / "seg.dcm"
    write(path, FIRST[None], [frame(1)])
    found = read(path)
    assert found.presence(UID, "Pneumonia", "reader") is True and found.presence(UID, "Edema", "reader") is False


def test_fractional_and_label_map(tmp_path: Path) -> None:
    path = tmp_path / "seg.dcm"
    values = np.where(FIRST, 100, np.where(SECOND, 99, 0))
    write(path, values[None], [frame(1)], "FRACTIONAL", ("opacity",))
    assert np.array_equal(read(path).mask(UID, "Pneumonia", 9, 11), FIRST)
    assert np.array_equal(read(path, threshold=0.4).mask(UID, "Pneumonia", 9, 11), FIRST | SECOND)
    write(path, (FIRST + 2 * SECOND)[None], [frame(None)], "LABELMAP")
    found = read(path)
    assert np.array_equal(found.mask(UID, "Pneumonia", 9, 11), FIRST)
    assert np.array_equal(found.mask(UID, "Edema", 9, 11), SECOND)


def test_images_by_the_name_of_the_file_and_readers_by_folder(tmp_path: Path) -> None:
    for reader, mask in (("anna", FIRST), ("bela", SECOND)):
        (tmp_path / reader).mkdir()
        write(tmp_path / reader / "film.dcm", mask[None], [frame(1, "9.9.9")], names=("Edema",))
    found = read(tmp_path, reader_folders=True)
    assert found.readers() == ("anna", "bela") and found.image_ids() == ("film",)
    assert np.array_equal(found.mask("film", "Edema", 9, 11, reader="bela"), SECOND)


@pytest.mark.parametrize(
    ("changed", "frames", "sentence"),
    [
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.1"}, [frame(1)], "expected a DICOM segmentation, found the SOP"),
        ({"SegmentSequence": None}, [frame(1)], "expected SegmentSequence"),
        ({"PerFrameFunctionalGroupsSequence": None}, [frame(1)], "expected 1 frames with their segments, found 0"),
        ({}, [frame(7)], r"frame 1: refers to segment 7, which the file does not describe"),
        ({"Rows": 3, "Columns": 33}, [frame(1)], r"annotated at 33x3, but image 1.2.3.4.5 is 11x9"),
        ({"PixelData": b"\0\0"}, [frame(1)], "its pixels cannot be decoded"),
    ],
)
def test_refusals(tmp_path: Path, changed: dict[str, Any], frames: list[Dataset], sentence: str) -> None:
    path = tmp_path / "seg.dcm"
    write(path, FIRST[None], frames, **changed)
    with pytest.raises(DataError, match=sentence):
        read(path)


def test_no_dicom_and_other_images(tmp_path: Path) -> None:
    path = tmp_path / "seg.dcm"
    with pytest.raises(DataError, match="does not exist"):
        read(path)
    path.write_text("no DICOM")
    with pytest.raises(DataError, match="is not readable DICOM"):
        read(path)
    write(path, FIRST[None], [frame(1, "9.9.9")])
    with pytest.raises(DataError, match=r"holds no segment for this cohort \(image not in the cohort: 2\)"):
        read(path)
