"""Pascal VOC: one XML file of boxes an image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal
from xml.etree.ElementTree import Element

from radlens.core.errors import DataError
from radlens.core.regions import Annotations, Box
from radlens.core.registry import register
from radlens.explain.annotations.collecting import Collector, ProjectFormat, Sizes
from radlens.explain.annotations.documents import files_of, number, read_xml

_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_SIDES = ("width", "height")


@register("formats", "pascal-voc")
class PascalVoc(ProjectFormat):
    """Pascal VOC's XML, a file or a folder of them; the image is that of <filename>, by its name.

    counted_from: 1 where corners are pixels counted from 1, the last one inside, as in Pascal VOC itself; 0 (default)
    where they are edges, as most tools write them. reader_folders: the sub-folders of the folder are readers.
    """

    counted_from: Literal[0, 1] = 0
    reader_folders: bool = False

    def read(self, path: Path, labels: Sequence[str], sizes: Sizes) -> Annotations:
        """See `AnnotationFormat.read`; a box outside its image, or an entry without a box, raises `DataError`."""
        found = Collector(path, labels, sizes, self.labels, rescale=self.rescale)
        for file, reader in files_of(path, (".xml",), reader_folders=self.reader_folders):
            root = read_xml(file, "annotation")
            objects = root.findall("object")
            if self.complete:
                found.declare(_text(str(file), entry, "name") for entry in objects)
            image_id = found.image((root.findtext("filename") or "").strip() or file.name, str(file), len(objects))
            if image_id is None:
                continue
            if self.complete:
                found.looked(image_id, reader)
            width, height = (number(str(file), f"<{side}>", root.findtext(f"size/{side}")) for side in _SIDES)
            frame = found.frame(str(file), image_id, (round(width), round(height)))
            for at, entry in enumerate(objects):
                where = f"{file} object {at + 1}"
                targets = found.targets(_text(where, entry, "name"))
                if targets:
                    found.add(where, image_id, targets, self._box(where, entry), reader, frame)
        return found.annotations("box", "check <filename>")

    def _box(self, where: str, entry: Element) -> Box:
        left, top, right, bottom = (
            number(where, f"<{corner}>", entry.findtext(f"bndbox/{corner}")) for corner in _CORNERS
        )
        # pixels counted from 1: the first one's edge lies one before, the last one is inside
        first = self.counted_from
        return Box(left - first, top - first, right - left + first, bottom - top + first)


def _text(where: str, entry: Element, tag: str) -> str:
    text = (entry.findtext(tag) or "").strip()
    if not text:
        raise DataError(f"{where}: expected a finding in <{tag}>, found none.")
    return text
