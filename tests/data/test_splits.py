"""Split and split card of whole cohorts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from radlens.core.cohort import Cohort, make_cohort
from radlens.core.errors import DataError
from radlens.core.spec import SplitSpec, build_part
from radlens.core.vocabulary import vocabulary_from_dict
from radlens.data.split_card import split_card
from radlens.data.splits import assign_split

SHARES = {"train": 0.7, "val": 0.1, "test": 0.2}
LABELS = vocabulary_from_dict(
    {"name": "v", "label": [{"name": n, "positive": ["a"], "negative": ["b"]} for n in ("Edema", "Mass", "Other")]}
)


def small(images: int = 60) -> Cohort:
    table = pl.DataFrame(
        {
            "image_id": [f"i{k}" for k in range(images)],
            "path": [f"i{k}.png" for k in range(images)],
            "patient_id": [f"p{k // 2}" if k < images - 4 else None for k in range(images)],
            "Edema": [int(k % 3 == 0) for k in range(images)],
            "Mass": [1 if k < 2 else None if k % 5 == 0 else 0 for k in range(images)],
        }
    )
    return make_cohort("small", table, LABELS)


def test_card_counts_what_is_there() -> None:
    cohort = assign_split(small(), SHARES, seed=3)
    card = split_card(cohort, SplitSpec(seed=3))
    json.dumps(card)
    split = cohort.table["split"].to_list()
    for name in SHARES:
        rows = [k for k in range(60) if split[k] == name]
        assert card["splits"][name]["images"] == len(rows)
        assert card["splits"][name]["patients"] == len({k // 2 if k < 56 else -k for k in rows})
        assert card["shares"]["reached"][name] == len(rows) / 60
        edema = card["labels"]["Edema"][name]
        assert edema == {
            "positives": sum(k % 3 == 0 for k in rows),
            "negatives": sum(k % 3 > 0 for k in rows),
            "not_assessed": 0,
        }
        assert card["labels"]["Mass"][name]["not_assessed"] == sum(k % 5 == 0 and k > 1 for k in rows)
    assert card["shares"]["asked"] == SHARES
    assert (card["by"], card["seed"], card["images_without_patient"]) == ("patient", 3, 4)
    assert card["leakage"] == {"patients_in_several_splits": 0, "files_compared": 0}
    assert card["warnings"] == [
        "Mass has no positives in val and test: it cannot be scored there.",
        "Other is not assessed in any image: neither to be learnt nor to be scored.",
    ]


def test_leakage_is_found() -> None:
    cohort = small()
    leaky = cohort.with_split((["train", "test", "val"] * 20)[:60])
    card = split_card(leaky, SplitSpec())
    assert card["leakage"]["patients_in_several_splits"] == 28
    assert card["warnings"][0] == "28 patients are in more than one split."
    digests = [None, None] + [f"d{k}" for k in range(58)]
    digests[9] = digests[30] = "same"
    split = ["train"] * 20 + ["val"] * 20 + ["test"] * 20
    card = split_card(cohort.with_split(split), SplitSpec(), digests)
    assert card["leakage"] == {
        "patients_in_several_splits": 0,
        "files_compared": 58,
        "equal_files_in_several_splits": 1,
    }
    assert "i9 and i30" in card["warnings"][0]
    assert (
        split_card(cohort.with_split(["train"] * 60), SplitSpec(), digests)["leakage"]["equal_files_in_several_splits"]
        == 0
    )


@pytest.mark.parametrize(
    ("split_of_positives", "sentence"),
    [
        (
            ["test"],
            "Mass has no positives in train and val: it cannot be learnt; its threshold cannot be chosen there.",
        ),
        (["train", "test"], "Mass has no positives in val: its threshold cannot be chosen there."),
        (["val", "test"], "Mass has no positives in train: it cannot be learnt."),
        (["train", "val"], "Mass has no positives in test: it cannot be scored there."),
    ],
)
def test_sentence_for_a_label_without_positives(split_of_positives: list[str], sentence: str) -> None:
    splits = [name for name in SHARES for _ in range(2)]
    table = pl.DataFrame({"image_id": list("abcdef"), "path": list("abcdef"), "Edema": [0, 1] * 3}).with_columns(
        pl.Series("Mass", [int(name in split_of_positives and k % 2) for k, name in enumerate(splits)])
    )
    card = split_card(make_cohort("c", table, LABELS).with_split(splits), SplitSpec())
    assert sentence in card["warnings"]


def test_an_empty_split_is_an_error() -> None:
    table = pl.DataFrame({"image_id": list("abcd"), "path": list("abcd"), "patient_id": list("ppqq"), "Edema": [0] * 4})
    with pytest.raises(DataError, match="expected at least 3 patients"):
        assign_split(make_cohort("c", table, LABELS), SHARES, 0)


def test_nih_dev(shared: Path) -> None:
    options = {"table": "labels.csv", "images": "images", "image_column": "image", "patient_column": "patient_id"}
    cohort = build_part("datasets", "table", options).load(shared / "nih_dev", shared)
    card = split_card(assign_split(cohort, SHARES, 0), SplitSpec())
    assert card["leakage"]["patients_in_several_splits"] == 0
    assert sum(split["patients"] for split in card["splits"].values()) == 345
    for label, counts in card["labels"].items():
        total = sum(count["positives"] for count in counts.values())
        for split, share in SHARES.items():
            assert abs(counts[split]["positives"] - share * total) <= 2, f"{label} in {split}"
            assert total == 0 or counts[split]["positives"] > 0
    for split, share in SHARES.items():
        np.testing.assert_allclose(card["shares"]["reached"][split], share, atol=0.005)
    assert card["warnings"] == [
        "Enlarged Cardiomediastinum, Fracture and Support Devices are not assessed in any image: "
        "neither to be learnt nor to be scored."
    ]
