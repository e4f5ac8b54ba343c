"""Splits other than one draw by patient: folds, repeats, the data set's own, a file's, and leaking ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from radlens.core.cohort import Cohort, make_cohort
from radlens.core.errors import DataError
from radlens.core.spec import SplitSpec
from radlens.core.vocabulary import vocabulary_from_dict
from radlens.data.near_duplicates import NearDuplicate
from radlens.data.split_card import split_card
from radlens.data.splits import divide_cohort

LABELS = vocabulary_from_dict({"name": "v", "label": [{"name": "Edema", "positive": ["a"], "negative": ["b"]}]})


def cohort(images: int = 90, **columns: Any) -> Cohort:
    table = pl.DataFrame(
        {
            "image_id": [f"i{k}" for k in range(images)],
            "path": [f"i{k}.png" for k in range(images)],
            "patient_id": [f"p{k // 3}" for k in range(images)],
            "study_id": [f"s{k // 2}" for k in range(images)],
            "Edema": [int(k % 4 == 0) for k in range(images)],
        }
        | columns
    )
    return make_cohort("small", table, LABELS)


def splits(divided: Cohort) -> list[str | None]:
    return divided.table["split"].to_list()


def test_folds_are_disjoint_cover_all_and_keep_patients_together() -> None:
    whole = cohort()
    tested: list[str] = []
    for fold in (1, 2, 3):
        divided = divide_cohort(whole, SplitSpec(folds=3, fold=fold), Path())
        table = divided.table
        assert set(splits(divided)) == {"train", "val", "test"}
        assert table.group_by("patient_id").agg(pl.col("split").n_unique())["split"].max() == 1
        here = table.filter(pl.col("split") == "test")["image_id"].to_list()
        assert 24 <= len(here) <= 36
        tested += here
        card = split_card(divided, SplitSpec(folds=3, fold=fold))
        assert card["method"].startswith(f"fold {fold} of 3") and card["shares"]["asked"]["test"] == pytest.approx(
            1 / 3
        )
        assert sum(card["shares"]["asked"].values()) == pytest.approx(1)
    assert sorted(tested) == sorted(whole.table["image_id"].to_list())


def test_repeats_are_other_draws_and_the_first_is_the_seeds_own() -> None:
    one, two = (splits(divide_cohort(cohort(), SplitSpec(repeats=2, repeat=r), Path())) for r in (1, 2))
    assert one != two
    assert one == splits(divide_cohort(cohort(), SplitSpec(), Path()))
    assert two == splits(divide_cohort(cohort(), SplitSpec(repeats=2, repeat=2), Path()))


@pytest.mark.parametrize("by", ["study", "image"])
def test_a_split_that_leaks_is_flagged(by: Any) -> None:
    divided = divide_cohort(cohort(), SplitSpec(by=by), Path())
    card = split_card(divided, SplitSpec(by=by))
    assert card["leakage"]["patients_in_several_splits"] > 5
    assert any("it leaks" in sentence for sentence in card["warnings"])
    if by == "study":
        assert divided.table.group_by("study_id").agg(pl.col("split").n_unique())["split"].max() == 1


def test_the_official_split_stays_and_its_missing_validation_comes_from_training() -> None:
    given = ["train"] * 60 + ["test"] * 27 + [None] * 3
    divided = divide_cohort(cohort(split=given), SplitSpec(official=True), Path())
    found = splits(divided)
    assert found[60:] == given[60:]
    assert set(found[:60]) == {"train", "val"} and 4 <= found.count("val") <= 12
    assert split_card(divided, SplitSpec(official=True))["leakage"]["patients_in_several_splits"] == 0
    assert split_card(divided, SplitSpec(official=True))["shares"]["asked"] is None
    # what was drawn once is kept: images dropped later do not move the others
    assert splits(divide_cohort(divided, SplitSpec(official=True), Path())) == found


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (None, "has no official split"),
        (["train"] * 90, "split 'test' would be empty"),
        (["train", "testing"] * 45, "'i1' is in split 'testing'; expected train, val, test or none"),
    ],
)
def test_a_bad_official_split_is_one_sentence(given: list[str] | None, sentence: str) -> None:
    whole = cohort() if given is None else cohort(split=given)
    with pytest.raises(DataError, match=sentence):
        divide_cohort(whole, SplitSpec(official=True), Path())


def by_file(tmp_path: Path, text: str, **options: Any) -> Cohort:
    (tmp_path / "split.csv").write_text(text)
    return divide_cohort(cohort(9), SplitSpec(file="split.csv", **options), tmp_path)


def test_a_file_by_patient(tmp_path: Path) -> None:
    divided = by_file(tmp_path, "patient_id,split\np0,Train\np1,validation\np2,test\np2,test\np9,test\n")
    assert splits(divided) == ["train"] * 3 + ["val"] * 3 + ["test"] * 3
    (left,) = divided.left_out
    assert (left.count, left.examples) == (1, ("p9",))


def test_a_file_by_image_leaves_out_what_it_does_not_name(tmp_path: Path) -> None:
    rows = "".join(f"i{k},{s}\n" for k, s in enumerate(["train", "train", "", "val", "val", "val", "test"]) if s)
    assert splits(by_file(tmp_path, "image_id,split\n" + rows)) == [
        *["train", "train", None, "val", "val", "val", "test"],
        None,
        None,
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("image,split\ni0,train\n", "expected a column 'split' and one of image_id"),
        ("image_id,split\ni0,train\ni1,holdout\n", r"row 2 \(i1\) has split 'holdout'"),
        ("image_id,split\ni0,train\ni0,test\n", "image_id 'i0' stands in two splits"),
        ("image_id,split\ni0,train\ni1,test\ni3,val\n", r"patient 'p0' stands in (train and test|test and train)"),
        ("image_id,split\ni0,train\ni3,val\n", "split 'test' would be empty"),
    ],
)
def test_a_bad_file_is_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        by_file(tmp_path, text)


def test_a_file_may_tear_patients_when_the_study_says_so(tmp_path: Path) -> None:
    divided = by_file(tmp_path, "image_id,split\ni0,train\ni1,test\ni3,val\n", by="image")
    assert splits(divided)[:4] == ["train", "test", None, "val"]


def test_near_duplicates_stand_in_the_card() -> None:
    divided = cohort().with_split(["train"] * 60 + ["val"] * 9 + ["test"] * 21)
    near = [NearDuplicate(1, 70, 3), NearDuplicate(2, 71, 9)]
    digests = [f"d{k}" for k in range(90)]
    digests[1] = digests[70] = "same"
    card = split_card(divided, SplitSpec(), digests, near)
    assert card["leakage"]["equal_files_in_several_splits"] == 1
    assert card["leakage"]["near_duplicates_in_several_splits"] == 1
    assert card["near_duplicates"][1] == {"images": ["i2", "i71"], "bits": 9}
    assert any("i2 and i71; 9 of 256" in sentence for sentence in card["warnings"])
    assert split_card(divided, SplitSpec(), digests, [])["leakage"]["near_duplicates_in_several_splits"] == 0
    assert "near_duplicates_in_several_splits" not in split_card(divided, SplitSpec())["leakage"]
    assert np.asarray(divided.groups("image")).tolist()[0] == "image:i0"
