"""DICOM Segmentation: masks of one or several segments, on one or several radiographs."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import Field
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from radlens.core.errors import DataError
from radlens.core.regions import Annotations, Mask
from radlens.core.registry import register
from radlens.explain.annotations.collecting import Collector, SizedFormat, Sizes
from radlens.explain.annotations.documents import content_of, files_of

_CLASSES = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
"""SOP classes of a segmentation, and of one as a label map."""
_LABEL_MAP = "LABELMAP"


@register("formats", "dicom-seg")
class DicomSeg(SizedFormat):
    """DICOM SEG, a file or a folder of them; the segment label is the name of the finding.

    The image is that whose SOP Instance UID the file refers to, or else that of the file's own name. The reader is the
    Content Creator's Name, where there is one; reader_folders: the sub-folders of the folder are readers instead.
    threshold: from which share of the greatest value a pixel of a fractional segment is inside. A segment without a
    pixel says that the finding was looked for and not found.
    """

    threshold: float = Field(0.5, gt=0, le=1)
    reader_folders: bool = False

    def read(self, path: Path, labels: Sequence[str], sizes: Sizes) -> Annotations:
        """See `AnnotationFormat.read`; a file that is no segmentation, or of another size, raises `DataError`."""
        found = Collector(path, labels, sizes, self.labels, rescale=self.rescale)
        for file, folder in files_of(path, (".dcm", ".dicom"), reader_folders=self.reader_folders):
            data = _segmentation(file)
            reader = folder if self.reader_folders else str(data.get("ContentCreatorName") or "").strip() or "reader"
            segments = {int(one.SegmentNumber): str(one.SegmentLabel).strip() for one in data.SegmentSequence}
            frames = _frames(file, data, segments)
            uids = dict.fromkeys(uid for uid, _ in frames)
            for uid in uids:
                otherwise = file.stem if len(uids) == 1 else None
                image_id = found.image(uid, str(file), len(segments), otherwise)
                if image_id is None:
                    continue
                # before a pixel is decoded
                frame = found.frame(str(file), image_id, (int(data.Columns), int(data.Rows)))
                for number, name in segments.items():
                    targets = found.targets(name)
                    if targets:
                        where = f"{file} segment {number} ({name})"
                        mask = Mask.pack(self._mask(file, data, frames, uid, number))
                        found.add(where, image_id, targets, mask, reader, frame)
        return found.annotations("segment", "image ids must be SOP Instance UIDs or the names of the files")

    def _mask(
        self, file: Path, data: Dataset, frames: Sequence[tuple[str, int]], uid: str, number: int
    ) -> npt.NDArray[np.bool_]:
        """Union of a segment's frames of one image: boolean (rows, columns)."""
        try:
            pixels = data.pixel_array.reshape(len(frames), int(data.Rows), int(data.Columns))
        except (ValueError, AttributeError, RuntimeError, NotImplementedError, OSError) as error:
            raise DataError(f"{file}: its pixels cannot be decoded ({error}).") from error
        union = np.zeros(pixels.shape[1:], bool)
        for at, (of, segment) in enumerate(frames):
            if of != uid:
                continue
            if data.SegmentationType == _LABEL_MAP:
                union |= pixels[at] == number
            elif segment == number:
                fractional = data.SegmentationType == "FRACTIONAL"
                least = self.threshold * int(data.MaximumFractionalValue) if fractional else 1
                union |= pixels[at] >= least
        return union


def _segmentation(file: Path) -> Dataset:
    try:
        data = dcmread(BytesIO(content_of(file)))
    except (InvalidDicomError, OSError, EOFError, ValueError) as error:
        raise DataError(f"annotation file {file} is not readable DICOM ({error}).") from error
    if data.get("SOPClassUID") not in _CLASSES:
        raise DataError(f"{file}: expected a DICOM segmentation, found the SOP class {data.get('SOPClassUID')}.")
    for key in ("Rows", "Columns", "SegmentSequence", "SegmentationType"):
        if not data.get(key):
            raise DataError(f"{file}: expected {key} of a DICOM segmentation, found none.")
    if data.SegmentationType == "FRACTIONAL" and not data.get("MaximumFractionalValue"):
        raise DataError(f"{file}: expected MaximumFractionalValue of a fractional segmentation, found none.")
    for at, one in enumerate(data.SegmentSequence):
        if one.get("SegmentNumber") is None or not one.get("SegmentLabel"):
            raise DataError(f"{file}: segment {at + 1} has no number or no label.")
    return data


def _frames(file: Path, data: Dataset, segments: dict[int, str]) -> list[tuple[str, int]]:
    """(SOP Instance UID of the image, segment number) of every frame; number 0 for a label map."""
    shared = next(iter(data.get("SharedFunctionalGroupsSequence") or ()), Dataset())
    listed = {
        str(instance.ReferencedSOPInstanceUID)
        for series in data.get("ReferencedSeriesSequence") or ()
        for instance in series.get("ReferencedInstanceSequence") or ()
    }
    frames = []
    for at, own in enumerate(data.get("PerFrameFunctionalGroupsSequence") or ()):
        where = f"{file} frame {at + 1}"
        sources = {
            str(image.ReferencedSOPInstanceUID)
            for derivation in own.get("DerivationImageSequence") or shared.get("DerivationImageSequence") or ()
            for image in derivation.get("SourceImageSequence") or ()
        } or listed
        if len(sources) > 1:
            raise DataError(f"{where}: refers to {len(sources)} images; a frame must refer to the one it was drawn on.")
        segment = 0
        if data.SegmentationType != _LABEL_MAP:
            named = own.get("SegmentIdentificationSequence") or shared.get("SegmentIdentificationSequence") or ()
            segment = next((int(one.ReferencedSegmentNumber) for one in named), 0)
            if segment not in segments:
                raise DataError(f"{where}: refers to segment {segment}, which the file does not describe.")
        # a file that refers to no image is found by its name
        frames.append((next(iter(sources), file.stem), segment))
    if not frames or len(frames) != int(data.get("NumberOfFrames") or 1):
        raise DataError(
            f"{file}: expected {data.get('NumberOfFrames') or 1} frames with their segments, found {len(frames)}."
        )
    return frames
