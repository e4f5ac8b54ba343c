"""Decoding in processes gives what decoding here gives, errors too."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.uid import ExplicitVRLittleEndian, RLELossless, generate_uid

from radlens.core.errors import ImageError
from radlens.data.decoding import WORTH, Decoding
from radlens.data.images import read_image


def write_dicom(path: Path, seed: int, compressed: bool = True) -> None:
    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = generate_uid()
    pixels = np.random.default_rng(seed).integers(0, 4096, (30, 40)).astype(np.uint16)
    data.Rows, data.Columns, data.SamplesPerPixel = 30, 40, 1
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    data.PhotometricInterpretation = "MONOCHROME2"
    data.PixelData = pixels.tobytes()
    if compressed:
        data.compress(RLELossless)
    data.save_as(path, enforce_file_format=True)


def test_processes_decode_what_threads_decode(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.dcm" for number in range(2 * WORTH)]
    for number, path in enumerate(paths):
        write_dicom(path, number)
    broken, png = tmp_path / "broken.dcm", tmp_path / "film.png"
    broken.write_bytes(paths[0].read_bytes()[:700])
    Image.fromarray(np.full((5, 6), 9, np.uint8)).save(png)
    with Decoding([*paths, broken, png], workers=2) as decoding, ThreadPoolExecutor(2) as pool:
        plain = tmp_path / "plain.dcm"
        write_dicom(plain, 0, compressed=False)
        assert decoding.read(plain).pixels.shape == (30, 40) and decoding._pool is None
        found = list(pool.map(decoding.read, paths))
        assert decoding._pool is not None
        assert decoding.read(png).pixels.shape == (5, 6)
        with pytest.raises(ImageError) as caught:
            decoding.read(broken)
    assert caught.value.path == str(broken)
    for path, image in zip(paths, found, strict=True):
        here = read_image(path)
        np.testing.assert_array_equal(image.pixels, here.pixels)
        assert image.note == here.note


@pytest.mark.parametrize(("files", "workers"), [(WORTH, 2), (4 * WORTH, 1)])
def test_few_files_or_one_worker_start_no_process(tmp_path: Path, files: int, workers: int) -> None:
    write_dicom(tmp_path / "0.dcm", 0)
    with Decoding([tmp_path / f"{number}.dcm" for number in range(files)], workers) as decoding:
        assert decoding.read(tmp_path / "0.dcm").pixels.shape == (30, 40)
        assert decoding._pool is None
