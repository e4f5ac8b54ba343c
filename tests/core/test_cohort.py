"""What makes a table a cohort, and what is refused."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radlens.core.cohort import COLUMNS, Uncertain, make_cohort
from radlens.core.errors import DataError
from radlens.core.vocabulary import Label, Vocabulary, load_vocabulary, vocabulary_from_dict

LABELS = vocabulary_from_dict(
    {"name": "v", "label": [{"name": n, "positive": ["a"], "negative": ["b"]} for n in ("Edema", "Mass")]}
)
WRITTEN = {"1": 1.0, "0": 0.0, "-1": -1.0, "1.0": 1.0, "0.0": 0.0, "-1.0": -1.0, " 1 ": 1.0, "": None, "  ": None}


def table(**columns: list[Any]) -> pl.DataFrame:
    count = len(next(iter(columns.values())))
    base: dict[str, list[Any]] = {
        "image_id": [f"i{k}" for k in range(count)],
        "path": [f"{k}.png" for k in range(count)],
    }
    return pl.DataFrame(base | columns, strict=False)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([*WRITTEN, None]), min_size=1, max_size=12), st.sampled_from(["zeros", "ones", "ignore"])
)
def test_labels_as_text(written: list[str | None], policy: Uncertain) -> None:
    resolved = {-1.0: {"zeros": 0.0, "ones": 1.0, "ignore": np.nan}[policy], None: np.nan, 0.0: 0.0, 1.0: 1.0}
    values = [None if text is None else WRITTEN[text] for text in written]
    cohort = make_cohort("c", table(Edema=pl.Series(written, dtype=pl.String)), LABELS, uncertain=policy)
    expected = np.array([resolved[value] for value in values], np.float32)
    np.testing.assert_array_equal(cohort.targets()[:, 0], expected)
    assert np.isnan(cohort.targets()[:, 1]).all()
    assert cohort.targets().dtype == np.float32
    assert cohort.table["Edema"].dtype == pl.Int8
    unsure = values.count(-1.0)
    assert any("uncertain (-1)" in note and f"Edema {unsure}" in note for note in cohort.notes) == (unsure > 0)
    assert any("does not assess Mass" in note for note in cohort.notes)


@pytest.mark.parametrize("dtype", [pl.Int64, pl.Int8, pl.Float32, pl.Float64])
def test_labels_as_numbers(dtype: Any) -> None:
    cohort = make_cohort("c", table(Edema=pl.Series([1, 0, -1, None], dtype=dtype)), LABELS, uncertain="ones")
    np.testing.assert_array_equal(cohort.targets()[:, 0], np.array([1, 0, 1, np.nan], np.float32))


def test_labels_as_booleans() -> None:
    cohort = make_cohort("c", table(Edema=[True, False, None], Mass=[None, None, None]), LABELS)
    np.testing.assert_array_equal(cohort.targets(), np.array([[1, np.nan], [0, np.nan], [np.nan, np.nan]], np.float32))


@pytest.mark.parametrize("wrong", ["2", "yes", "nan", "0.5", "inf", 2, 0.5, float("nan"), -2])
def test_other_labels_are_refused_with_their_row(wrong: Any) -> None:
    kind = pl.String if isinstance(wrong, str) else pl.Float64
    bad = table(Edema=pl.Series(["1", None, wrong] if kind == pl.String else [1.0, None, wrong], dtype=kind))
    with pytest.raises(DataError, match=r"cohort c: label 'Edema' must be 1, 0, -1 or blank; row 3 \(image i2\) has"):
        make_cohort("c", bad, LABELS)


def test_columns_and_extras() -> None:
    cohort = make_cohort("c", table(Edema=[1, 0], age=["7", "8"], patient_id=[61, 62]), LABELS)
    assert cohort.table.columns == [*COLUMNS, "age", "Edema", "Mass"]
    assert cohort.table["patient_id"].to_list() == ["61", "62"]
    assert cohort.table["split"].null_count() == 2
    assert len(cohort) == 2


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"image_id": ["a", "b", "a"], "Edema": [1, 1, 1]}, "image id 'a' stands in rows 1, 3"),
        ({"image_id": ["a", None, "b"], "Edema": [1, 1, 1]}, "row 2 has no image_id"),
        ({"path": ["a", "b", ""], "Edema": [1, 1, 1]}, "row 3 has no path"),
        ({"Edema": []}, "expected at least one image, found none"),
    ],
)
def test_refused(columns: dict[str, list[Any]], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        make_cohort("c", table(**columns), LABELS)


def test_groups_fall_back_to_the_image() -> None:
    cohort = make_cohort("c", table(Edema=[1, 1, 0], patient_id=["p", "p", None]), LABELS)
    assert cohort.groups().tolist() == ["p", "p", "image:i2"]
    assert any("1 of 3 images name no patient" in note for note in cohort.notes)


def test_split_and_rows() -> None:
    cohort = make_cohort("c", table(Edema=[1, 1, 0]), LABELS)
    assert not cohort.where("train").any()
    split = cohort.with_split(["train", "test", "train"])
    np.testing.assert_array_equal(split.where("train"), [True, False, True])
    kept = split.keep(np.array([False, True, True]))
    assert kept.table["image_id"].to_list() == ["i1", "i2"]
    assert len(cohort) == 3
    assert cohort.table["split"].null_count() == 3


def test_many_rows_are_checked_in_columns_not_one_by_one() -> None:
    rng = np.random.default_rng(0)
    names = load_vocabulary("chexpert-14").names
    values = rng.choice(np.array(["1", "0", "-1", ""]), (100_000, len(names)))
    rows = {name: values[:, column].tolist() for column, name in enumerate(names)}
    big = table(**rows)
    begin = time.process_time()
    cohort = make_cohort("c", big, load_vocabulary("chexpert-14"))
    assert time.process_time() - begin < 3
    np.testing.assert_array_equal(np.isnan(cohort.targets()), (values == "-1") | (values == ""))


def test_blank_patients_are_not_one_patient() -> None:
    table = pl.DataFrame({"image_id": ["a", "b", "c"], "path": ["a", "b", "c"], "patient_id": ["", " ", "p"]})
    cohort = make_cohort("c", table.with_columns(pl.lit(1).alias("Edema")), load_vocabulary("chexpert-14"))
    assert cohort.groups().tolist() == ["image:a", "image:b", "p"]
    assert any("2 of 3 images name no patient" in note for note in cohort.notes)


def test_a_further_column_may_be_called_row() -> None:
    table = pl.DataFrame({"image_id": ["a", "b"], "path": ["a", "b"], "row": ["7", "8"], "Edema": [1, 0]})
    assert make_cohort("c", table, load_vocabulary("chexpert-14")).table["row"].to_list() == ["7", "8"]


def test_categorical_labels_are_read() -> None:
    labels = pl.Series("Edema", ["1", "0", None], dtype=pl.Categorical)
    table = pl.DataFrame({"image_id": ["a", "b", "c"], "path": ["a", "b", "c"]}).with_columns(labels)
    assert make_cohort("c", table, load_vocabulary("chexpert-14")).table["Edema"].to_list() == [1, 0, None]


def test_a_label_cannot_take_a_columns_name() -> None:
    vocabulary = Vocabulary("v", (Label("split", None, ("a",), ("b",)),))
    table = pl.DataFrame({"image_id": ["a"], "path": ["a"], "split": [1]})
    with pytest.raises(DataError, match="split"):
        make_cohort("c", table, vocabulary)
