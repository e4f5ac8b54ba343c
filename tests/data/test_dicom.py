"""DICOM: lookup tables, windows, photometric interpretation, and files that cannot be used."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, SecondaryCaptureImageStorage

from radlens.core.errors import ImageError
from radlens.data import dicom as module
from radlens.data.images import read_image

FILM = (np.add.outer(np.arange(32), np.arange(24)) * 70).astype(np.uint16)  # 0..3780 of 12 bits


def write(path: Path, values: npt.NDArray[Any], *, bits: int = 12, **elements: Any) -> Path:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.Rows, data.Columns = values.shape[:2]
    data.SamplesPerPixel = 1 if values.ndim == 2 else 3
    if values.ndim == 3:
        data.PlanarConfiguration = 0
    data.PhotometricInterpretation = "MONOCHROME2" if values.ndim == 2 else "RGB"
    data.BitsAllocated, data.BitsStored, data.HighBit = values.dtype.itemsize * 8, bits, bits - 1
    data.PixelRepresentation = int(values.dtype.kind == "i")
    data.PixelData = values.tobytes()
    for name, value in elements.items():
        setattr(data, name, value)
    data.save_as(path, enforce_file_format=True)
    return path


def test_window_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "x.dcm", FILM, WindowCenter=[2000, 1], WindowWidth=[1000, 1])
    decoded = read_image(path)
    # DICOM PS3.3 C.11.2.1.2.1, written out
    expected = np.clip(((FILM - 1999.5) / 999 + 0.5) * 255, 0, 255)
    np.testing.assert_allclose(decoded.pixels, expected, atol=0.51)
    assert decoded.note == "DICOM 12-bit: window of the file (centre 2000, width 1000)"


def test_rescale_comes_before_the_window(tmp_path: Path) -> None:
    path = write(tmp_path / "x.dcm", FILM, RescaleSlope=2, RescaleIntercept=-1000, WindowCenter=3000, WindowWidth=2000)
    expected = np.clip(((FILM * 2.0 - 1000 - 2999.5) / 1999 + 0.5) * 255, 0, 255)
    np.testing.assert_allclose(read_image(path).pixels, expected, atol=0.51)


def test_sigmoid_window(tmp_path: Path) -> None:
    path = write(tmp_path / "x.dcm", FILM, WindowCenter=2000, WindowWidth=1000, VOILUTFunction="SIGMOID")
    expected = 255 / (1 + np.exp(-4 * (FILM.astype(float) - 2000) / 1000))
    np.testing.assert_allclose(read_image(path).pixels, expected, atol=0.51)


def test_voi_lookup_table_of_12_bits_declared_as_16(tmp_path: Path) -> None:
    item = Dataset()
    item.LUTDescriptor = [4096, 0, 16]
    table = (np.sqrt(np.arange(4096) / 4095) * 4095).astype(np.uint16)
    item.add_new(0x00283006, "OW", table.tobytes())
    path = write(tmp_path / "x.dcm", FILM, VOILUTSequence=[item])
    decoded = read_image(path)
    np.testing.assert_allclose(decoded.pixels, table[FILM] / 4095 * 255, atol=0.51)
    assert decoded.note == "DICOM 12-bit: lookup table of the file applied"


def test_without_a_window_the_robust_one_is_told(tmp_path: Path) -> None:
    low, high = np.percentile(FILM, [0.5, 99.5], method="nearest")
    decoded = read_image(write(tmp_path / "x.dcm", FILM))
    np.testing.assert_allclose(decoded.pixels, np.clip((FILM - float(low)) / (high - low), 0, 1) * 255, atol=0.51)
    assert decoded.note == f"DICOM 12-bit: windowed {low}..{high} to 8 bit"


def test_padding_neither_sets_the_window_nor_turns_white(tmp_path: Path) -> None:
    signed = FILM.astype(np.int16)
    signed[:8] = -2000
    path = write(tmp_path / "x.dcm", signed, bits=16, PhotometricInterpretation="MONOCHROME1", PixelPaddingValue=-2000)
    pixels = read_image(path).pixels
    assert (pixels[:8] == 0).all()
    low, high = np.percentile(FILM[8:], [0.5, 99.5], method="nearest")
    expected = 255 - np.clip((FILM[8:] - float(low)) / (high - low), 0, 1) * 255
    np.testing.assert_allclose(pixels[8:], expected, atol=0.51)


def test_monochrome1_and_2_of_one_film_agree(tmp_path: Path) -> None:
    two = write(tmp_path / "2.dcm", FILM, WindowCenter=2048, WindowWidth=4096)
    one = write(
        tmp_path / "1.dcm", 4095 - FILM, WindowCenter=2048, WindowWidth=4096, PhotometricInterpretation="MONOCHROME1"
    )
    np.testing.assert_allclose(read_image(one).pixels, read_image(two).pixels.astype(float), atol=1)


def test_eight_bits_stay_as_they_are(tmp_path: Path) -> None:
    grey = (FILM // 16).astype(np.uint8)
    decoded = read_image(write(tmp_path / "x", grey, bits=8, RescaleSlope=1, RescaleIntercept=0))
    np.testing.assert_array_equal(decoded.pixels, grey)
    assert decoded.note is None
    colour = np.dstack([grey, grey[::-1], 255 - grey])
    np.testing.assert_array_equal(read_image(write(tmp_path / "y", colour, bits=8)).pixels, colour)


def test_the_shared_pair(shared: Path) -> None:
    # Both files hold the same stored values under the two interpretations: one must be the other's negative.
    one = read_image(shared / "dicom/radiograph_monochrome1.dcm").pixels
    two = read_image(shared / "dicom/radiograph_monochrome2.dcm").pixels
    assert one.shape == two.shape == (1024, 1024)
    np.testing.assert_array_equal(one, 255 - two)
    assert two[400:600, 200:350].mean() < two[700:800, 450:550].mean(), "lung darker than heart and spine"


@pytest.mark.parametrize("part", [0.01, 0.3, 0.9])
def test_truncated(tmp_path: Path, shared: Path, part: float) -> None:
    uncompressed = write(tmp_path / "x.dcm", FILM).read_bytes()
    packed = (shared / "dicom/radiograph_monochrome2.dcm").read_bytes()
    for data in (uncompressed, packed):
        (tmp_path / "cut.dcm").write_bytes(data[: max(132, int(len(data) * part))])
        with pytest.raises(ImageError) as raised:
            read_image(tmp_path / "cut.dcm")
        assert "\n" not in str(raised.value)


def test_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = write(tmp_path / "frames.dcm", FILM, NumberOfFrames=2, PixelData=FILM.tobytes() * 2)
    with pytest.raises(ImageError, match="2 frames; expected one radiograph"):
        read_image(frames)
    film = write(tmp_path / "film.dcm", FILM)
    with pytest.raises(ImageError, match="not expected here"):
        read_image(film, dicom=False)
    import pydicom

    data = pydicom.dcmread(film)
    del data.PixelData
    data.save_as(tmp_path / "report.dcm")
    with pytest.raises(ImageError, match="without pixels"):
        read_image(tmp_path / "report.dcm")

    class Missing:
        is_available = False

    data = pydicom.dcmread(film)
    data.file_meta.TransferSyntaxUID = JPEG2000Lossless
    data["PixelData"].is_undefined_length = True
    from pydicom.encaps import encapsulate

    data.PixelData = encapsulate([b"\0" * 10])
    data.save_as(tmp_path / "packed.dcm")
    with pytest.raises(ImageError, match="cannot be decoded"):
        read_image(tmp_path / "packed.dcm")
    monkeypatch.setattr(module, "get_decoder", lambda syntax: Missing)
    with pytest.raises(ImageError, match=r"pip install 'radlens\[dicom\]'"):
        read_image(tmp_path / "packed.dcm")


def test_odd_values_do_not_warn(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = write(tmp_path / "x.dcm", FILM, WindowCenter="2000.12345678901234567", WindowWidth="1000")
        data = bytearray(path.read_bytes())
    path.write_bytes(data + b"\0\0")
    assert read_image(path).pixels.shape == FILM.shape
