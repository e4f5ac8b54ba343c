"""PadChest of Hospital San Juan de Alicante: 160,861 radiographs in six views, findings from Spanish reports."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import polars as pl

from radlens.core.cohort import Cohort, LeftOut, make_cohort
from radlens.core.mapping import FindingMapping, load_mapping
from radlens.core.parts import Dataset, Progress, unheard
from radlens.core.registry import register
from radlens.core.vocabulary import load_vocabulary
from radlens.data import release
from radlens.data.expected_counts import count_notes
from radlens.data.image_paths import image_paths

_NAME = "padchest"
_TABLE = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"
_COLUMNS = (
    "ImageID",
    "ImageDir",
    "StudyDate_DICOM",
    "StudyID",
    "PatientID",
    "PatientBirth",
    "PatientSex_DICOM",
    "Projection",
    "Pediatric",
    "Report",
    "MethodLabel",
    "Labels",
)
Projection = Literal["PA", "L", "AP", "AP_horizontal", "COSTAL", "EXCLUDE", "UNK"]
_VIEWS = {"PA": "PA", "L": "lateral", "AP": "AP", "AP_horizontal": "AP"}
_ORIGIN = "findings of the report in PadChest (27% of reports by physicians, the others by a recurrent network), mapped"

# Remarks on a report that does not tell all: what it names is there, what it does not name is not known to be absent.
_REMARKS = ("unchanged", "suboptimal study", "exclude")
# A list as Python writes it: quoted texts, nothing else. It is taken apart by this pattern and never evaluated.
_TEXT = r"'[^']*'|\"[^\"]*\""
_LIST = rf"^\s*\[\s*(?:(?:{_TEXT})\s*(?:,\s*(?:{_TEXT})\s*)*)?\]\s*$"


@register("datasets", "padchest")
class PadChest(Dataset):
    """PadChest: radiographs in six views with findings from Spanish reports; it has no official split.

    root: the folder of the release, which the other paths start from. table: default
    PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv (or .gz). images: the folder whose tree holds the images, each
    once (default: root, so the numbered folders 0 to 54 and one folder both do). projections: which to keep (default
    PA, L, AP, AP_horizontal; films of ribs, COSTAL, and EXCLUDE and UNK are left out and counted). physician_only: keep
    only images whose labels a physician wrote. only_present: keep only images that have a file.

    A report says nothing of what it does not name when it is marked `unchanged` (against an earlier film), `suboptimal
    study` or `exclude` without being `normal`: the findings that it names are 1, all else is null. A report without any
    label is null throughout. "No Finding" is 1 for `normal` with no finding beside it but devices.
    """

    root: str = "."
    table: str | None = None
    images: str | None = None
    projections: tuple[Projection, ...] = ("PA", "L", "AP", "AP_horizontal")
    physician_only: bool = False
    only_present: bool = False

    def load(self, folder: Path, work: Path, progress: Progress = unheard) -> Cohort:
        """Read the table, and list the image folder where it exists; no image is opened."""
        root = folder / self.root
        vocabulary = load_vocabulary(self.vocabulary, folder)
        mapping = load_mapping(_NAME)
        labels = release.vocabulary_labels(vocabulary, mapping.assesses, "PadChest")
        path = release.require_file(root, self.table, (_TABLE,), "table")
        # pandas wrote an empty cell as "nan"
        rows = release.read_released(path, _COLUMNS).select(
            pl.col(name).str.strip_chars().replace(["nan", ""], None) for name in _COLUMNS
        )
        release.refuse_blank_or_twice(rows, path, "ImageID")
        notes = count_notes(_NAME, {"images": rows.height, "patients": rows["PatientID"].drop_nulls().n_unique()})
        listed = rows.height
        rows, left_out = self._kept(rows)
        found = _labelled(rows["Labels"], mapping, notes)
        born, taken = _year(rows["PatientBirth"]), _year(rows["StudyDate_DICOM"])
        age, odd = release.ages((taken - born).cast(pl.String))
        images = root / self.images if self.images is not None else root
        paths, missing = image_paths(
            rows["ImageID"].str.replace(r"\.[^.]*$", ""),
            rows.select(pl.concat_str([pl.col("ImageDir"), "ImageID"], separator="/", ignore_nulls=True))["ImageDir"],
            images,
        )
        table = rows.select(
            pl.col("ImageID").alias("image_id"),
            paths,
            pl.col("PatientID").alias("patient_id"),
            pl.col("StudyID").alias("study_id"),
            pl.col("Projection").replace_strict(_VIEWS, default=None, return_dtype=pl.String).alias("view"),
            pl.col("Report").alias("report"),
            pl.col("Projection").alias("projection"),
            age,
            release.sexes(rows["PatientSex_DICOM"]),
            (pl.col("Pediatric") == "PED").alias("paediatric"),
            pl.col("MethodLabel").alias("label_method"),
            pl.col("Labels").alias("padchest_findings"),
            *(found[label] for label in labels),
        )
        if self.only_present:
            table, absent = release.keep_present(table, missing, images)
            left_out += absent
        return make_cohort(
            _NAME,
            table,
            vocabulary,
            source=release.described(_NAME, path) | {"rows": listed, "images": str(images)},
            notes=[*notes, *odd],
            origins=release.origins(vocabulary, dict.fromkeys(labels, _ORIGIN), "PadChest"),
            left_out=left_out,
        )

    def _kept(self, rows: pl.DataFrame) -> tuple[pl.DataFrame, list[LeftOut]]:
        left_out = []
        others = rows.filter(~pl.col("Projection").is_in(self.projections).fill_null(False))
        for (projection,), group in others.group_by("Projection", maintain_order=True):
            what = f"images of projection {projection or 'unknown'}"
            left_out.append(LeftOut.of(what, group["ImageID"].to_list()))
        rows = rows.filter(pl.col("Projection").is_in(self.projections))
        if self.physician_only:
            by_network = (pl.col("MethodLabel") != "Physician").fill_null(True)
            left_out.append(
                LeftOut.of("images not labelled by a physician", rows.filter(by_network)["ImageID"].to_list())
            )
            rows = rows.filter(~by_network)
        return rows, left_out


def _year(cells: pl.Series) -> pl.Series:
    """The first four digits of 20140915 or 1930.0; null where there are none."""
    return cells.str.extract(r"^(\d{4})").cast(pl.Int32)


def _labelled(cells: pl.Series, mapping: FindingMapping, notes: list[str]) -> pl.DataFrame:
    """(N, labels) Int8 from cells such as ['pneumonia', ' nodule']; each text is worked out once. Adds notes."""
    each = cells.to_frame("cell").unique(maintain_order=True).filter(pl.col("cell").is_not_null())
    texts = pl.col("cell").str.extract_all(_TEXT).list.eval(pl.element().str.slice(1, pl.element().str.len_chars() - 2))
    names = texts.list.eval(pl.element().str.strip_chars()).list.eval(pl.element().filter(pl.element() != ""))
    is_list = pl.col("cell").str.contains(_LIST)
    each = each.with_columns(
        is_list.alias("is_list"), pl.when(is_list & (names.list.len() > 0)).then(names).alias("found")
    )
    found = pl.col("found")

    device = [name for name, labels in mapping.findings.items() if set(labels) == {"Support Devices"}]
    normal = found.list.contains("normal")
    abnormal = found.list.eval(~pl.element().is_in(["normal", *_REMARKS, *device])).list.any()
    partial = found.list.eval(pl.element().is_in(list(_REMARKS))).list.any() & ~normal
    each = each.with_columns(
        *mapping.columns(found),
        normal.alias("normal"),
        abnormal.alias("abnormal"),
        partial.alias("partial"),
    )
    unnamed = [
        pl.when(pl.col("partial") & (pl.col(label) == 0)).then(None).otherwise(pl.col(label)).alias(label)
        for label in mapping.assesses
        if label != "No Finding"
    ]
    nothing = (
        pl.when(pl.col("abnormal"))
        .then(0)
        .when(pl.col("normal"))
        .then(1)
        .when(pl.col("partial"))
        .then(None)
        .otherwise(0)
    )
    nothing = pl.when(pl.col("found").is_not_null()).then(nothing).cast(pl.Int8).alias("No Finding")
    each = each.with_columns(*unnamed, nothing)
    rows = cells.to_frame("cell").join(each, on="cell", how="left", maintain_order="left")
    notes.extend(_notes(rows, mapping))
    return rows.select(mapping.assesses)


def _notes(rows: pl.DataFrame, mapping: FindingMapping) -> list[str]:
    """What a reader of the report must know of the labels; rows as `_labelled` makes them."""
    notes = []
    broken = (~rows["is_list"]).fill_null(False)
    if broken.any():
        row = int(broken.arg_true()[0])
        notes.append(f"{int(broken.sum())} Labels cells are no list of texts, such as {rows['cell'][row]!r}: null.")
    silent = int(rows["found"].is_null().sum()) - int(broken.sum())
    if silent:
        notes.append(f"{silent} images have a report from which no label was taken: null.")
    if partial := int(rows["partial"].sum()):
        notes.append(
            f"{partial} images have a report marked unchanged, suboptimal study or exclude: the rest is null there."
        )
    if contradictory := int((rows["normal"] & rows["abnormal"]).sum()):
        notes.append(f'{contradictory} images are called normal beside a finding: "No Finding" is 0 there.')
    unknown = mapping.unknown(rows["found"])
    if unknown:
        listed = ", ".join(f"{name} ({count})" for name, count in list(unknown.items())[:5])
        notes.append(f"{len(unknown)} findings are not in the mapping and set no label: {listed}.")
    return notes
