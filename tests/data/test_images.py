"""Decoding PNG, JPEG and TIFF: every mode keeps what it shows, deep pixels are windowed, damage is one sentence."""

from __future__ import annotations

import io
import struct
import threading
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from radlens.core.errors import ImageError
from radlens.data import images as module
from radlens.data.decoded import DecodedImage
from radlens.data.images import read_image, read_images

GREY = np.add.outer(np.arange(40) * 3, np.arange(30) * 4).astype(np.uint8)
COLOUR = np.stack([GREY, GREY.T.repeat(2, 0)[:40].repeat(2, 1)[:, :30], 255 - GREY], axis=-1)
DEEP = (300 + np.add.outer(np.arange(40), np.arange(30)) * 40).astype(np.uint16)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(values: npt.NDArray[np.integer], colour_type: int) -> bytes:
    """A 16-bit PNG, which Pillow writes for grey only."""
    rows = values.astype(">u2").reshape(len(values), -1)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, colour_type, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp-named-png"])
@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.fromarray(GREY), GREY),
        (Image.fromarray(COLOUR), COLOUR),
        (Image.fromarray(GREY > 100), np.where(GREY > 100, 255, 0)),
    ],
    ids=["L", "RGB", "1"],
)
def test_exact_modes(tmp_path: Path, image: Image.Image, expected: npt.NDArray[np.uint8], suffix: str) -> None:
    name = "x.bmp" if suffix == "bmp-named-png" else f"x.{suffix}"
    image.save(tmp_path / name, "TIFF" if suffix == "tif" else "PNG")
    decoded = read_image(tmp_path / name)
    assert decoded.pixels.dtype == np.uint8
    assert decoded.note is None
    np.testing.assert_array_equal(decoded.pixels, expected)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_alpha_is_composited_on_black(tmp_path: Path, suffix: str) -> None:
    alpha = np.zeros_like(GREY)
    alpha[:, 10:20] = 128
    alpha[:, 20:] = 255
    for base in (GREY, COLOUR):
        image = Image.fromarray(base)
        image.putalpha(Image.fromarray(alpha))
        image.save(tmp_path / f"x.{suffix}")
        opacity = alpha / 255 if base.ndim == 2 else alpha[..., None] / 255
        np.testing.assert_allclose(read_image(tmp_path / f"x.{suffix}").pixels, base * opacity, atol=1)


def test_palette_and_transparent_palette(tmp_path: Path) -> None:
    image = Image.fromarray((GREY // 64).astype(np.uint8), "L").convert("P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120] + [0] * 756)
    expected = np.array([[10, 20, 30], [40, 50, 60], [70, 80, 90], [100, 110, 120]], np.uint8)[GREY // 64]
    image.save(tmp_path / "x.png")
    np.testing.assert_array_equal(read_image(tmp_path / "x.png").pixels, expected)
    image.save(tmp_path / "y.png", transparency=bytes([0, 255, 255, 255]))
    expected[GREY // 64 == 0] = 0
    np.testing.assert_array_equal(read_image(tmp_path / "y.png").pixels, expected)


def test_jpeg_grey_colour_and_cmyk(tmp_path: Path) -> None:
    smooth = np.add.outer(np.arange(64), np.arange(64)).astype(np.uint8)
    Image.fromarray(smooth).save(tmp_path / "g.jpg", quality=100)
    np.testing.assert_allclose(read_image(tmp_path / "g.jpg").pixels, smooth, atol=3)
    colour = np.stack([smooth, smooth // 2, 255 - smooth], -1)
    Image.fromarray(colour).save(tmp_path / "c.jpg", quality=100, subsampling=0)
    np.testing.assert_allclose(read_image(tmp_path / "c.jpg").pixels, colour, atol=6)
    Image.fromarray(colour).convert("CMYK").save(tmp_path / "k.jpg", quality=100)
    np.testing.assert_allclose(read_image(tmp_path / "k.jpg").pixels, colour, atol=8)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bit_grey_is_windowed_and_says_so(tmp_path: Path, suffix: str) -> None:
    deep = DEEP.copy()
    deep[0, :2] = 65535  # a burnt-in marker must not darken the film
    Image.fromarray(deep).save(tmp_path / f"x.{suffix}")
    decoded = read_image(tmp_path / f"x.{suffix}")
    low, high = np.percentile(deep, [0.5, 99.5], method="nearest")
    expected = np.clip((deep - float(low)) / (high - low), 0, 1) * 255
    np.testing.assert_allclose(decoded.pixels, expected, atol=0.501)
    assert decoded.pixels.mean() < 200, "white throughout"
    assert decoded.note == f"16-bit: windowed {low:g}..{high:g} to 8 bit"


def test_32_bit_tiffs(tmp_path: Path) -> None:
    values = DEEP.astype(np.float32) / 1000 - 1
    values[3, 3] = np.nan
    for name, array in (("f", values), ("i", DEEP.astype(np.int32) * 1000 - 70000)):
        Image.fromarray(array).save(tmp_path / f"{name}.tif")
        decoded = read_image(tmp_path / f"{name}.tif")
        order = np.corrcoef(np.delete(decoded.pixels.ravel(), 93), np.delete(DEEP.ravel(), 93))[0, 1]
        assert order > 0.999
        assert {decoded.pixels.min(), decoded.pixels.max()} == {0, 255}
        assert "windowed" in (decoded.note or "")


def test_zero_is_white_is_inverted(tmp_path: Path) -> None:
    for array in (GREY, DEEP):
        Image.fromarray(array).save(tmp_path / "black.tif")
        data = bytearray((tmp_path / "black.tif").read_bytes())
        at = data.index(struct.pack("<HHI", 262, 3, 1))
        data[at + 8] = 0
        (tmp_path / "white.tif").write_bytes(data)
        np.testing.assert_array_equal(
            read_image(tmp_path / "white.tif").pixels, 255 - read_image(tmp_path / "black.tif").pixels
        )


@pytest.mark.parametrize("colour_type", [2, 6])
def test_sixteen_bit_colour_keeps_upper_bits(tmp_path: Path, colour_type: int) -> None:
    values = COLOUR.astype(np.uint16) * 257
    if colour_type == 6:
        values = np.dstack([values, np.full(GREY.shape, 65535, np.uint16)])
    (tmp_path / "x.png").write_bytes(png(values, colour_type))
    decoded = read_image(tmp_path / "x.png")
    np.testing.assert_array_equal(decoded.pixels, COLOUR)
    assert decoded.note == "16-bit colour: upper 8 bits kept"


def test_sixteen_bit_colour_in_low_bits_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(png(COLOUR.astype(np.uint16) * 12, 2))
    with pytest.raises(ImageError, match="lowest bits"):
        read_image(tmp_path / "x.png")


@pytest.mark.parametrize("suffix", ["jpg", "tif", "png"])
def test_exif_orientation(tmp_path: Path, suffix: str) -> None:
    image = Image.fromarray(GREY)
    exif = image.getexif()
    exif[274] = 6  # to be turned by 90 degrees clockwise
    image.save(tmp_path / f"x.{suffix}", exif=exif, **({"quality": 100} if suffix == "jpg" else {}))
    np.testing.assert_allclose(read_image(tmp_path / f"x.{suffix}").pixels, np.rot90(GREY, -1), atol=4)


def test_pages_of_a_tiff_are_told(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "x.tif", save_all=True, append_images=[Image.fromarray(GREY[::2])])
    decoded = read_image(tmp_path / "x.tif")
    np.testing.assert_array_equal(decoded.pixels, GREY)
    assert decoded.note == "TIFF of 2 pages: the first was read"


def noise() -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF"])
@pytest.mark.parametrize("part", [0.02, 0.5, 0.95])
def test_truncated(tmp_path: Path, form: str, part: float) -> None:
    buffer = io.BytesIO()
    Image.fromarray(noise()).save(buffer, form)
    data = buffer.getvalue()
    (tmp_path / "x").write_bytes(data[: int(len(data) * part)])
    with pytest.raises(ImageError) as raised:
        read_image(tmp_path / "x")
    assert str(raised.value).startswith(f"image {tmp_path / 'x'}: ")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "TIFF-LZW"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_is_an_image_or_an_image_error(tmp_path: Path, form: str, data: st.DataObject) -> None:
    buffer = io.BytesIO()
    kind, _, compression = form.partition("-")
    Image.fromarray(noise()).save(buffer, kind, **({"compression": "tiff_lzw"} if compression else {}))
    damaged = bytearray(buffer.getvalue())
    reach = data.draw(st.sampled_from([40, 200, len(damaged)]))
    for place in data.draw(st.lists(st.integers(0, reach - 1), min_size=1, max_size=4)):
        # The tags of a TIFF stand at its end, or behind its head.
        side = data.draw(st.booleans())
        damaged[-place - 1 if side else place] = data.draw(st.integers(0, 255))
    (tmp_path / "x").write_bytes(damaged)
    try:
        decoded = read_image(tmp_path / "x")
    except ImageError as error:
        assert "\n" not in str(error)
    else:
        assert decoded.pixels.dtype == np.uint8
        assert decoded.pixels.ndim in (2, 3)


def test_bad_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("patient,label")
    (tmp_path / "short.dcm").write_bytes(b"\0" * 200)
    for name, reason in {
        "empty.png": "empty",
        "text.png": "not a PNG, JPEG, TIFF or DICOM",
        "short.dcm": "no DICOM header",
        "none.png": "no such file",
        ".": "is a folder",
    }.items():
        with pytest.raises(ImageError, match=reason) as raised:
            read_image(tmp_path / name)
        assert raised.value.path == str(tmp_path / name)


def test_a_header_that_claims_too_much(tmp_path: Path) -> None:
    head = struct.pack(">IIBBBBB", 30000, 30000, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    with pytest.raises(ImageError, match="claims 30000 x 30000"):
        read_image(tmp_path / "x.png")


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_large_films_are_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    Image.fromarray(GREY).save(tmp_path / "x", form)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # 1,200 pixels are far beyond twice of it
    np.testing.assert_array_equal(read_image(tmp_path / "x").pixels, GREY)
    assert Image.MAX_IMAGE_PIXELS == 100
    monkeypatch.setattr(module, "LARGEST", 1000)
    with pytest.raises(ImageError, match="claims"):
        read_image(tmp_path / "x")


def test_read_images_keeps_order_and_goes_on(tmp_path: Path) -> None:
    paths = []
    for i in range(30):
        paths.append(tmp_path / f"{i}.png")
        if i % 7 == 3:
            paths[-1].write_bytes(b"\x89PNG")
        else:
            Image.fromarray(np.full((5 + i, 4), i, np.uint8)).save(paths[-1])
    results = list(read_images(paths, workers=3))
    assert len(results) == 30
    for i, result in enumerate(results):
        if i % 7 == 3:
            assert isinstance(result, ImageError)
            assert result.path == str(paths[i])
        else:
            assert isinstance(result, DecodedImage)
            assert result.pixels.shape == (5 + i, 4)
            assert (result.pixels == i).all()


def test_look_ahead_is_bounded_and_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[int] = []
    lock = threading.Lock()

    def decode(path: object) -> DecodedImage:
        with lock:
            begun.append(int(str(path)))
        return DecodedImage(np.zeros((1, 1), np.uint8))

    monkeypatch.setattr(module, "read_image", decode)
    stream = read_images((str(i) for i in range(10_000)), workers=2)
    for _ in range(3):
        next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert len(begun) <= 3 + 2 * 2 + 1
    assert list(read_images([], workers=2)) == []
    with pytest.raises(ValueError, match="workers"):
        next(read_images(["x"], workers=0))
