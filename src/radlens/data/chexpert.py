"""CheXpert of Stanford: 223,648 radiographs of 64,740 patients in train and valid, labelled from their reports."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import polars as pl
from pydantic import Field

from radlens.core.cohort import Cohort, LeftOut, Uncertain, make_cohort
from radlens.core.errors import DataError
from radlens.core.parts import Dataset, Progress, unheard
from radlens.core.registry import register
from radlens.core.reports import Unmentioned
from radlens.core.vocabulary import load_vocabulary
from radlens.data import release
from radlens.data.chexpert_labels import LABELS, resolve_unmentioned
from radlens.data.expected_counts import count_notes
from radlens.data.presence import missing_images

_NAME = "chexpert"
Table = Literal["train", "valid", "test"]
_SPLIT: dict[Table, str] = {"train": "train", "valid": "val", "test": "test"}
_ORIGIN: dict[Table, str] = {
    "train": "CheXpert labeler on the impression of the report",
    "valid": "majority of three radiologists",
    "test": "majority of five radiologists",
}
_ARCHIVES = ("", "CheXpert-v1.0-small/", "CheXpert-v1.0/")
_LAYOUT = (
    r"^(?:(?<release>.*)/)?"
    r"(?<inside>(?:train|valid|val|test)/(?<patient>patient\d+)/(?<study>study\d+)/(?<file>[^/]+)\.[A-Za-z]+)$"
)


@register("datasets", "chexpert")
class CheXpert(Dataset):
    """CheXpert in its released layout (full size or small), with its official split.

    root: the folder of the release, or the one that holds `CheXpert-v1.0-small`; the other paths start from it. parts:
    the tables to read (the test table is released apart). train, valid, test: their names; default train.csv, valid.csv
    and test.csv or test_labels.csv (each also .gz). images: what holds train/, valid/ and test/ (default: the folder
    that the tables' paths begin with where root holds it, else root). uncertain: what -1 becomes. unmentioned: what a
    blank becomes; `ignore` leaves it null. only_present: keep only images that have a file, and count the others.
    """

    root: str = "."
    parts: tuple[Table, ...] = Field(default=("train", "valid"), min_length=1)
    train: str | None = None
    valid: str | None = None
    test: str | None = None
    images: str | None = None
    uncertain: Uncertain = "ignore"
    unmentioned: Unmentioned = "negative"
    only_present: bool = False

    def load(self, folder: Path, work: Path, progress: Progress = unheard) -> Cohort:
        """Read the tables; images are looked for only with `only_present`."""
        root = folder / self.root
        vocabulary = load_vocabulary(self.vocabulary, folder)
        labels = release.vocabulary_labels(vocabulary, LABELS, "CheXpert")
        paths = {part: self._path(root, part) for part in dict.fromkeys(self.parts)}
        table = pl.concat([self._read(root, path, part) for part, path in paths.items()])
        release.refuse_torn_patients(table, " and ".join(map(str, paths.values())))
        rows, left_out = table.height, list[LeftOut]()
        # the card counts what train.csv and valid.csv hold
        counted = table.filter(pl.col("split") != "test")
        names = {"images": "image_id", "patients": "patient_id", "studies": "study_id"}
        notes = count_notes(_NAME, {what: counted[column].n_unique() for what, column in names.items()})
        if self.only_present:
            missing = pl.Series(missing_images(Cohort(_NAME, table, vocabulary)))
            table, left_out = release.keep_present(table, missing, root / (self.images or ""))
        age, ageless = release.ages(table["age"])
        table, unmentioned = resolve_unmentioned(table.with_columns(age, release.sexes(table["sex"])), self.unmentioned)
        origin = "; ".join(f"{_SPLIT[part]}: {_ORIGIN[part]}" for part in paths)
        return make_cohort(
            _NAME,
            table.drop(name for name in LABELS if name not in labels),
            vocabulary,
            uncertain=self.uncertain,
            source=release.described(_NAME, *paths.values()) | {"rows": rows},
            notes=notes + ageless + unmentioned,
            origins=release.origins(vocabulary, dict.fromkeys(labels, origin), "CheXpert"),
            left_out=left_out,
        )

    def _path(self, root: Path, part: Table) -> Path:
        names = ("test.csv", "test_labels.csv") if part == "test" else (f"{part}.csv",)
        released = [archive + name for archive in _ARCHIVES for name in names]
        return release.require_file(root, getattr(self, part), released, part)

    def _read(self, root: Path, path: Path, part: Table) -> pl.DataFrame:
        """Checked rows of one table: names, path, view, age and sex as written, labels as Int8 with -1 and null."""
        rows = release.read_released(path, ("Path", *LABELS))
        release.refuse_blank_or_twice(rows, path, "Path")
        written = rows["Path"].str.strip_chars()
        place = written.str.extract_groups(_LAYOUT).struct.unnest()
        strange = place["inside"].is_null()
        if strange.any():
            row = int(strange.arg_true()[0])
            raise DataError(
                f"table {path}: row {row + 1} has Path {written[row]!r}; expected "
                "train/patient00001/study1/view1_frontal.jpg, with or without a folder before it."
            )
        base = {name: self._base(root, name) for name in place["release"].fill_null("").unique().to_list()}
        lateral = pl.col("file").str.contains("lateral")
        of = {name: rows[name] if name in rows.columns else pl.lit(None, pl.String) for name in ("AP/PA", "Age", "Sex")}
        return place.select(
            pl.concat_str("patient", "study", "file", separator="_").alias("image_id"),
            (pl.col("release").fill_null("").replace_strict(base, return_dtype=pl.String) + pl.col("inside")).alias(
                "path"
            ),
            pl.col("patient").alias("patient_id"),
            pl.concat_str("patient", "study", separator="_").alias("study_id"),
            # AP/PA is blank for a lateral film, and the radiologists' tables lack it
            pl.coalesce(of["AP/PA"], pl.when(lateral).then(pl.lit("LATERAL")).otherwise(pl.lit("FRONTAL"))).alias(
                "view"
            ),
            pl.lit(_SPLIT[part]).alias("split"),
            of["Age"].alias("age"),
            of["Sex"].alias("sex"),
            *release.label_cells(rows, path, LABELS),
        )

    def _base(self, root: Path, archive: str) -> str:
        """What stands before train/, valid/ or test/ in a path, with a separator at its end."""
        if self.images is not None:
            return f"{root / self.images}/"
        return f"{root / archive}/" if archive and (root / archive).is_dir() else f"{root}/"
