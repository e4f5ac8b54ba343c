"""COCO: boxes, polygons and run lengths."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from radlens.core.errors import DataError
from radlens.core.regions import Annotations, Box, Mask, Polygon, Shape
from radlens.core.registry import register
from radlens.core.run_lengths import mask_of_runs, run_lengths
from radlens.explain.annotations.collecting import Collector, ProjectFormat, Sizes
from radlens.explain.annotations.documents import Entries, checked, files_by_reader, read_json
from radlens.explain.annotations.frames import Frame

Listed = TypeVar("Listed")


class _Image(Entries):
    id: int | str
    file_name: str
    width: int | None = None
    height: int | None = None


class _Category(Entries):
    id: int | str
    name: str


class RunLengths(Entries):
    """A mask as COCO writes it: size [height, width]; counts a list, or compressed text."""

    size: tuple[int, int]
    counts: str | list[int]


class _Annotation(Entries):
    image_id: int | str
    category_id: int | str
    bbox: tuple[float, float, float, float] | None = None
    segmentation: RunLengths | list[list[float]] | None = None


class CocoDocument(Entries):
    """What is read of a COCO file."""

    images: list[_Image]
    categories: list[_Category]
    annotations: list[_Annotation]


@register("formats", "coco-json")
class CocoJson(ProjectFormat):
    """COCO JSON, or a folder with one such file a reader; segmentations first, boxes where an entry has none.

    reader_key: the key of an annotation that names its reader. Images are found by file_name.
    """

    reader_key: str | None = None

    def read(self, path: Path, labels: Sequence[str], sizes: Sizes) -> Annotations:
        """See `AnnotationFormat.read`; a region or mask that does not fit its image raises `DataError`."""
        found = Collector(path, labels, sizes, self.labels, rescale=self.rescale)
        for file, reader in files_by_reader(path, ".json"):
            values = read_json(file)
            document = checked(file, values, CocoDocument)
            readers = [self._reader(file, at, entry, reader) for at, entry in enumerate(values["annotations"])]
            # who looked at an image without a region is only known where all of the file is of one reader
            alone = None if self.reader_key else reader or "reader"
            collect_coco(found, file, document, readers, alone, complete=self.complete)
        return found.annotations("region", "check file_name of its images")

    def _reader(self, file: Path, at: int, entry: dict[str, Any], reader: str | None) -> str:
        if self.reader_key is None:
            return reader or "reader"
        named = entry.get(self.reader_key)
        if not isinstance(named, str | int) or named == "":
            raise DataError(f"{file} annotations[{at}]: expected a reader under {self.reader_key!r}, found {named!r}.")
        return str(named)


def collect_coco(
    found: Collector, file: Path, document: CocoDocument, readers: Sequence[str], alone: str | None, *, complete: bool
) -> None:
    """Gather a document. readers: one an annotation. alone: who looked at all images; None: those who drew in them.

    Raises `DataError` naming file and entry, as for an image or category that the document does not list.
    """
    images = _by_id(file, "images", ((image.id, image) for image in document.images))
    names = _by_id(file, "categories", ((category.id, category.name) for category in document.categories))
    ids: dict[int | str, str | None] = {}
    entries = dict.fromkeys(images, 0)
    for at, entry in enumerate(document.annotations):
        if entry.image_id not in images:
            raise DataError(f"{file} annotations[{at}]: image_id {entry.image_id!r} is not among its images.")
        if entry.category_id not in names:
            raise DataError(f"{file} annotations[{at}]: category_id {entry.category_id!r} is not among its categories.")
        entries[entry.image_id] += 1
    for at, (key, image) in enumerate(images.items()):
        ids[key] = found.image(image.file_name, f"{file} images[{at}]", entries[key])
    if complete:
        found.declare(names.values())
        drew = ((entry.image_id, own) for entry, own in zip(document.annotations, readers, strict=True))
        for key, looker in drew if alone is None else ((key, alone) for key in images):
            if (image_id := ids[key]) is not None:
                found.looked(image_id, looker)
    for at, (entry, own) in enumerate(zip(document.annotations, readers, strict=True)):
        image_id, where = ids[entry.image_id], f"{file} annotations[{at}]"
        targets = found.targets(names[entry.category_id]) if image_id is not None else ()
        if image_id is None or not targets:
            continue
        image = images[entry.image_id]
        stated = (image.width, image.height) if image.width is not None and image.height is not None else None
        frame = found.frame(where, image_id, stated)
        for shape in _shapes(where, entry, frame):
            found.add(where, image_id, targets, shape, own, frame)


def mask_from(where: str, runs: RunLengths, drawn: tuple[int, int]) -> Mask:
    """The mask of run lengths. drawn: (width, height) of the image. Raises `DataError` for another size or length."""
    height, width = runs.size
    if (width, height) != drawn:
        raise DataError(f"{where}: a mask of {width}x{height} pixels for an image of {drawn[0]}x{drawn[1]} pixels.")
    try:
        counts = run_lengths(runs.counts) if isinstance(runs.counts, str) else runs.counts
        return Mask.pack(mask_of_runs(counts, height, width))
    except ValueError as error:
        raise DataError(f"{where}: the run lengths of the mask are damaged: {error}.") from error


def _shapes(where: str, entry: _Annotation, frame: Frame) -> list[Shape]:
    if isinstance(entry.segmentation, RunLengths):
        return [mask_from(where, entry.segmentation, frame.drawn)]
    if entry.segmentation:
        for outline in entry.segmentation:
            if len(outline) % 2:
                raise DataError(f"{where}: expected x and y in turn, found a polygon of {len(outline)} numbers.")
        return [Polygon(tuple(zip(one[::2], one[1::2], strict=True))) for one in entry.segmentation]
    if entry.bbox is None:
        raise DataError(f"{where}: expected a segmentation or a bbox, found neither.")
    return [Box(*entry.bbox)]


def _by_id(file: Path, what: str, pairs: Iterable[tuple[int | str, Listed]]) -> dict[int | str, Listed]:
    listed: dict[int | str, Listed] = {}
    for key, value in pairs:
        if key in listed:
            raise DataError(f"{file} {what}: the id {key!r} stands twice; give each its own.")
        listed[key] = value
    return listed
