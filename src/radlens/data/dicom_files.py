"""Any folder of DICOM radiographs, as an archive exports it: patients and studies by pseudonyms from the headers."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import Field, model_validator

from radlens.core.cohort import Cohort, LeftOut, Uncertain, make_cohort
from radlens.core.errors import DataError, SpecError, unknown_name
from radlens.core.parts import Dataset, Progress, unheard
from radlens.core.registry import register
from radlens.core.store import file_digest
from radlens.core.vocabulary import Vocabulary, load_vocabulary
from radlens.data.dicom_header import NO_IMAGE, NOT_DICOM, OLDEST, UNREADABLE, Header
from radlens.data.dicom_index import list_files, read_headers
from radlens.data.dicom_labels import Key, join_labels
from radlens.data.dicom_pseudonyms import Pseudonyms, salt_from_variable, salt_of_cache
from radlens.data.tabular import read_table

# A patient of so many studies, and of more than half of all, is rather a placeholder such as ANONYMOUS.
_MANY_STUDIES = 10
_FILE: dict[str, Any] = {"file": pl.String, **dict.fromkeys(Header._fields, pl.String), "age": pl.Float64} | {
    "chest": pl.Boolean
}


@register("datasets", "dicom")
class DicomFiles(Dataset):
    """A folder or tree of DICOM radiographs, with the labels of a table where there is one.

    images: the folder. modalities: what counts as a radiograph. Every file below the folder is looked at whatever its
    name; what is no radiograph of one frame is left out and counted. Columns: image_id, patient_id, study_id and series
    (salted hashes), view (PA, AP, lateral), laterality, age, sex, modality, manufacturer, device.

    table: labels, a row an image, study or patient. key: what its rows name: `SOPInstanceUID`, `StudyInstanceUID`,
    `AccessionNumber`, `PatientID`, `file` (a path below the folder, or a file name), or a hash that radlens gave
    (`image_id`, `study_id`, `patient_id`). key_column: the column that holds it (default: of the key's own name).
    labels: label of the vocabulary -> column (default: a column of the label's own name). report_column: a report,
    taken as it is written. keep: further columns to keep. uncertain: what -1 becomes. separator: of a CSV.

    salt_variable: the environment variable that holds the secret of the hashes; without it a salt is made once and kept
    in the cache (another cache, other hashes). Names, numbers, birth dates, accession numbers, institutions and
    physicians are kept nowhere; `path` is as the folder has it.
    """

    images: str
    modalities: tuple[str, ...] = Field(("CR", "DX", "DR", "RG"), min_length=1)
    table: str | None = None
    key: Key = "SOPInstanceUID"
    key_column: str | None = None
    labels: dict[str, str] | None = None
    report_column: str | None = None
    keep: tuple[str, ...] = ()
    uncertain: Uncertain = "ignore"
    separator: str | None = None
    salt_variable: str | None = None

    @model_validator(mode="after")
    def _of_a_table(self) -> DicomFiles:
        if self.table is None:
            given = [k for k in ("key_column", "labels", "report_column", "keep", "separator") if getattr(self, k)]
            if given:
                raise ValueError(f"{given[0]} is of no use without `table:`")
        return self

    def load(self, folder: Path, work: Path, progress: Progress = unheard) -> Cohort:
        """Read headers only, each once (`read_headers`); whether the pixels decode is found out when they are needed.

        Raises `DataError` when there is no radiograph, or for the table.
        """
        vocabulary = load_vocabulary(self.vocabulary, folder)
        variable = self.salt_variable
        salt = salt_from_variable(variable) if variable is not None else salt_of_cache(work / "dicom" / "salt")
        names = Pseudonyms(salt)
        images = folder / self.images
        notes: list[str] = []
        files, left_out = self._scan(images, work, names, progress)
        columns = _columns(files, str(images), notes)
        source = {"dataset": "dicom", "images": str(images), "files": sum(item.count for item in left_out) + len(files)}
        source |= {"salt": f"check {names.check}"}
        if self.table is not None:
            path = folder / self.table
            rows = read_table(path, self.separator)
            wanted = self._wanted(path, rows.columns, vocabulary, columns.columns)
            joined = join_labels(files, rows, path, self.key, self.key_column, wanted, vocabulary, names)
            columns = columns.with_columns(joined.labels)
            source |= {"table": str(path), "sha256": file_digest(path)}
            if joined.without:
                notes.append(
                    f"{joined.without} of {files.height} images have no row in {path.name}: no label of theirs."
                )
            if joined.unused:
                numbers = [f"row {row}" for row in joined.unused]
                left_out.append(LeftOut.of(f"rows of {path.name} whose image is not there", numbers))
            if self.report_column is not None:
                notes.append(f"reports of {path.name} stand as written: radlens takes no names out of free text.")
        labelled = any(label in columns.columns for label in vocabulary.names)
        origins = {
            label: f"table {Path(str(self.table)).name}" for label in vocabulary.names if label in columns.columns
        }
        return make_cohort(
            images.name or "dicom",
            columns,
            vocabulary,
            uncertain=self.uncertain,
            source=source,
            notes=notes,
            origins=origins,
            left_out=left_out,
            labelled=labelled,
        )

    def _scan(
        self, images: Path, work: Path, names: Pseudonyms, progress: Progress
    ) -> tuple[pl.DataFrame, list[LeftOut]]:
        """Files that are radiographs, one an image, and what else the folder holds. No path is told: it may name."""
        rows: list[tuple[Any, ...]] = []
        left_out: Counter[str] = Counter()
        others: Counter[str] = Counter()
        seen: set[str] = set()
        wanted = {modality.upper() for modality in self.modalities}
        tree, closed = list_files(images)
        if closed:
            left_out["folders that may not be read"] = closed
        for file, header in read_headers(images, tree, names, work, progress):
            image = header.image or names.of("image", f"file {file.path}")
            if header.left_out in (NOT_DICOM, UNREADABLE, NO_IMAGE):
                left_out[header.left_out] += 1
            elif header.modality not in wanted:
                others[header.modality or "none named"] += 1
            elif header.left_out:
                left_out[header.left_out] += 1
            elif image in seen:
                left_out["files that repeat an image (same SOP Instance UID)"] += 1
            else:
                seen.add(image)
                rows.append((file.path, *header._replace(image=image)))
        found = [LeftOut(what, left_out[what]) for what in sorted(left_out)]
        if others:
            found.append(LeftOut("images of another modality", others.total(), tuple(sorted(others)[:5])))
        if not rows:
            told = ", ".join(f"{item.count} {item.what}" for item in found) or "no file at all"
            raise DataError(
                f"folder {images}: expected DICOM radiographs ({', '.join(sorted(wanted))}), found {told}; correct "
                "`images:` or `modalities:`."
            )
        return pl.DataFrame(rows, schema=_FILE, orient="row"), found

    def _wanted(self, path: Path, there: list[str], vocabulary: Vocabulary, taken: list[str]) -> dict[str, str]:
        """Name in the cohort -> column of the table."""
        for label in self.labels or ():
            if label not in vocabulary.names:
                raise SpecError(f"labels: {unknown_name('label', label, vocabulary.names)}")
        wanted = dict(self.labels) if self.labels is not None else {n: n for n in vocabulary.names if n in there}
        if self.report_column is not None:
            wanted["report"] = self.report_column
        for column in self.keep:
            if column in (*taken, *vocabulary.names, "report", "split"):
                raise SpecError(f"keep: {column!r} is a column that radlens fills itself; rename it in the table.")
            wanted[column] = column
        if not wanted:
            raise DataError(
                f"table {path} has a column for none of the {len(vocabulary)} labels of {vocabulary.name} (such as "
                f"{vocabulary.names[0]!r}); map them with `labels: {{label: column}}`."
            )
        return wanted


def _columns(files: pl.DataFrame, images: str, notes: list[str]) -> pl.DataFrame:
    base = images if images.endswith(os.sep) else f"{images}{os.sep}"
    # without a patient the study is what must not be torn apart
    unnamed = files["patient"].is_null()
    if unnamed.any():
        notes.append(f"{int(unnamed.sum())} images name no patient: each study counts as a patient of its own.")
    studies = files.group_by("patient").agg(pl.col("study").n_unique()).filter(pl.col("patient").is_not_null())
    most = studies.sort("study", descending=True).head(1)
    if (
        most.height
        and studies.height > 1
        and most["study"][0] >= _MANY_STUDIES
        and 2 * most["study"][0] > files["study"].n_unique()
    ):
        notes.append(
            f"patient {most['patient'][0]} has {most['study'][0]} of {files['study'].n_unique()} studies: perhaps a "
            "placeholder that stands for many patients."
        )
    elsewhere = int((~files["chest"]).sum())
    if elsewhere:
        notes.append(f"{elsewhere} images are of another body part than the chest by their header; they are kept.")
    if (files["age"] == OLDEST).any():
        notes.append(f"ages from {OLDEST:g} years on stand as {OLDEST:g}.")
    return files.select(
        pl.col("image").alias("image_id"),
        (pl.lit(base) + pl.col("file")).alias("path"),
        pl.coalesce("patient", pl.lit("study-") + pl.col("study")).alias("patient_id"),
        pl.col("study").alias("study_id"),
        "view",
        "series",
        "laterality",
        "age",
        "sex",
        "modality",
        "manufacturer",
        "device",
    )
