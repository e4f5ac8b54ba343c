"""A cohort: one table of images with their patients, views, reports, split and labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from radlens.core.errors import DataError
from radlens.core.vocabulary import Vocabulary

COLUMNS: dict[str, Any] = {
    "image_id": pl.String,
    "path": pl.String,
    "patient_id": pl.String,
    "study_id": pl.String,
    "view": pl.String,
    "report": pl.String,
    "split": pl.String,
}
_VIEWS = {
    **dict.fromkeys(("pa", "postero-anterior", "posteroanterior"), "PA"),
    **dict.fromkeys(("ap", "antero-posterior", "anteroposterior"), "AP"),
    **dict.fromkeys(("lateral", "lat", "ll", "rl", "left lateral", "right lateral"), "lateral"),
    "frontal": "frontal",
}
"""What sources call the same view, in small letters; other words stay as they are."""
Uncertain = Literal["zeros", "ones", "ignore"]
Split = Literal["train", "val", "test"]
GroupBy = Literal["patient", "study", "image"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")


@dataclass(frozen=True)
class LeftOut:
    """What a source held and a cohort does not: a kind ("reports without an image"), how many, and the first few."""

    what: str
    count: int
    examples: tuple[str, ...] = ()

    @staticmethod
    def of(what: str, items: Sequence[str]) -> LeftOut:
        """Counted, with the first five of them named."""
        return LeftOut(what, len(items), tuple(items[:5]))


@dataclass(frozen=True)
class Cohort:
    """Images of a study, frozen. Make it with `make_cohort`, which checks the table.

    table: the columns of `COLUMNS` (null where a source has none; `image_id` and `path` never null), one Int8 column
    a label (1, 0 or null = not assessed), and any further column of the source (age, sex, site).
    notes: sentences that the report must carry (a missing patient column, a policy that changed labels). origins:
    label -> where its values come from, in one phrase. left_out: what the source held and the cohort does not. A
    `split` column that a source fills (train, val, test or null) is its official split.
    """

    name: str
    table: pl.DataFrame
    vocabulary: Vocabulary
    source: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    origins: Mapping[str, str] = field(default_factory=dict)
    left_out: tuple[LeftOut, ...] = ()

    def __len__(self) -> int:
        return self.table.height

    def targets(self) -> npt.NDArray[np.float32]:
        """(N, L) float32: 1, 0 or NaN where a label was not assessed."""
        labels = self.table.select(pl.col(name).cast(pl.Float32) for name in self.vocabulary.names)
        return labels.fill_null(float("nan")).to_numpy().astype(np.float32, copy=False)

    def groups(self, by: GroupBy = "patient") -> npt.NDArray[np.object_]:
        """(N,) what must not be torn apart: the patient (or study), or the image where the source names none."""
        alone = pl.lit("image:") + pl.col("image_id")
        column = alone if by == "image" else pl.coalesce(f"{by}_id", alone)
        return np.asarray(self.table.select(column.alias("group"))["group"].to_list(), dtype=object)

    def where(self, split: str) -> npt.NDArray[np.bool_]:
        """(N,) boolean: rows of a split."""
        return (self.table["split"] == split).fill_null(False).to_numpy()

    def with_split(self, split: Sequence[str]) -> Cohort:
        """The same cohort with its split column replaced."""
        column = pl.Series("split", list(split), pl.String)
        return replace(self, table=self.table.with_columns(column))

    def leaving_out(self, *what: LeftOut) -> Cohort:
        """The same cohort, with more to tell of what its source held and it does not."""
        return replace(self, left_out=(*self.left_out, *what))

    def keep(self, rows: npt.NDArray[np.bool_]) -> Cohort:
        """Only the rows that are True."""
        return replace(self, table=self.table.filter(pl.Series(rows)))


def make_cohort(
    name: str,
    table: pl.DataFrame,
    vocabulary: Vocabulary,
    *,
    uncertain: Uncertain = "ignore",
    source: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
    origins: Mapping[str, str] | None = None,
    left_out: Sequence[LeftOut] = (),
    labelled: bool = True,
) -> Cohort:
    """Check and freeze a cohort table.

    Label values may be 1, 0, -1 (uncertain) or null. -1 becomes 0 (`zeros`), 1 (`ones`) or null (`ignore`), and a note
    says how many. A label column that the source lacks becomes null throughout, which a note says too, unless `origins`
    does or the labels are still to come (`labelled` False). Views are written as PA, AP, frontal (one of the two) or
    lateral. Raises `DataError` naming the first offending row for a duplicated or missing image id, a missing path, or
    a label that is none of these values.
    """
    notes = list(notes)
    clash = sorted({*COLUMNS, "image"} & set(vocabulary.names))
    if clash:
        raise DataError(
            f"vocabulary {vocabulary.name}: a label cannot be called {clash[0]!r}, a column of every cohort."
        )
    for column, dtype in COLUMNS.items():
        if column not in table.columns:
            table = table.with_columns(pl.lit(None, dtype).alias(column))
    table = table.with_columns(pl.col(column).cast(dtype) for column, dtype in COLUMNS.items())
    # a blank name is no name: unnamed images are not one patient
    names = (pl.col(c).str.strip_chars().replace("", None) for c in ("image_id", "patient_id", "study_id"))
    view = pl.col("view").str.strip_chars().replace("", None)
    same = view.str.to_lowercase().replace_strict(_VIEWS, default=view)
    table = table.with_columns(*names, view=same)
    if table.height == 0:
        raise DataError(f"cohort {name}: expected at least one image, found none.")
    for column in ("image_id", "path"):
        empty = (
            table.select("image_id", "path")
            .with_row_index("row")
            .filter(pl.col(column).is_null() | (pl.col(column).str.len_chars() == 0))
        )
        if empty.height:
            raise DataError(f"cohort {name}: row {empty['row'][0] + 1} has no {column}.")
    twice = table.select("image_id").with_row_index("row").filter(pl.col("image_id").is_duplicated())
    if twice.height:
        first = twice["image_id"][0]
        rows = (twice.filter(pl.col("image_id") == first)["row"] + 1).to_list()
        raise DataError(
            f"cohort {name}: image id {first!r} stands in rows {_list(rows)}; every image needs an id of its own "
            f"({twice['image_id'].n_unique()} ids are duplicated)."
        )
    unsure: dict[str, int] = {}
    labels = [_label(name, table, label, uncertain, unsure) for label in vocabulary.names]
    if unsure:
        becomes = {"zeros": "0", "ones": "1", "ignore": "not assessed"}[uncertain]
        counts = ", ".join(f"{label} {count}" for label, count in unsure.items())
        notes.append(f"uncertain (-1) labels became {becomes} (policy {uncertain!r}): {counts}.")
    unknown = [label for label in vocabulary.names if label not in table.columns and label not in (origins or {})]
    if unknown and labelled:
        notes.append(f"the source does not assess {', '.join(unknown)}: null for every image.")
    extra = [c for c in table.columns if c not in COLUMNS and c not in vocabulary.names]
    checked = table.select(*COLUMNS, *extra).with_columns(labels)
    if checked["patient_id"].null_count():
        notes.append(
            f"{checked['patient_id'].null_count()} of {checked.height} images name no patient: each counts as "
            "a patient of its own, so that images of one patient may stand on both sides of the split."
        )
    return Cohort(
        name,
        checked.rechunk(),
        vocabulary,
        dict(source or {}),
        tuple(notes),
        dict(origins or {}),
        tuple(left_out),
    )


def _label(name: str, table: pl.DataFrame, label: str, uncertain: Uncertain, counts: dict[str, int]) -> pl.Series:
    if label not in table.columns:
        return pl.Series(label, [None] * table.height, pl.Int8)
    column = table[label]
    if column.dtype in (pl.Categorical, pl.Enum):
        column = column.cast(pl.String)
    if column.dtype == pl.Boolean:
        column = column.cast(pl.Int8)
    if column.dtype == pl.String:
        column = column.str.strip_chars().replace("", None)
    values = column.cast(pl.Float64, strict=False)
    wrong = (values.is_null() & column.is_not_null()) | ~values.is_in([0.0, 1.0, -1.0]).fill_null(True)
    if wrong.any():
        row = int(wrong.arg_true()[0])
        raise DataError(
            f"cohort {name}: label {label!r} must be 1, 0, -1 or blank; row {row + 1} "
            f"(image {table['image_id'][row]}) has {column[row]!r}."
        )
    unsure = values == -1.0
    if unsure.any():
        as_value = {"zeros": 0.0, "ones": 1.0, "ignore": None}[uncertain]
        counts[label] = int(unsure.sum())
        values = values.to_frame().select(
            pl.when(pl.col(label) == -1.0).then(pl.lit(as_value, pl.Float64)).otherwise(pl.col(label)).alias(label)
        )[label]
    return values.cast(pl.Int8).alias(label)


def _list(rows: Sequence[int]) -> str:
    shown = ", ".join(str(row) for row in rows[:5])
    return shown + (", ..." if len(rows) > 5 else "")
