"""MIMIC-CXR-JPG of the Beth Israel Deaconess Medical Center: 377,110 radiographs, labelled from their reports."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import polars as pl

from radlens.core.cohort import Cohort, LeftOut, Uncertain, make_cohort
from radlens.core.errors import DataError
from radlens.core.parts import Dataset, Progress, unheard
from radlens.core.registry import register
from radlens.core.reports import SECTIONS, Reports, Unmentioned, make_reports, reports_of
from radlens.core.vocabulary import load_vocabulary
from radlens.data import release
from radlens.data.chexpert_labels import LABELS, resolve_unmentioned
from radlens.data.expected_counts import count_notes
from radlens.data.presence import missing_images
from radlens.data.report_sections import split_sections

_NAME = "mimic-cxr-jpg"
_PREFIX = "mimic-cxr-2.0.0-"
_SPLIT = {"train": "train", "validate": "val", "test": "test"}
_LABELERS = {"chexpert": "CheXpert labeler", "negbio": "NegBio"}
_READERS = 8


@register("datasets", "mimic-cxr-jpg")
class MimicCxrJpg(Dataset):
    """MIMIC-CXR-JPG in its released layout, with its official split and, where they are there, its reports.

    root: the folder of the release, which the other paths start from. labels: whose labels to read. label_table,
    metadata_table, split_table: default mimic-cxr-2.0.0-chexpert.csv.gz (or -negbio), -metadata.csv.gz and
    -split.csv.gz where it is there (each also without .gz). images: the folder that holds p10 to p19. reports_folder:
    the texts of MIMIC-CXR (mimic-cxr-reports), the folder that holds p10 to p19 or holds `files` with them. uncertain:
    what -1 becomes. unmentioned: what a blank becomes; `ignore` leaves it null. only_present: keep only images that
    have a file, and count the others.
    """

    root: str = "."
    labels: Literal["chexpert", "negbio"] = "chexpert"
    label_table: str | None = None
    metadata_table: str | None = None
    split_table: str | None = None
    images: str = "files"
    reports_folder: str | None = None
    uncertain: Uncertain = "ignore"
    unmentioned: Unmentioned = "negative"
    only_present: bool = False

    def load(self, folder: Path, work: Path, progress: Progress = unheard) -> Cohort:
        """Read the tables, and the texts where their folder is named; images are sought only with `only_present`."""
        root = folder / self.root
        vocabulary = load_vocabulary(self.vocabulary, folder)
        wanted = release.vocabulary_labels(vocabulary, LABELS, "MIMIC-CXR-JPG")
        metadata, label_path, split_path = self._files(root)
        table = _images(metadata, root / self.images)
        rows = table.height
        notes = count_notes(_NAME, {"images": rows, "patients": table["patient_id"].n_unique()})
        table, left_out = _with_labels(table, label_path)
        if split_path is None:
            notes.append(f"the official split is not known: {_PREFIX}split.csv.gz is not there.")
        else:
            table, more, unlisted = _with_split(table, split_path)
            notes, left_out = notes + more, left_out + unlisted
        if self.only_present:
            missing = pl.Series(missing_images(Cohort(_NAME, table, vocabulary)))
            table, absent = release.keep_present(table, missing, root / self.images)
            left_out += absent
        if self.reports_folder is not None:
            table, without = _with_reports(table, root / self.reports_folder, progress)
            left_out += without
        table, more = resolve_unmentioned(table, self.unmentioned)
        origin = f"{_LABELERS[self.labels]} on the report (its impression, else its findings)"
        paths = [metadata, label_path, *([split_path] if split_path is not None else [])]
        return make_cohort(
            _NAME,
            table.drop(name for name in LABELS if name not in wanted),
            vocabulary,
            uncertain=self.uncertain,
            source=release.described(_NAME, *paths) | {"rows": rows},
            notes=notes + more,
            origins=release.origins(vocabulary, dict.fromkeys(wanted, origin), "MIMIC-CXR-JPG"),
            left_out=left_out,
        )

    def reports(self, cohort: Cohort) -> Reports:
        """The texts, divided into indication, comparison, findings and impression."""
        whole = reports_of(cohort)
        divided = [split_sections(text or "") for text in whole.table["report"].to_list()]
        sections = [pl.Series(name, [part.get(name) for part in divided], pl.String) for name in SECTIONS]
        return make_reports(whole.name, whole.table.with_columns(sections), source=whole.source)

    def _files(self, root: Path) -> tuple[Path, Path, Path | None]:
        metadata = release.require_file(root, self.metadata_table, (f"{_PREFIX}metadata.csv.gz",), "metadata_table")
        labels = release.require_file(root, self.label_table, (f"{_PREFIX}{self.labels}.csv.gz",), "label_table")
        return metadata, labels, release.find_file(root, self.split_table, (f"{_PREFIX}split.csv.gz",), "split_table")


def _images(path: Path, images: Path) -> pl.DataFrame:
    rows = release.read_released(path, ("dicom_id", "subject_id", "study_id", "ViewPosition"))
    rows = rows.with_columns(pl.col("dicom_id", "subject_id", "study_id").str.strip_chars())
    release.refuse_blank_or_twice(rows, path, "dicom_id")
    for column in ("subject_id", "study_id"):
        release.refuse_strange(rows, path, column, r"^\d{8}$", "eight digits")
    patient, study = pl.col("subject_id"), pl.col("study_id")
    return rows.select(
        pl.col("dicom_id").alias("image_id"),
        pl.format(f"{images}/p{{}}/p{{}}/s{{}}/{{}}.jpg", patient.str.slice(0, 2), patient, study, "dicom_id").alias(
            "path"
        ),
        patient.alias("patient_id"),
        study,
        pl.col("ViewPosition").str.strip_chars().str.to_uppercase().replace("", None).alias("view"),
    )


def _with_labels(table: pl.DataFrame, path: Path) -> tuple[pl.DataFrame, list[LeftOut]]:
    rows = release.read_released(path, ("study_id", *LABELS))
    release.refuse_blank_or_twice(rows, path, "study_id")
    labels = pl.DataFrame([rows["study_id"].str.strip_chars(), *release.label_cells(rows, path, LABELS)])
    strange = labels.join(table, on="study_id", how="anti")["study_id"].to_list()
    left_out = [LeftOut.of("labelled studies without an image in the metadata", strange)] if strange else []
    return table.join(labels, on="study_id", how="left", maintain_order="left"), left_out


def _with_split(table: pl.DataFrame, path: Path) -> tuple[pl.DataFrame, list[str], list[LeftOut]]:
    rows = release.read_released(path, ("dicom_id", "split"))
    rows = rows.select(pl.col("dicom_id").str.strip_chars(), pl.col("split").str.strip_chars())
    release.refuse_blank_or_twice(rows, path, "dicom_id")
    release.refuse_strange(rows, path, "split", f"^({'|'.join(_SPLIT)})$", "train, validate or test")
    stated = rows.select(pl.col("dicom_id").alias("image_id"), pl.col("split").replace_strict(_SPLIT))
    table = table.join(stated, on="image_id", how="left", maintain_order="left")
    release.refuse_torn_patients(table, str(path))
    unlisted = table["split"].null_count()
    notes = [f"{unlisted} of {table.height} images stand in no part of the official split."] if unlisted else []
    strange = stated.join(table, on="image_id", how="anti")["image_id"].to_list()
    return (
        table,
        notes,
        [LeftOut.of("images of the split table without a row in the metadata", strange)] if strange else [],
    )


def _with_reports(table: pl.DataFrame, folder: Path, progress: Progress) -> tuple[pl.DataFrame, list[LeftOut]]:
    """`report` of each image from p10/p10000032/s50414267.txt below `folder`, or below its `files`."""
    if not folder.is_dir():
        raise DataError(f"reports folder {folder} does not exist; name it with `reports_folder:`.")
    base = folder / "files" if (folder / "files").is_dir() else folder
    studies = table.select("patient_id", "study_id").unique(maintain_order=True)
    names = studies.select(
        pl.format("p{}/p{}/s{}.txt", pl.col("patient_id").str.slice(0, 2), "patient_id", "study_id")
    ).to_series()
    texts: list[str | None] = []
    # reading waits for the disk
    with ThreadPoolExecutor(_READERS) as pool:
        for text in pool.map(lambda name: _text(base / name), names):
            texts.append(text)
            if len(texts) % 1000 == 0 or len(texts) == len(names):
                progress(len(texts), len(names))
    report = studies.with_columns(pl.Series("report", texts, pl.String))
    absent = report.filter(pl.col("report").is_null())["study_id"].to_list()
    if len(absent) == len(names):
        raise DataError(f"reports folder {base} holds none of {len(names)} reports (such as {names[0]}).")
    table = table.join(report, on=["patient_id", "study_id"], how="left", maintain_order="left")
    return table, [LeftOut.of("studies without a report file", absent)] if absent else []


def _text(path: Path) -> str | None:
    try:
        # a few characters of another encoding are no reason to lose a report
        return path.read_text("utf-8", errors="replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"report {path} cannot be read: {error.strerror}.") from error
