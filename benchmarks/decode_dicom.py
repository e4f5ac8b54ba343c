"""Decode DICOM radiographs one and two at a time, radlens against the way it had before, in one run.

    python benchmarks/decode_dicom.py [--images 24] [--rounds 3] [--width 2048 --height 2496]

Before: pydicom's own chain (modality LUT, VOI LUT over every pixel), a whole decode behind one lock, since Python's
warning filters are one for all threads. Now: the chain as a table of 65,536 values, no lock, and compressed files in
processes, since their codecs hold Python's own lock. All make the same pixels, which is checked. The films are
synthetic, written by this benchmark: 12 of 16 bits, with and without a window in the file. Wall time and processor time
of the median round; the ways take turns. What pydicom needs for the stored values alone is shown beside.
"""

from __future__ import annotations

import argparse
import io
import os
import platform
import statistics
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from radlens.data.decoding import WORTH, Decoding
from radlens.data.images import read_image
from radlens.data.windowing import robust_window, to_eight_bit

_LOCK = threading.Lock()
Pixels = np.ndarray[Any, Any]


def before(path: Path) -> Pixels:
    """The former way: one decode at a time, and the whole chain over every pixel."""
    with path.open("rb") as file, _LOCK, warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        data = pydicom.dcmread(file)
        stored = np.asarray(pixel_array(data))
        values = apply_modality_lut(stored, data)
        if data.get("WindowWidth") is None:
            return to_eight_bit(values, *robust_window(values))
        low, high = apply_voi_lut(np.array([-1e12, 1e12]), data)
        return to_eight_bit(apply_voi_lut(values, data), float(low), float(high))


def now(path: Path) -> Pixels:
    """radlens."""
    return read_image(path).pixels


def pixels_alone(path: Path) -> Pixels:
    """Nothing but the file's stored values."""
    return np.asarray(pixel_array(pydicom.dcmread(path)))


def write(path: Path, syntax: Any, shape: tuple[int, int], seed: int, window: bool) -> None:
    """A smooth film with noise."""
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    smooth = 2000 + 1500 * np.sin(columns / 300 + seed) * np.cos(rows / 250)
    noise = np.random.default_rng(seed).normal(0, 20, shape)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = DigitalXRayImageStorageForPresentation, "1.2.3"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, "1.2.3"
    data.Rows, data.Columns = shape
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 0
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 12, 11
    data.RescaleSlope, data.RescaleIntercept = 1, 0
    if window:
        data.WindowCenter, data.WindowWidth = 2048, 3000
    data.PixelData = (smooth + noise).clip(0, 4095).astype(np.uint16).tobytes()
    if syntax != ExplicitVRLittleEndian:
        data.compress(syntax)
    buffer = io.BytesIO()
    data.save_as(buffer, enforce_file_format=True)
    path.write_bytes(buffer.getvalue())


def timed(work: Callable[[Path], Pixels], paths: list[Path], threads: int) -> tuple[float, float]:
    """Wall and processor seconds an image."""
    with ThreadPoolExecutor(threads) as pool:
        wall, used = time.perf_counter(), time.process_time()
        for _ in pool.map(lambda path: work(path).shape, paths):
            pass
        return (time.perf_counter() - wall) / len(paths), (time.process_time() - used) / len(paths)


def main() -> None:
    with Decoding([f"{number}.dcm" for number in range(4 * WORTH)], workers=2) as decoding:
        compare(decoding)


def compare(decoding: Decoding) -> None:
    """Time all ways in turn."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--images", type=int, default=24)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--width", type=int, default=2048)
    arguments.add_argument("--height", type=int, default=2496)
    asked = arguments.parse_args()
    shape = (asked.height, asked.width)
    kinds = {
        "uncompressed, window": (ExplicitVRLittleEndian, True, asked.images),
        "uncompressed, none": (ExplicitVRLittleEndian, False, asked.images),
        "RLE, window": (RLELossless, True, asked.images),
        "JPEG 2000, window": (JPEG2000Lossless, True, max(asked.images // 4, 2)),
    }
    print(f"{asked.width} x {asked.height}, {os.cpu_count()} processors, Python {platform.python_version()}")
    print(f"load at the start {os.getloadavg()[0]:.2f}; milliseconds an image: wall (processor)")
    ways = {
        "before": before,
        "now, threads": now,
        "now, processes": lambda path: decoding.read(path).pixels,
        "pixels alone": pixels_alone,
    }
    with tempfile.TemporaryDirectory() as folder:
        for kind, (syntax, window, count) in kinds.items():
            # four different films are enough; each is read from the disk's cache
            films = [Path(folder) / f"{seed}.dcm" for seed in range(4)]
            for seed, path in enumerate(films):
                write(path, syntax, shape, seed, window)
            paths = (films * count)[:count]
            np.testing.assert_allclose(before(films[0]).astype(int), now(films[0]), atol=1)
            runs: dict[tuple[str, int], list[tuple[float, float]]] = {}
            for _ in range(asked.rounds):
                for name, work in ways.items():
                    for threads in (1, 2):
                        runs.setdefault((name, threads), []).append(timed(work, paths, threads))
            middle = {
                key: tuple(statistics.median(part) for part in zip(*found, strict=True)) for key, found in runs.items()
            }
            print(f"\n{kind} ({count} images)")
            for name in ways:
                shown = "   ".join(
                    f"{t} thread(s) {middle[name, t][0] * 1e3:6.1f} ({middle[name, t][1] * 1e3:6.1f})" for t in (1, 2)
                )
                print(f"  {name:15s} {shown}   2 threads: x{middle[name, 1][0] / middle[name, 2][0]:.2f}")
            print(
                f"  now / before: x{middle['before', 1][0] / middle['now, threads', 1][0]:.2f} one at a time, "
                f"x{middle['before', 2][0] / middle['now, processes', 2][0]:.2f} two at a time in processes"
            )


if __name__ == "__main__":
    main()
