"""The whole grey chain of a DICOM file against its formulas, and every transfer syntax against uncompressed pixels."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import generate_frames
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from radlens.core.errors import ImageError
from radlens.data.decoded import DecodedImage
from radlens.data.images import read_image, read_images

FILM = (np.add.outer(np.arange(40), np.arange(24)) * 60).astype(np.uint16)  # 0..3720 of 12 bits
SIGNED = (FILM.astype(np.int32) - 2048).astype(np.int16)


def film(values: npt.NDArray[Any] = FILM, *, bits: int = 12, **elements: Any) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset("film", {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, "1.2.3"
    data.Rows, data.Columns = values.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit = values.dtype.itemsize * 8, bits, bits - 1
    data.PixelRepresentation = int(values.dtype.kind == "i")
    data.PixelData = values.tobytes()
    for name, value in elements.items():
        setattr(data, name, value)
    return data


def save(data: FileDataset, path: Path, **options: Any) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pydicom.dcmwrite(path, data, **(options or {"enforce_file_format": True}))
    return path


def table(entries: npt.NDArray[Any], first: int, bits: int, kind: str = "OW") -> Dataset:
    item = Dataset()
    item.LUTDescriptor = [len(entries) % 65536, first, bits]
    item.add_new(0x00283006, kind, entries.tobytes() if kind == "OW" else entries.tolist())
    return item


def shown(unit: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.clip(unit, 0, 1) * 255


@pytest.mark.parametrize("values", [FILM, SIGNED, SIGNED.astype(np.int32)], ids=["uint16", "int16", "int32"])
@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID", None])
def test_windows_by_the_formulas_of_the_standard(
    tmp_path: Path, values: npt.NDArray[Any], function: str | None
) -> None:
    bits = 32 if values.dtype.itemsize == 4 else 12
    extra = {} if function is None else {"VOILUTFunction": function}
    data = film(
        values, bits=bits, RescaleSlope=-0.5, RescaleIntercept=7, WindowCenter=[100, 5], WindowWidth=[900, 1], **extra
    )
    x = values * -0.5 + 7.0
    expected = {
        "LINEAR": (x - 99.5) / 899 + 0.5,
        "LINEAR_EXACT": (x - 100) / 900 + 0.5,
        "SIGMOID": 1 / (1 + np.exp(-4 * (x - 100) / 900)),
    }[function or "LINEAR"]
    np.testing.assert_allclose(read_image(save(data, tmp_path / "x")).pixels, shown(expected), atol=0.51)


def test_modality_table_then_window(tmp_path: Path) -> None:
    entries = np.round(4095 * (np.arange(3000) / 2999) ** 2).astype(np.uint16)
    data = film(ModalityLUTSequence=[table(entries, 500, 16)], WindowCenter=2000, WindowWidth=3001)
    x = entries[np.clip(FILM.astype(int) - 500, 0, 2999)]
    np.testing.assert_allclose(
        read_image(save(data, tmp_path / "x")).pixels, shown((x - 1999.5) / 3000 + 0.5), atol=0.51
    )


@pytest.mark.parametrize("kind", ["OW", "US"])
def test_voi_table_goes_before_a_window_and_the_first_view_before_others(tmp_path: Path, kind: str) -> None:
    # 8-bit entries for 12-bit values: an index cut to the width of an entry would wrap around
    entries = (255 * np.sqrt(np.arange(4096) / 4095)).astype(np.uint8)
    first, other = table(entries, 0, 8, kind), table(entries[::-1].copy(), 0, 8, kind)
    data = film(VOILUTSequence=[first, other], WindowCenter=1, WindowWidth=2)
    decoded = read_image(save(data, tmp_path / "x"))
    np.testing.assert_allclose(decoded.pixels, entries[FILM], atol=0.51)
    assert decoded.note == "DICOM 12-bit: lookup table of the file applied"


def test_voi_table_of_signed_values_after_a_rescale(tmp_path: Path) -> None:
    entries = np.arange(0, 4096, 2, dtype=np.uint16)
    data = film(SIGNED, VOILUTSequence=[table(entries, -1000, 12)], RescaleSlope=1, RescaleIntercept=0)
    expected = entries[np.clip(SIGNED.astype(int) + 1000, 0, 2047)] / 4094 * 255
    np.testing.assert_allclose(read_image(save(data, tmp_path / "x")).pixels, expected, atol=0.51)


@pytest.mark.parametrize(
    ("photometric", "shape", "inverted", "told"),
    [
        ("MONOCHROME2", None, False, False),
        ("MONOCHROME2", "IDENTITY", False, False),
        ("MONOCHROME2", "INVERSE", True, True),
        ("MONOCHROME1", None, True, False),
        ("MONOCHROME1", "INVERSE", True, False),
    ],
)
def test_polarity_is_turned_once(
    tmp_path: Path, photometric: str, shape: str | None, inverted: bool, told: bool
) -> None:
    extra = {} if shape is None else {"PresentationLUTShape": shape}
    data = film(PhotometricInterpretation=photometric, WindowCenter=2048, WindowWidth=4096, **extra)
    unit = (FILM - 2047.5) / 4095 + 0.5
    decoded = read_image(save(data, tmp_path / "x"))
    np.testing.assert_allclose(decoded.pixels, shown(1 - unit if inverted else unit), atol=0.51)
    assert ("inverted by its Presentation LUT Shape" in str(decoded.note)) == told


def test_presentation_table(tmp_path: Path) -> None:
    entries = np.round(4095 * (np.arange(256) / 255) ** 2).astype(np.uint16)
    data = film(WindowCenter=2048, WindowWidth=4096, PresentationLUTSequence=[table(entries, 0, 12)])
    index = np.rint(((FILM - 2047.5) / 4095 + 0.5) * 255).astype(int)
    decoded = read_image(save(data, tmp_path / "x"))
    np.testing.assert_allclose(decoded.pixels, entries[index] / 4095 * 255, atol=0.51)
    assert "presentation LUT of the file applied" in str(decoded.note)


@pytest.mark.parametrize("slope", [2.5, -2.5])
def test_default_window_follows_a_rescale(tmp_path: Path, slope: float) -> None:
    decoded = read_image(save(film(SIGNED, RescaleSlope=slope, RescaleIntercept=10), tmp_path / "x"))
    x = SIGNED * slope + 10
    low, high = np.percentile(x, [0.5, 99.5], method="nearest")
    np.testing.assert_allclose(decoded.pixels, shown((x - low) / (high - low)), atol=0.51)


@pytest.mark.parametrize("width", [0, -3, 0.5])
def test_a_window_of_no_use_is_told_and_passed_over(tmp_path: Path, width: float) -> None:
    decoded = read_image(save(film(WindowCenter=100, WindowWidth=width), tmp_path / "x"))
    assert decoded.note == f"DICOM 12-bit: window of the file of no use (width {width:g}); windowed 120..3600 to 8 bit"
    assert decoded.pixels.min() == 0
    assert decoded.pixels.max() == 255


def test_a_table_cut_short_is_refused(tmp_path: Path) -> None:
    item = table(np.arange(100, dtype=np.uint16), 0, 16)
    item.LUTDescriptor = [4096, 0, 16]
    with pytest.raises(ImageError, match="VOILUTSequence declares 4096 entries and holds"):
        read_image(save(film(VOILUTSequence=[item]), tmp_path / "x"))


def test_one_frame_of_the_multi_frame_kind(tmp_path: Path) -> None:
    values, window, shared, frame = Dataset(), Dataset(), Dataset(), Dataset()
    values.RescaleSlope, values.RescaleIntercept = 2, 0
    window.WindowCenter, window.WindowWidth = 4096, 8192
    shared.PixelValueTransformationSequence = [values]
    frame.FrameVOILUTSequence = [window]
    data = film(NumberOfFrames=1, SharedFunctionalGroupsSequence=[shared], PerFrameFunctionalGroupsSequence=[frame])
    expected = shown((FILM * 2.0 - 4095.5) / 8191 + 0.5)
    np.testing.assert_allclose(read_image(save(data, tmp_path / "x")).pixels, expected, atol=0.51)


WINDOW = {"WindowCenter": 2048, "WindowWidth": 4096}
PLAIN = {
    "explicit": (ExplicitVRLittleEndian, {"enforce_file_format": True}),
    "implicit": (ImplicitVRLittleEndian, {"implicit_vr": True, "little_endian": True}),
    "deflated": (DeflatedExplicitVRLittleEndian, {"enforce_file_format": True}),
}


@pytest.mark.parametrize("syntax", PLAIN)
@pytest.mark.parametrize("values", [FILM, SIGNED], ids=["unsigned", "signed"])
def test_uncompressed_syntaxes(tmp_path: Path, syntax: str, values: npt.NDArray[Any]) -> None:
    expected = read_image(save(film(values, **WINDOW), tmp_path / "plain")).pixels
    data = film(values, **WINDOW)
    data.file_meta.TransferSyntaxUID, options = PLAIN[syntax]
    np.testing.assert_array_equal(read_image(save(data, tmp_path / "x", **options)).pixels, expected)


def test_big_endian(tmp_path: Path) -> None:
    item = table((np.arange(4096) ** 2 // 4096).astype(np.uint16), 0, 12)
    expected = read_image(save(film(VOILUTSequence=[item]), tmp_path / "plain")).pixels
    item = table((np.arange(4096) ** 2 // 4096).astype(">u2"), 0, 12)
    data = film(FILM.astype(">u2"), VOILUTSequence=[item])
    data.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    path = save(data, tmp_path / "x", implicit_vr=False, little_endian=False, force_encoding=True)
    np.testing.assert_array_equal(read_image(path).pixels, expected)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless], ids=["RLE", "JPEG 2000"])
@pytest.mark.parametrize("values", [FILM, SIGNED], ids=["unsigned", "signed"])
def test_lossless_compression_changes_no_pixel(tmp_path: Path, syntax: Any, values: npt.NDArray[Any]) -> None:
    # fewer than 64 pixels a side are too few for the levels of JPEG 2000
    values = np.kron(values, np.ones((3, 3), values.dtype))
    expected = read_image(save(film(values, **WINDOW), tmp_path / "plain")).pixels
    data = film(values, **WINDOW)
    data.compress(syntax)
    np.testing.assert_array_equal(read_image(save(data, tmp_path / "x")).pixels, expected)


def test_threads_keep_their_warnings_apart(tmp_path: Path) -> None:
    """What pydicom warns of one file is told of that file, in any order of six threads, and of no other."""
    before = list(warnings.filters)
    plain = save(film(**WINDOW), tmp_path / "plain")
    data = film(**WINDOW)
    data.PixelData += bytes(8)
    padded = save(data, tmp_path / "padded")
    paths = [padded if index % 3 == 0 else plain for index in range(150)]
    decoded = [image for image in read_images(paths, workers=6) if isinstance(image, DecodedImage)]
    told = ["excess padding" in str(image.note) for image in decoded]
    assert told == [path == padded for path in paths]
    assert list(warnings.filters) == before


def of_pydicom(name: str) -> Path:
    found = get_testdata_file(name, download=False)
    if found is None:
        pytest.skip(f"this pydicom does not ship {name}")
    return Path(str(found))


# compressed file shipped with pydicom -> the same image uncompressed, and how far a grey value may be off
PAIRS = [
    ("MR_small_jp2klossless.dcm", "MR_small.dcm", 0),
    ("MR_small_jpeg_ls_lossless.dcm", "MR_small.dcm", 0),
    ("MR_small_RLE.dcm", "MR_small.dcm", 0),
    ("MR_small_bigendian.dcm", "MR_small.dcm", 0),
    ("MR_small_implicit.dcm", "MR_small.dcm", 0),
]


@pytest.mark.parametrize(("packed", "plain", "off"), PAIRS, ids=[pair[0] for pair in PAIRS])
def test_files_of_pydicom(packed: str, plain: str, off: int) -> None:
    one, two = (read_image(of_pydicom(name)).pixels.astype(int) for name in (packed, plain))
    assert np.abs(one - two).max() <= off
    assert np.ptp(two) > 100


@pytest.mark.parametrize(
    ("name", "syntax"),
    [
        ("SC_rgb_jpeg_dcmtk.dcm", "JPEG Baseline"),
        ("JPGExtended.dcm", "JPEG Extended"),
        ("JPEGLSNearLossless_08.dcm", "JPEG-LS Lossy"),
        ("JPEGLSNearLossless_16.dcm", "JPEG-LS Lossy"),
        ("JPEG2000.dcm", "JPEG 2000 Image Compression"),
        ("SC_rgb_jpeg_gdcm.dcm", "JPEG Lossless, Non-Hierarchical, First-Order"),
        ("image_dfl.dcm", "Deflated"),
    ],
)
def test_other_syntaxes_decode_as_pydicom_does(name: str, syntax: str) -> None:
    path = of_pydicom(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = pydicom.dcmread(path)
        values = data.pixel_array.astype(np.float64)
    assert data.file_meta.TransferSyntaxUID.name.startswith(syntax)
    decoded = read_image(path).pixels.astype(np.float64)
    assert decoded.shape == values.shape
    if data.SamplesPerPixel == 3 or data.BitsStored == 8:
        np.testing.assert_array_equal(
            decoded, values if data.PhotometricInterpretation != "MONOCHROME1" else 255 - values
        )
    else:
        # whatever the window, the order of the grey values stays
        rank = np.argsort(values.ravel(), kind="stable")
        assert (np.diff(decoded.ravel()[rank]) >= 0).all()
        assert np.ptp(decoded) > 100


def test_lossless_jpeg_equals_the_same_picture_in_rle() -> None:
    """Process 14, selection value 1, against another lossless file of pydicom that shows the same."""
    lossless, rle = (read_image(of_pydicom(name)).pixels for name in ("SC_rgb_jpeg_gdcm.dcm", "SC_rgb_rle.dcm"))
    np.testing.assert_array_equal(lossless, rle)


def test_the_shared_pair_is_one_jpeg_under_two_readings(shared: Path) -> None:
    """One JPEG baseline stream, read as MONOCHROME1 and as MONOCHROME2: negatives of each other, 8 bits untouched."""
    one, two = (pydicom.dcmread(shared / f"dicom/radiograph_monochrome{n}.dcm") for n in (1, 2))
    assert one.PixelData == two.PixelData
    assert one.SOPInstanceUID == two.SOPInstanceUID
    stream = np.asarray(Image.open(io.BytesIO(next(generate_frames(two.PixelData, number_of_frames=1)))))
    first, second = (read_image(shared / f"dicom/radiograph_monochrome{n}.dcm") for n in (1, 2))
    # two decoders of lossy JPEG may round differently
    assert np.abs(second.pixels.astype(int) - stream).max() <= 1
    np.testing.assert_array_equal(first.pixels, 255 - second.pixels)
    assert first.note is None
    assert second.note is None
