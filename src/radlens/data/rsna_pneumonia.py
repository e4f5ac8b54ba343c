"""The RSNA Pneumonia Detection Challenge of 2018: 26,684 films of ChestX-ray14, read again by radiologists."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

import polars as pl

from radlens.core.cohort import Cohort, LeftOut, Uncertain, make_cohort
from radlens.core.errors import DataError
from radlens.core.mapping import load_mapping
from radlens.core.parts import Dataset, Progress, unheard
from radlens.core.regions import Annotations
from radlens.core.registry import register
from radlens.core.vocabulary import load_vocabulary
from radlens.data import release
from radlens.data.expected_counts import count_notes
from radlens.data.image_paths import image_paths
from radlens.data.released_boxes import box_numbers, to_regions
from radlens.data.zipped_table import read_zipped

_NAME = "rsna-pneumonia"
_BOX = ("x", "y", "width", "height")
_DRAWN_AT = 1024
_OPACITY, _OTHER, _NORMAL = "Lung Opacity", "No Lung Opacity / Not Normal", "Normal"
_SUSPECTED = {"ones": 1, "zeros": 0, "ignore": None}
_TABLES = ("stage_2_train_labels.csv", "stage_2_train_labels.csv.zip", "kaggle_stage_2_train_labels.csv.zip")
_CLASSES = ("stage_2_detailed_class_info.csv", "stage_2_detailed_class_info.csv.zip")
_HEADERS = ("kaggle_stage_2_train_images_dicom_headers.csv",)
_MAPPINGS = ("pneumonia-challenge-dataset-mappings_2018.json",)


@register("datasets", "rsna-pneumonia")
class RsnaPneumonia(Dataset):
    """The RSNA Pneumonia Detection Challenge: films of ChestX-ray14 with radiologists' boxes of lung opacities.

    root: the folder of the release, which the other paths start from. table: default stage_2_train_labels.csv (also
    .zip, .gz). classes: default stage_2_detailed_class_info.csv where it is there; without it "No Finding" is null.
    headers: a table of the films' DICOM headers with PatientID, ViewPosition, PatientAge and PatientSex (default
    kaggle_stage_2_train_images_dicom_headers.csv where it is there). patients: RSNA's table of which film is which of
    ChestX-ray14 (default pneumonia-challenge-dataset-mappings_2018.json where it is there): the challenge's own
    `patientId` names an image, so that without this file no patient is known. images: the folder whose tree holds the
    images, each once (default: root, with stage_2_train_images/). suspected: what `Pneumonia` is for a film with an
    opacity that raises a suspicion of it: `ones` as the challenge has it, `zeros`, or `ignore` (null); a film without
    one is 0. only_present: keep only images that have a file. There is no official split: the test set has no labels.
    """

    root: str = "."
    table: str | None = None
    classes: str | None = None
    headers: str | None = None
    patients: str | None = None
    images: str | None = None
    suspected: Uncertain = "ones"
    only_present: bool = False

    def load(self, folder: Path, work: Path, progress: Progress = unheard) -> Cohort:
        """Read the tables, and list the image folder where it exists; no image is opened."""
        root = folder / self.root
        vocabulary = load_vocabulary(self.vocabulary, folder)
        mapping = load_mapping(_NAME)
        path = release.require_file(root, self.table, _TABLES, "table")
        rows = read_zipped(path, ("patientId", "Target", *_BOX)).with_columns(pl.col("patientId").str.strip_chars())
        _refuse_blank(rows, path, "patientId")
        table = _targets(rows, path)
        notes = count_notes(_NAME, {"images": table.height})
        notes.append("the films are part of NIH ChestX-ray14: a model that learned from those has seen these.")
        files = {
            "classes": release.find_file(root, self.classes, _CLASSES, "classes"),
            "headers": release.find_file(root, self.headers, _HEADERS, "headers"),
            "patients": release.find_file(root, self.patients, _MAPPINGS, "patients"),
        }
        table = _with_classes(table, files["classes"], path)
        table = _with_headers(table, files["headers"], notes)
        table = _with_patients(table, files["patients"], notes)
        suspected = pl.lit(_SUSPECTED[self.suspected], pl.Int8)
        opacity = pl.col("target")
        found = pl.when(opacity == 1).then(pl.lit(_OPACITY)).otherwise(pl.col("class"))
        read = found.is_in([_NORMAL, _OTHER, _OPACITY])
        # without the classes it would be 0 or null: a label that has one value is not assessed
        normal = pl.when(read & pl.lit(files["classes"] is not None)).then((found == _NORMAL).cast(pl.Int8))
        assessed = [x for x in mapping.assesses if x != "No Finding" or files["classes"] is not None]
        labels = release.vocabulary_labels(vocabulary, assessed, "the RSNA challenge")
        table = table.with_columns(
            opacity.alias("Lung Opacity"),
            pl.when(opacity == 1).then(suspected).otherwise(opacity).alias("Pneumonia"),
            normal.alias("No Finding"),
        )
        images = root / self.images if self.images is not None else root
        released = table.select(pl.format("stage_2_train_images/{}.dcm", "image_id").alias("path"))["path"]
        paths, missing = image_paths(table["image_id"], released, images)
        further = [name for name in ("patient_id", "view", "age", "sex", "nih_image") if name in table.columns]
        table = table.select("image_id", paths, *further, pl.col("class").alias("rsna_class"), *labels)
        left_out: list[LeftOut] = []
        if self.only_present:
            table, left_out = release.keep_present(table, missing, images)
        used = [file for file in files.values() if file is not None]
        return make_cohort(
            _NAME,
            table,
            vocabulary,
            source=release.described(_NAME, path, *used)
            | {"rows": rows.height, "images": str(images), "suspected": self.suspected, "boxes": str(path)},
            notes=notes,
            origins=release.origins(vocabulary, {x: _origin(x, self.suspected) for x in labels}, "these RSNA tables"),
            left_out=left_out,
        )

    def annotations(self, cohort: Cohort, image_ids: Collection[str]) -> Annotations | None:
        """The boxes on these images, in pixels of the images at hand; for Pneumonia too where it is 1.

        Boxes were drawn at 1024 x 1024 pixels, and agreed on by the readers, who are not named.
        """
        path = Path(str(cohort.source["boxes"]))
        rows = read_zipped(path, ("patientId", *_BOX))
        numbers = box_numbers(rows, path, _BOX, ("width", "height"))
        named = rows.select(
            pl.col("patientId").str.strip_chars().alias("image_id"),
            pl.lit(_OPACITY).alias("finding"),
            pl.lit("radiologists").alias("reader"),
        )
        boxes = pl.concat([named, numbers], how="horizontal").drop_nulls("x")
        return to_regions(boxes, str(path), cohort, image_ids, load_mapping(_NAME).findings, _DRAWN_AT)


def _origin(label: str, suspected: str) -> str:
    if label == "Pneumonia":
        means = {"ones": "counted as present", "zeros": "counted as absent", "ignore": "null"}[suspected]
        return f"radiologists on the films: an opacity that raises a suspicion of pneumonia, {means}; not confirmed"
    return {
        "Lung Opacity": "radiologists on the films: an opacity that raises a suspicion of pneumonia",
        "No Finding": "radiologists on the films: class Normal of the detailed classes",
    }[label]


def _targets(rows: pl.DataFrame, path: Path) -> pl.DataFrame:
    """One row an image: `image_id`, `target`."""
    target = release.label_cells(rows, path, ("Target",))[0]
    wrong = (target == -1).fill_null(False)
    if wrong.any():
        raise DataError(f"table {path}: row {int(wrong.arg_true()[0]) + 1} has -1 for 'Target'; expected 1 or 0.")
    each = pl.DataFrame([rows["patientId"].alias("image_id"), target.alias("target")]).unique(maintain_order=True)
    twice = each.filter(pl.col("image_id").is_duplicated())
    if twice.height:
        raise DataError(
            f"table {path}: image {twice['image_id'][0]} has Target 1 in one row and 0 or blank in another."
        )
    return each


def _with_classes(table: pl.DataFrame, path: Path | None, labels: Path) -> pl.DataFrame:
    if path is None:
        return table.with_columns(pl.lit(None, pl.String).alias("class"))
    rows = read_zipped(path, ("patientId", "class"))
    rows = rows.select(pl.col("patientId", "class").str.strip_chars()).rename({"patientId": "image_id"})
    strange = ~rows["class"].is_in([_NORMAL, _OTHER, _OPACITY]).fill_null(False)
    if strange.any():
        row = int(strange.arg_true()[0])
        known = ", ".join((_NORMAL, _OTHER, _OPACITY))
        raise DataError(f"table {path}: row {row + 1} has class {rows['class'][row]!r}; expected one of {known}.")
    each = rows.unique(maintain_order=True)
    twice = each.filter(pl.col("image_id").is_duplicated())
    if twice.height:
        raise DataError(f"table {path}: image {twice['image_id'][0]} has two classes; keep one.")
    joined = table.join(each, on="image_id", how="left", maintain_order="left")
    torn = joined.filter((pl.col("class") == _OPACITY) != (pl.col("target") == 1))
    if torn.height:
        image, target, word = torn.row(0)
        raise DataError(f"image {image} has Target {target} in {labels} and class {word!r} in {path}.")
    return joined


def _with_headers(table: pl.DataFrame, path: Path | None, notes: list[str]) -> pl.DataFrame:
    if path is None:
        notes.append("views, ages and sexes are not known: there is no table of DICOM headers.")
        return table
    rows = release.read_released(path, ("PatientID", "ViewPosition", "PatientAge", "PatientSex"))
    release.refuse_blank_or_twice(rows, path, "PatientID")
    age, odd = release.ages(rows["PatientAge"])
    notes.extend(odd)
    known = rows.select(
        pl.col("PatientID").str.strip_chars().alias("image_id"),
        pl.col("ViewPosition").str.strip_chars().str.to_uppercase().replace("", None).alias("view"),
        age,
        release.sexes(rows["PatientSex"]),
    )
    return table.join(known, on="image_id", how="left", maintain_order="left")


def _with_patients(table: pl.DataFrame, path: Path | None, notes: list[str]) -> pl.DataFrame:
    if path is None:
        notes.append(
            f"the challenge's patientId names an image, and several are of one patient: put {_MAPPINGS[0]} beside the "
            "table to know patients."
        )
        return table
    try:
        entries = json.loads(path.read_text("utf-8"))
        pairs = [(str(entry["subset_img_id"]), str(entry["img_id"])) for entry in entries]
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise DataError(
            f"{path}: expected a JSON list of entries with subset_img_id and img_id, found something else ({reason})."
        ) from error
    known = pl.DataFrame(pairs, {"image_id": pl.String, "nih_image": pl.String}, orient="row").unique(
        maintain_order=True
    )
    twice = known.filter(pl.col("image_id").is_duplicated())
    if twice.height:
        raise DataError(f"{path}: image {twice['image_id'][0]} is said to be two images of ChestX-ray14.")
    # 00000013_005.png is an image of patient 13, as ChestX-ray14's own table writes it
    patient = pl.col("nih_image").str.extract(r"^0*(\d+)_").alias("patient_id")
    return table.join(known.with_columns(patient), on="image_id", how="left", maintain_order="left")


def _refuse_blank(rows: pl.DataFrame, path: Path, column: str) -> None:
    blank = (rows[column] == "").fill_null(True)
    if blank.any():
        raise DataError(f"table {path}: row {int(blank.arg_true()[0]) + 1} has no {column!r}.")
