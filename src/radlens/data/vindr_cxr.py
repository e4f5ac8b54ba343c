"""VinDr-CXR of two hospitals in Hanoi: 18,000 radiographs read by radiologists, with a box for each finding."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import polars as pl

from radlens.core.cohort import Cohort, LeftOut, make_cohort
from radlens.core.errors import DataError
from radlens.core.mapping import FindingMapping, load_mapping
from radlens.core.parts import Dataset, Progress, unheard
from radlens.core.regions import Annotations
from radlens.core.registry import register
from radlens.core.vocabulary import load_vocabulary
from radlens.data import release
from radlens.data.expected_counts import count_notes
from radlens.data.image_paths import image_paths
from radlens.data.released_boxes import to_regions
from radlens.data.vindr_readings import Rule, decide, read_boxes, read_challenge, read_release

_NAME = "vindr-cxr"
_CHALLENGE = ("train.csv", "vinbigdata-train.csv")
_WORDS = {"majority": "more than half of its readers", "any": "any of its readers"}


@register("datasets", "vindr-cxr")
class VinDrCXR(Dataset):
    """VinDr-CXR as PhysioNet releases it, or the training table of the Kaggle challenge; readers' boxes kept apart.

    root: the folder of the release, which the other paths start from. tables: the folder of PhysioNet's four tables
    (default: annotations). table: the challenge's table, where that is at hand instead (default: train.csv, or
    vinbigdata-train.csv, also .gz); it has 14 of the 22 findings and the training images alone. images: the folder
    whose tree holds the images, each once (default: root, with train/ and test/). readers: what makes a finding of an
    image out of three readings: `majority` (more than half) or `any`; "No Finding" is then what the majority, or all,
    call so. The test set has one reading, the consensus of five. only_present: keep only images that have a file.

    Neither release names patients, ages or sexes. All films are postero-anterior.
    """

    root: str = "."
    tables: str = "annotations"
    table: str | None = None
    images: str | None = None
    readers: Rule = "majority"
    only_present: bool = False

    def load(self, folder: Path, work: Path, progress: Progress = unheard) -> Cohort:
        """Read the tables, and list the image folder where it exists; no image is opened."""
        root = folder / self.root
        vocabulary = load_vocabulary(self.vocabulary, folder)
        mapping = load_mapping(_NAME)
        labels, boxes = self._paths(root)
        readings = [
            read_release(path, part, mapping) if part in ("train", "test") else read_challenge(path, mapping)
            for part, path in labels.items()
        ]
        notes = [note for one in readings for note in one.notes]
        # one part may assess what the other does not
        table = decide(pl.concat([one.table for one in readings], how="diagonal"), mapping.assesses, self.readers)
        _refuse_twice(table, labels)
        assessed = [name for name in mapping.assesses if name in table.columns]
        kept = release.vocabulary_labels(vocabulary, assessed, "VinDr-CXR")
        notes += count_notes(_NAME, {"images": table.height})
        fewer = int((table["split"].eq("train") & table["readers"].ne(3)).sum())
        if fewer:
            notes.append(f"{fewer} training images have other than three readers: the rule is over those they have.")
        images = root / self.images if self.images is not None else root
        released = table.select(pl.format("{}/{}.dicom", "split", "image_id").alias("path"))["path"]
        paths, missing = image_paths(table["image_id"], released, images)
        table = table.select("image_id", paths, pl.lit("PA").alias("view"), "split", "readers", *kept)
        left_out: list[LeftOut] = []
        if self.only_present:
            table, left_out = release.keep_present(table, missing, images)
        origin = f"radiologists on the films (training: {_WORDS[self.readers]}; test: consensus of five)"
        return make_cohort(
            _NAME,
            table,
            vocabulary,
            source=release.described(_NAME, *labels.values())
            | {"readers": self.readers, "images": str(images), "boxes": [str(path) for path in boxes]},
            notes=notes,
            origins=release.origins(vocabulary, dict.fromkeys(kept, origin), "this table of VinDr-CXR"),
            left_out=left_out,
        )

    def annotations(self, cohort: Cohort, image_ids: Collection[str]) -> Annotations | None:
        """Each reader's boxes on these images, for labels that the readers' rule made 1; None without a box table.

        Boxes are in pixels of the released images. What cannot be used is counted; see `to_regions`.
        """
        paths = [Path(path) for path in cohort.source.get("boxes", ())]
        if not paths:
            return None
        mapping: FindingMapping = load_mapping(_NAME)
        boxes = pl.concat([read_boxes(path) for path in paths])
        return to_regions(boxes, ", ".join(map(str, paths)), cohort, image_ids, mapping.findings)

    def _paths(self, root: Path) -> tuple[dict[str, Path], list[Path]]:
        """Label tables by part (train and test, or challenge), and box tables."""
        if self.table is None:
            named = {part: f"{self.tables}/image_labels_{part}.csv" for part in ("train", "test")}
            found = {part: release.find_file(root, None, (name,), "tables") for part, name in named.items()}
            labels = {part: path for part, path in found.items() if path is not None}
            if labels:
                drawn = [
                    release.find_file(root, None, (f"{self.tables}/annotations_{p}.csv",), "tables") for p in labels
                ]
                return labels, [path for path in drawn if path is not None]
            path = release.require_file(root, None, (*named.values(), *_CHALLENGE), "table")
        else:
            path = release.require_file(root, self.table, _CHALLENGE, "table")
        return {"challenge": path}, [path]


def _refuse_twice(table: pl.DataFrame, labels: dict[str, Path]) -> None:
    both = table.filter(pl.col("image_id").is_duplicated())
    if both.height:
        where = " and ".join(str(path) for path in labels.values())
        raise DataError(f"image {both['image_id'][0]} stands in {where}; keep it in one of them.")
