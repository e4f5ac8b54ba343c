"""ChestX-ray14 of the NIH Clinical Center: 112,120 frontal radiographs, text-mined findings, 984 boxes."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import polars as pl

from radlens.core.cohort import Cohort, LeftOut, make_cohort
from radlens.core.errors import DataError, unknown_name
from radlens.core.mapping import FindingMapping, load_mapping
from radlens.core.parts import Dataset, Progress, unheard
from radlens.core.regions import Annotations
from radlens.core.registry import register
from radlens.core.vocabulary import Vocabulary, load_vocabulary
from radlens.data import nih_boxes, release
from radlens.data.expected_counts import count_notes
from radlens.data.image_paths import image_paths
from radlens.data.official_lists import split_by_lists

_NAME = "nih-cxr14"
_TABLES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")
_LISTS = {"train": ("train_val_list", "train_val_list.txt"), "test": ("test_list", "test_list.txt")}
_COLUMNS = ("Image Index", "Finding Labels", "Patient ID", "Patient Age", "View Position")
_MINED = "text-mined by NIH from reports that are not released (ChestX-ray14)"


@register("datasets", "nih-cxr14")
class NihCxr14(Dataset):
    """ChestX-ray14 of the NIH Clinical Center, with its radiologists' boxes and its official split.

    root: the folder of the release, which the other paths start from. table: default Data_Entry_2017_v2020.csv, or else
    Data_Entry_2017.csv (each also .gz). boxes: default BBox_List_2017.csv where it is there. train_val_list, test_list:
    default train_val_list.txt and test_list.txt where they are there; the first becomes `train`, without a val part.
    images: the folder whose tree holds the images, each once (default: root, so that images_001/images to
    images_012/images and one folder both do). only_present: keep only images that have a file, and count the others.
    A vocabulary of your own may name NIH's findings as they are (`Hernia`).
    """

    root: str = "."
    table: str | None = None
    boxes: str | None = None
    train_val_list: str | None = None
    test_list: str | None = None
    images: str | None = None
    only_present: bool = False

    def load(self, folder: Path, work: Path, progress: Progress = unheard) -> Cohort:
        """Read table and lists, and list the image folder; no image is opened."""
        root = folder / self.root
        vocabulary = load_vocabulary(self.vocabulary, folder)
        mapping = load_mapping(_NAME)
        labels = _labels(mapping, vocabulary)
        path = release.require_file(root, self.table, _TABLES, "table")
        rows = release.read_released(path, _COLUMNS)
        release.refuse_blank_or_twice(rows, path, "Image Index")
        found = _found(rows, path, mapping)
        sex = next((rows[name] for name in ("Patient Gender", "Patient Sex") if name in rows.columns), None)
        table = rows.with_columns(found).select(
            pl.col("Image Index").str.strip_chars().alias("image_id"),
            pl.col("Patient ID").alias("patient_id"),
            pl.col("View Position").str.strip_chars().str.to_uppercase().alias("view"),
            pl.col("Patient Age").alias("age"),
            *([release.sexes(sex)] if sex is not None else []),
            pl.col("Finding Labels").alias("nih_findings"),
            *(
                pl.col("found").list.eval(pl.element().is_in(names)).list.any().cast(pl.Int8).alias(label)
                for label, names in labels.items()
            ),
        )
        notes = count_notes(_NAME, {"images": table.height, "patients": table["patient_id"].n_unique()})
        left_out: list[LeftOut] = []
        lists = self._lists(root)
        if lists:
            split, more, left_out = split_by_lists(table["image_id"], lists)
            table, notes = table.with_columns(split), notes + more
            release.refuse_torn_patients(table, " and ".join(map(str, lists.values())))
        else:
            notes.append("the official split is not known: train_val_list.txt and test_list.txt are not there.")
        images = root / (self.images or ".")
        if not images.is_dir():
            raise DataError(f"image folder {images} does not exist; name it with `images:`.")
        names = table["image_id"]
        inside = names if self.images is not None else "images/" + names
        path_of, missing = image_paths(names.str.replace(r"\.png$", ""), inside, images)
        table = table.with_columns(path_of)
        if self.only_present:
            table, absent = release.keep_present(table, missing, images)
            left_out += absent
        age, more = release.ages(table["age"])
        boxes = release.find_file(root, self.boxes, (nih_boxes.RELEASED,), "boxes")
        tables = [path, *lists.values(), *([boxes] if boxes is not None else [])]
        source = release.described(_NAME, *tables) | {"rows": rows.height, "images": str(images)}
        return make_cohort(
            _NAME,
            table.with_columns(age),
            vocabulary,
            source=source | ({"boxes": str(boxes)} if boxes is not None else {}),
            notes=notes + more,
            origins=release.origins(vocabulary, {k: _origin(k, v) for k, v in labels.items()}, "NIH ChestX-ray14"),
            left_out=left_out,
        )

    def annotations(self, cohort: Cohort, image_ids: Collection[str]) -> Annotations | None:
        """The radiologists' boxes on these images, in pixels of the images at hand; None where there is no box file.

        Boxes were drawn at 1024 x 1024 pixels and are scaled to images that were resized since. Boxes on images outside
        the cohort and of findings without a label are counted in `left_out`.
        """
        if "boxes" not in cohort.source:
            return None
        path = Path(str(cohort.source["boxes"]))
        labels = _labels(load_mapping(_NAME), cohort.vocabulary)
        of_finding: dict[str, tuple[str, ...]] = {}
        for label, findings in labels.items():
            for finding in findings:
                of_finding[finding] = (*of_finding.get(finding, ()), label)
        return nih_boxes.to_regions(nih_boxes.read_boxes(path), path, cohort, image_ids, of_finding)

    def _lists(self, root: Path) -> dict[str, Path]:
        """Part -> its list; empty where neither is there. One without the other raises `DataError`."""
        named = {"train": self.train_val_list, "test": self.test_list}
        found = {
            part: path
            for part, (option, released) in _LISTS.items()
            if (path := release.find_file(root, named[part], (released,), option)) is not None
        }
        for part, (option, released) in _LISTS.items():
            if found and part not in found:
                other = next(iter(found.values()))
                raise DataError(f"{released} is not in {root}, beside {other}; name it with `{option}:`.")
        return found


def _labels(mapping: FindingMapping, vocabulary: Vocabulary) -> dict[str, tuple[str, ...]]:
    """Label of the vocabulary -> the findings that set it: by the mapping, or a finding of the label's own name."""
    own = {finding: (finding,) for finding in mapping.findings}
    known = own | mapping.sources
    return {name: known[name] for name in release.vocabulary_labels(vocabulary, list(known), "NIH ChestX-ray14")}


def _found(rows: pl.DataFrame, path: Path, mapping: FindingMapping) -> pl.Series:
    """List(String) of findings; null for a blank cell. A word that is no finding of NIH raises `DataError`."""
    cells = rows["Finding Labels"].str.strip_chars().replace("", None)
    found = cells.str.split("|").list.eval(pl.element().str.strip_chars()).alias("found")
    unknown = mapping.unknown(found)
    if unknown:
        first = next(iter(unknown))
        row = int(found.list.contains(first).fill_null(False).arg_true()[0])
        raise DataError(
            f"table {path}: row {row + 1} has {cells[row]!r} in 'Finding Labels': "
            + unknown_name("finding", first, mapping.findings)
        )
    return found


def _origin(label: str, findings: tuple[str, ...]) -> str:
    if findings == (label,):
        return _MINED
    # two spellings of one finding are told once
    names = dict.fromkeys(finding.replace("_", " ") for finding in findings)
    return f"{_MINED}: {' or '.join(names)} -> {label}"
