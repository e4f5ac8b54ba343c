"""A folder with a sub-folder for each class of images, as many public collections are handed out."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import polars as pl
from pydantic import Field, field_validator

from radlens.core.cohort import Cohort, LeftOut, Split, make_cohort
from radlens.core.errors import DataError, SpecError, unknown_name
from radlens.core.parts import Dataset, Progress, unheard
from radlens.core.registry import register
from radlens.core.vocabulary import Vocabulary, load_vocabulary
from radlens.data.image_folder import RADIOGRAPHS

Others = Literal["not-assessed", "negative"]

_NAME = "folder"
_SPLITS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
# what a folder of films without a finding is mostly called
_NORMAL = ("normal", "no finding", "no findings", "healthy")


@register("datasets", "folder")
class ClassFolders(Dataset):
    """A folder with one sub-folder a class (`NORMAL/`, `Pneumonia/`), or with such folders in train/, val/ and test/.

    images: the folder. labels: folder -> label, or list of labels, of the vocabulary; an empty text is a finding that
    has no label there. Folders not named must have a label's name (case, `_` and `-` do not matter; `normal` is the
    label without finding). leave_out: folders to pass over. others: what a label that another folder stands for is in
    an image of a folder of findings: `not-assessed` (null) or `negative` (0). In an image of the folder without finding
    it is 0 either way, and the label without finding is 0 in any image of a finding. A label that no folder stands for
    is null. patient_pattern: a regular expression with one group, searched in the path of an image below its class
    folder; the group is the patient. Without it no patient is known, since folders name none.
    """

    images: str = "."
    labels: dict[str, str | tuple[str, ...]] = Field(default_factory=dict)
    leave_out: tuple[str, ...] = ()
    others: Others = "not-assessed"
    patient_pattern: str | None = None

    @field_validator("patient_pattern")
    @classmethod
    def _pattern(cls, value: str | None) -> str | None:
        if value is None:
            return value
        try:
            groups = re.compile(value).groups
        except re.error as error:
            raise ValueError(f"{value!r} is no regular expression ({error})") from error
        if groups != 1:
            raise ValueError(f"{value!r} has {groups} groups; expected one, around what names the patient")
        return value

    def load(self, folder: Path, work: Path, progress: Progress = unheard) -> Cohort:
        """List the folders; no image is opened. Folders and files whose name starts with a dot are passed over."""
        vocabulary = load_vocabulary(self.vocabulary, folder)
        root = folder / self.images
        parts = _parts(root)
        folders = sorted({name for part in parts for name in _folders(part)})
        if not folders:
            raise DataError(
                f"image folder {root} has no sub-folder; expected one for each class, named after its label."
            )
        for option, names in (("labels", self.labels), ("leave_out", self.leave_out)):
            for name in names:
                if name not in folders:
                    raise SpecError(f"{option}: {unknown_name('class folder', name, folders)}")
        classes = [name for name in folders if name not in self.leave_out]
        targets = {name: self._targets(name, root, vocabulary) for name in classes}
        rows = [
            (split, name, within, path)
            for part, split in parts.items()
            for name in _folders(part)
            if name not in self.leave_out
            for within, path in _images(part / name)
        ]
        if not rows:
            raise DataError(
                f"image folder {root}: its {len(classes)} class folders hold no image ({', '.join(RADIOGRAPHS)})."
            )
        schema = dict.fromkeys(("split", "class", "within", "path"), pl.String)
        table = pl.DataFrame(rows, schema, orient="row")
        notes: list[str] = []
        table = table.with_columns(_names(table, root, notes), *self._patients(table, root, notes))
        present = [label for label in vocabulary.names if any(label in labels for labels in targets.values())]
        if not present:
            raise SpecError(f"folder: none of the folders of {root} stands for a label of {vocabulary.name}.")
        table = table.with_columns(_column(label, targets, vocabulary, self.others) for label in present)
        if "patient_id" in table.columns:
            notes += _torn(table)
        return make_cohort(
            root.resolve().name or _NAME,
            table.drop("within"),
            vocabulary,
            source={"dataset": _NAME, "images": str(root), "classes": {k: list(v) for k, v in targets.items()}},
            notes=notes,
            origins={
                name: _origin(name, targets) if name in present else "no class folder stands for it"
                for name in vocabulary.names
            },
            left_out=self._left_out(parts),
        )

    def _targets(self, name: str, root: Path, vocabulary: Vocabulary) -> tuple[str, ...]:
        """The labels that a class folder stands for."""
        if name in self.labels:
            given = self.labels[name]
            labels = tuple(label for label in ((given,) if isinstance(given, str) else given) if label)
            for label in labels:
                if label not in vocabulary.names:
                    raise SpecError(f"labels: folder {name!r}: {unknown_name('label', label, vocabulary.names)}")
            return labels
        plain = _plain(name)
        if plain in _NORMAL and vocabulary.no_finding is not None:
            return (vocabulary.no_finding,)
        same = [label for label in vocabulary.names if _plain(label) == plain]
        if not same:
            raise SpecError(
                f"folder {root / name}: {unknown_name('label', name, vocabulary.names)} Map it with "
                f"`labels: {{{name}: LABEL}}`, or pass it over with `leave_out: [{name}]`."
            )
        return (same[0],)

    def _patients(self, table: pl.DataFrame, root: Path, notes: list[str]) -> list[pl.Series]:
        if self.patient_pattern is None:
            return []
        pattern = re.compile(self.patient_pattern)
        found = [pattern.search(within) for within in table["within"]]
        patients = pl.Series("patient_id", [match.group(1) if match else None for match in found], pl.String)
        unnamed = patients.is_null() | (patients == "")
        if unnamed.any():
            first = table["within"][int(unnamed.arg_true()[0])]
            if unnamed.all():
                raise SpecError(f"patient_pattern {self.patient_pattern!r} fits no image of {root}, such as {first}.")
            notes.append(f"patient_pattern does not fit {int(unnamed.sum())} images, such as {first}.")
        return [patients]

    def _left_out(self, parts: Iterable[Path]) -> list[LeftOut]:
        left_out = []
        for name in self.leave_out:
            images = [within for part in parts if (part / name).is_dir() for within, _ in _images(part / name)]
            left_out.append(LeftOut.of(f"images of folder {name}", images))
        loose = [
            str(path) for part in parts for path in sorted(part.iterdir()) if _is_image(path.name) and path.is_file()
        ]
        return [*left_out, LeftOut.of("images outside any class folder", loose)] if loose else left_out


def _parts(root: Path) -> dict[Path, Split | None]:
    """Folders that hold class folders: the root itself, or its train, val and test."""
    names = _folders(root)
    if names and all(name.lower() in _SPLITS for name in names):
        return {root / name: _SPLITS[name.lower()] for name in names}
    return {root: None}


def _folders(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise DataError(f"image folder {folder} cannot be listed: {error.strerror}; check `images:`.") from error


def _images(folder: Path) -> Iterator[tuple[str, str]]:
    """(path below the folder, path) of each image in its tree, in the order of names."""

    def refuse(error: OSError) -> None:
        raise DataError(f"image folder {error.filename} cannot be listed: {error.strerror}.") from error

    for current, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if _is_image(name):
                path = Path(current) / name
                yield path.relative_to(folder).as_posix(), str(path)


def _is_image(name: str) -> bool:
    return name.lower().endswith(RADIOGRAPHS) and not name.startswith(".")


def _torn(table: pl.DataFrame) -> list[str]:
    """A note where patients stand in more than one of train, val and test."""
    parts = table.drop_nulls(["patient_id", "split"]).group_by("patient_id").agg(pl.col("split").n_unique())
    torn = parts.filter(pl.col("split") > 1).height
    return (
        [f"{torn} patients have images in more than one of the train, val and test folders: they leak."] if torn else []
    )


def _names(table: pl.DataFrame, root: Path, notes: list[str]) -> pl.Series:
    """Image ids: file names, or paths below the root where two images have the same name."""
    names = table["path"].str.extract(r"([^/\\]+)$")
    if names.is_duplicated().any():
        twice = names.filter(names.is_duplicated())
        notes.append(
            f"images are named by their path, since {twice.n_unique()} file names stand more than once, such as "
            f"{twice[0]}; if that is one image, it stands in two classes or splits."
        )
        names = table["path"].str.strip_prefix(f"{root}{os.sep}")
    return names.alias("image_id")


def _column(label: str, targets: dict[str, tuple[str, ...]], vocabulary: Vocabulary, others: Others) -> pl.Expr:
    none = vocabulary.no_finding

    def value(labels: tuple[str, ...]) -> int | None:
        if label in labels:
            return 1
        # a film without finding has none of the findings, and a finding is not none
        certain = none is not None and (none in labels or label == none)
        return 0 if certain or others == "negative" else None

    values = {name: value(labels) for name, labels in targets.items()}
    return pl.col("class").replace_strict(values, return_dtype=pl.Int8).alias(label)


def _origin(label: str, targets: dict[str, tuple[str, ...]]) -> str:
    names = [name for name, labels in targets.items() if label in labels]
    return f"the class folder {' or '.join(names)} that an image lies in"


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()
