"""IU-Xray as a data set: the chest radiographs and reports of Indiana University that NLM's Open-i publishes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar

import polars as pl
from pydantic import Field, PrivateAttr

from radlens.core.cohort import Cohort, LeftOut, make_cohort
from radlens.core.errors import DataError
from radlens.core.parts import Dataset, Progress, unheard
from radlens.core.registry import register
from radlens.core.reports import Reports, make_reports
from radlens.core.vocabulary import load_vocabulary
from radlens.data.archive_members import is_archive
from radlens.data.archives import extract_once
from radlens.data.cards import load_card
from radlens.data.iu_xray_images import ImageFiles, find_images, image_key
from radlens.data.iu_xray_reports import INSTALLED, installed_file, read_iu_xray_reports
from radlens.data.iu_xray_views import read_view_positions, views_of_study

_NAME = "iu-xray"


@register("datasets", "iu-xray")
class IuXray(Dataset):
    """IU-Xray, as NLM ships it: XML reports beside PNG or DICOM images, labelled from the reports.

    images: folder (searched through) or .tgz of the images; a .tgz is unpacked once, into the cache. reports: the .tgz,
    a folder of XML files, or `torchxrayvision` (default: what lies in that package). metadata: the table of DICOM
    headers, `nlmcxr_dicom_metadata.csv.gz`, for the views (default: torchxrayvision's, where that is installed).
    only_present: leave out images that have no file, and count them, instead of asking for all 7,470.
    """

    images: str
    reports_from: str = Field(INSTALLED, alias="reports")
    metadata: str | None = None
    only_present: bool = False
    default_labeler: ClassVar[str | None] = "mesh"
    _parsed: list[Reports] = PrivateAttr(default_factory=list)

    def load(self, folder: Path, work: Path, progress: Progress = unheard) -> Cohort:
        """Read the reports, find their images, and tell frontal from lateral; labels are still to come.

        Columns beside a cohort's: `view` is `frontal`, `lateral` or null, with `view_source` (`views_of_study`) and
        `view_position` (what the DICOM header says), and `caption`.
        """
        vocabulary = load_vocabulary(self.vocabulary, folder)
        reports = read_iu_xray_reports(self.reports_from, folder)
        self._parsed[:] = [reports]
        metadata = folder / Path(self.metadata).expanduser() if self.metadata else None
        metadata = metadata or installed_file("nlmcxr_dicom_metadata.csv.gz")
        place = folder / Path(self.images).expanduser()
        root = extract_once(place, work, progress) if place.is_file() and is_archive(place) else place
        files = find_images(root)
        table = _image_rows(reports, read_view_positions(metadata) if metadata else {}, files, root)
        left_out = [*reports.left_out, *_strangers(table, files, root)]
        imageless = reports.table.filter(pl.col("image_ids").list.len() == 0)["study_id"].to_list()
        if imageless:
            left_out.append(LeftOut.of("reports without an image", imageless))
        present = table["present"]
        if not present.any():
            raise DataError(_nothing_fits(place, files, table.height))
        if self.only_present:
            absent = table.filter(~present)["image_id"].to_list()
            left_out += [LeftOut.of("images without a file", absent)] if absent else []
            table = table.filter(present)
        table = table.drop("present")
        source = _source(table, reports) | {"images": str(place), "metadata": str(metadata) if metadata else None}
        notes = [*reports.notes, *_differences(source["counts"]), *_view_notes(table, metadata)]
        return make_cohort(_NAME, table, vocabulary, source=source, notes=notes, left_out=left_out, labelled=False)

    def reports(self, cohort: Cohort) -> Reports:
        """The reports of the cohort's studies, with their codes, as `load` has read them."""
        if not self._parsed:
            raise DataError("iu-xray: its reports are read by load(), which has not been called.")
        parsed = self._parsed[0]
        wanted = parsed.table.filter(pl.col("study_id").is_in(cohort.table["study_id"].drop_nulls().unique().implode()))
        return make_reports(parsed.name, wanted, source=parsed.source, notes=parsed.notes, left_out=parsed.left_out)


def _image_rows(reports: Reports, positions: dict[str, str | None], files: ImageFiles, root: Path) -> pl.DataFrame:
    rows: list[dict[str, Any]] = []
    for study, text in zip(reports.table.iter_rows(named=True), reports.text(), strict=True):
        ids, captions = study["image_ids"], study["captions"]
        keys = [image_key(name) or name for name in ids]
        written = [positions.get(key) for key in keys]
        views = views_of_study(written, next(filter(None, captions), ""))
        for name, key, position, caption, (view, said_by) in zip(ids, keys, written, captions, views, strict=True):
            rows.append(
                {
                    "image_id": name,
                    "path": files.by_key.get(key, str(root / f"{name}.png")),
                    "patient_id": study["patient_id"],
                    "study_id": study["study_id"],
                    "view": view,
                    "report": text,
                    "view_source": said_by,
                    "view_position": position,
                    "caption": caption or None,
                    "present": key in files.by_key,
                }
            )
    schema = dict.fromkeys(
        ("image_id", "path", "patient_id", "study_id", "view", "report", "view_source", "view_position", "caption"),
        pl.String(),
    )
    return pl.DataFrame(rows, schema | {"present": pl.Boolean()})


def _source(table: pl.DataFrame, reports: Reports) -> dict[str, Any]:
    card = load_card(_NAME)
    counts = {
        "images": table.height,
        "patients": table["patient_id"].n_unique(),
        "studies": table["study_id"].n_unique(),
        "reports": len(reports),
    }
    about = {"dataset": _NAME, "title": card.title, "licence": card.licence, "citation": card.citation}
    return about | dict(reports.source) | {"counts": counts}


def _strangers(table: pl.DataFrame, files: ImageFiles, root: Path) -> list[LeftOut]:
    known = set(table["path"].to_list())
    unknown = [path for path in files.by_key.values() if path not in known]
    items = sorted(os.path.relpath(path, root) for path in (*unknown, *files.strangers))
    return [LeftOut.of("image files that no report mentions", items)] if items else []


def _nothing_fits(place: Path, files: ImageFiles, expected: int) -> str:
    there = [*files.by_key.values(), *files.strangers]
    found = f"found {len(there)} image files such as {Path(there[0]).name}" if there else "found no image file"
    return (
        f"images {place}: expected files named like the {expected} images of the reports, such as "
        f"CXR1_1_IM-0001-3001.png; {found}; name the folder or .tgz of IU-Xray's images."
    )


def _differences(counts: dict[str, int]) -> list[str]:
    expected = load_card(_NAME).expected.model_dump(exclude_none=True)
    differing = [f"{counts[what]:,} of {n:,} {what}" for what, n in expected.items() if counts[what] != n]
    if not differing:
        return []
    return [f"This is a part of IU-Xray, so that figures published on the whole do not apply: {', '.join(differing)}."]


def _view_notes(table: pl.DataFrame, metadata: Path | None) -> list[str]:
    unknown = table["view"].null_count()
    how = "the DICOM headers, captions and order" if metadata else "captions and order (no metadata table was given)"
    wrong = 5 if metadata else 12
    return [
        f"Views are told from {how} of the images, not from pixels: of the studies' first images {wrong} in 100 "
        f"are wrong, and {unknown} of {table.height} images have no view.",
        "IU-Xray names every study a patient of its own: whether a person came twice cannot be told.",
    ]
