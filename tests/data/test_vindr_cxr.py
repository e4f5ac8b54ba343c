"""VinDr-CXR: the challenge's real table of 15,000 images and 17 readers, and PhysioNet's layout in small."""

from __future__ import annotations

import csv
import gzip
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from radlens.core.cohort import Cohort
from radlens.core.errors import DataError, ImageError
from radlens.core.mapping import load_mapping
from radlens.core.spec import build_part
from radlens.data.vindr_readings import decide

TRAIN = """image_id,rad_id,Cardiomegaly,Edema,Rib fracture,Clavicle fracture,ILD,Lung Opacity,Other diseases,No finding
a,R1,1,0,0,1,1,0,0,0
a,R2,1,0,1,0,0,1,0,0
a,R3,0,0,0,0,0,0,0,1
b,R1,0,,0,0,0,0,0,1
b,R4,0,1.0,0,0,0,0,0,0
b,R5,0,,0,0,0,0,1,0
"""
TEST = """image_id,Cardiomegaly,Rib fracture,Clavicle fracture,ILD,Lung Opacity,Pneumonia,Other disease,No finding
c,1,0,0,0,0,1,0,0
d,0,0,0,0,0,0,0,1
"""
TRAIN_BOXES = """image_id,rad_id,class_name,x_min,y_min,x_max,y_max
a,R1,Cardiomegaly,10.0,20.0,110.0,60.0
a,R2,Cardiomegaly,12,22,112,62
a,R1,Aortic enlargement,1,1,5,5
a,R3,No finding,,,,
b,R4,Edema,0,0,50,50
b,R4,Lung Opacity,1,1,9,9
"""
TEST_BOXES = """image_id,class_name,x_min,y_min,x_max,y_max
c,Cardiomegaly,0,0,40,30
"""


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Cohort]:
    (tmp_path / "annotations").mkdir()

    def read(train: str | None = TRAIN, test: str | None = TEST, **options: Any) -> Cohort:
        for name, text in (("image_labels_train", train), ("image_labels_test", test)):
            if text is not None:
                (tmp_path / "annotations" / f"{name}.csv").write_text(text)
        cohort = build_part("datasets", "vindr-cxr", options).load(tmp_path, tmp_path)
        assert isinstance(cohort, Cohort)
        return cohort

    return read


def column(cohort: Cohort, label: str) -> dict[str, int | None]:
    return dict(zip(cohort.table["image_id"], cohort.table[label], strict=True))


def test_physionet(load: Callable[..., Cohort], tmp_path: Path) -> None:
    cohort = load()
    assert cohort.table["split"].to_list() == ["train", "train", "test", "test"]
    assert cohort.table["readers"].to_list() == [3, 3, 1, 1]
    assert set(cohort.table["view"]) == {"PA"}
    assert cohort.table["path"][0] == f"{tmp_path}/train/a.dicom"
    assert column(cohort, "Cardiomegaly") == {"a": 1, "b": 0, "c": 1, "d": 0}
    # one reader saw a rib, another a clavicle: two of three saw a fracture
    assert column(cohort, "Fracture") == {"a": 1, "b": 0, "c": 0, "d": 0}
    assert column(cohort, "Lung Opacity") == {"a": 1, "b": 0, "c": 0, "d": 0}
    # one reader of b says so, two say nothing; the test table has no such column
    assert column(cohort, "Edema") == {"a": 0, "b": 1, "c": None, "d": None}
    assert column(cohort, "Pneumonia") == {"a": None, "b": None, "c": 1, "d": 0}
    assert column(cohort, "No Finding") == {"a": 0, "b": 0, "c": 0, "d": 1}
    assert cohort.table["Support Devices"].null_count() == 4
    assert "the table holds 4 images, the whole data set 18000." in cohort.notes
    assert cohort.origins["Support Devices"] == "not assessed by this table of VinDr-CXR"
    assert "more than half" in cohort.origins["Fracture"]


def test_any_reader(load: Callable[..., Cohort]) -> None:
    cohort = load(readers="any")
    assert column(cohort, "Cardiomegaly") == {"a": 1, "b": 0, "c": 1, "d": 0}
    assert column(cohort, "No Finding") == {"a": 0, "b": 0, "c": 0, "d": 1}
    one = load(TRAIN.replace("a,R2,1", "a,R2,0"), None, readers="any")
    assert column(one, "Cardiomegaly")["a"] == 1
    assert column(load(TRAIN.replace("a,R2,1", "a,R2,0"), None), "Cardiomegaly")["a"] == 0


def test_each_reader_keeps_the_boxes(load: Callable[..., Cohort], tmp_path: Path) -> None:
    (tmp_path / "annotations/annotations_train.csv").write_text(TRAIN_BOXES)
    (tmp_path / "annotations/annotations_test.csv").write_text(TEST_BOXES)
    cohort = load()
    dataset = build_part("datasets", "vindr-cxr", {})
    found = dataset.annotations(cohort, ["a", "b", "c", "d"])
    assert found is not None
    drawn = [
        (r.image_id, r.label, r.reader, r.shape.x, r.shape.y, r.shape.width, r.shape.height) for r in found.regions
    ]
    assert drawn == [
        ("a", "Cardiomegaly", "R1", 10, 20, 100, 40),
        ("a", "Cardiomegaly", "R2", 12, 22, 100, 40),
        ("b", "Edema", "R4", 0, 0, 50, 50),
        ("c", "Cardiomegaly", "consensus", 0, 0, 40, 30),
    ]
    assert found.left_out == {
        "finding 'Aortic enlargement' has no label in chexpert-14": 1,
        "Lung Opacity is not 1 for the image": 1,
    }
    assert [region.image_id for region in dataset.annotations(cohort, ["c"]).regions] == ["c"]
    image = tmp_path / "train" / "a.png"
    image.parent.mkdir()
    Image.new("L", (200, 100)).save(image)
    assert len(dataset.annotations(load(), ["a"]).regions) == 2
    Image.new("L", (100, 50)).save(image)
    with pytest.raises(ImageError, match="100 x 50 pixels, and a box on it reaches to 112 across"):
        dataset.annotations(load(), ["a"])
    (tmp_path / "annotations/annotations_train.csv").write_text(TRAIN_BOXES.replace("110.0", "ten"))
    with pytest.raises(DataError, match="row 1 has 'ten' for 'x_max'"):
        dataset.annotations(cohort, ["a"])
    (tmp_path / "annotations/annotations_train.csv").write_text(TRAIN_BOXES.replace("110.0", "10.0"))
    with pytest.raises(DataError, match="row 1 is a box without width or height"):
        dataset.annotations(cohort, ["a"])


def test_no_box_table(load: Callable[..., Cohort]) -> None:
    assert build_part("datasets", "vindr-cxr", {}).annotations(load(), ["a"]) is None


def test_only_present(load: Callable[..., Cohort], tmp_path: Path) -> None:
    for name in ("train/b.png", "test/c.dicom", "test/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    cohort = load(only_present=True)
    assert cohort.table["path"].to_list() == [f"{tmp_path}/train/b.png", f"{tmp_path}/test/c.dicom"]
    assert [(left.what, left.count, left.examples) for left in cohort.left_out] == [
        ("images of the table without a file", 2, ("a", "d"))
    ]


@pytest.mark.parametrize(
    ("train", "test", "sentence"),
    [
        (TRAIN.replace("a,R2", "a,R1"), None, "image a was read by R1 twice"),
        (TRAIN.replace("a,R1,1", "a,R1,yes"), None, "row 1 has 'yes' for 'Cardiomegaly'; expected 1, 0, -1 or blank"),
        (TRAIN.replace("a,R1,1", "a,R1,-1"), None, "row 1 has -1; readers of VinDr-CXR say 1 or 0"),
        (TRAIN.replace("b,R4", ",R4"), None, "row 5 has no 'image_id'"),
        (TRAIN.replace("b,R4", "b,"), None, "row 5 has no 'rad_id'"),
        (TRAIN, TEST.replace("c,", "a,"), "image a stands in"),
        (TRAIN.replace("No finding", "Nothing"), None, "unknown column 'No finding'"),
        (None, None, "holds no annotations/image_labels_train.csv"),
    ],
)
def test_bad_tables(load: Callable[..., Cohort], train: str | None, test: str | None, sentence: str) -> None:
    with pytest.raises(DataError) as raised:
        load(train, test)
    assert sentence in str(raised.value) and "\n" not in str(raised.value)


def test_a_reading_that_contradicts_itself_is_told(load: Callable[..., Cohort]) -> None:
    cohort = load(TRAIN.replace("a,R1,1,0,0,1,1,0,0,0", "a,R1,1,0,0,1,1,0,0,1"), None)
    assert column(cohort, "No Finding")["a"] == 0
    assert '1 readings say "No finding" beside a finding: the finding stands.' in cohort.notes
    two = load("\n".join(line for line in TRAIN.splitlines() if not line.startswith("a,R3")) + "\n", None)
    assert any(note.startswith("1 training images have other than three readers") for note in two.notes)


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([1, 0, None]), st.sampled_from([1, 0])), min_size=1),
    st.sampled_from(["majority", "any"]),
)
def test_the_rule_against_a_count_by_hand(rows: list[tuple[str, int | None, int]], rule: Any) -> None:
    table = pl.DataFrame(
        {
            "image_id": [row[0] for row in rows],
            "split": ["train"] * len(rows),
            "Edema": pl.Series([row[1] for row in rows], dtype=pl.Int8),
            "No Finding": pl.Series([row[2] for row in rows], dtype=pl.Int8),
        }
    )
    made = {row["image_id"]: row for row in decide(table, ["No Finding", "Edema", "Fracture"], rule).to_dicts()}
    for image in {row[0] for row in rows}:
        votes = [row[1] for row in rows if row[0] == image and row[1] is not None]
        normal = [row[2] for row in rows if row[0] == image]
        if rule == "majority":
            assert made[image]["Edema"] == (int(sum(votes) > len(votes) / 2) if votes else None)
            assert made[image]["No Finding"] == int(sum(normal) > len(normal) / 2)
        else:
            assert made[image]["Edema"] == (max(votes) if votes else None)
            assert made[image]["No Finding"] == min(normal)
        assert made[image]["readers"] == len(normal)


@pytest.mark.parametrize("rule", ["majority", "any"])
def test_the_real_table(torchxrayvision_data: Path, rule: str) -> None:
    dataset = build_part("datasets", "vindr-cxr", {"readers": rule})
    cohort = dataset.load(torchxrayvision_data, torchxrayvision_data)
    mapping = load_mapping("vindr-cxr")
    votes: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    readers = set()
    with gzip.open(torchxrayvision_data / "vinbigdata-train.csv.gz", "rt", newline="") as file:
        for row in csv.DictReader(file):
            votes[row["image_id"]][row["rad_id"]].update(mapping.findings[row["class_name"]])
            readers.add(row["rad_id"])
    assert (len(cohort), len(votes), len(readers)) == (15_000, 15_000, 17)
    needed = 2 if rule == "majority" else 1
    positives = {}
    for label in ("Cardiomegaly", "Lung Opacity", "Lung Lesion", "Consolidation", "Atelectasis", "Pneumothorax"):
        expected = [
            int(sum(label in one for one in votes[name].values()) >= needed) for name in cohort.table["image_id"]
        ]
        assert cohort.table[label].to_list() == expected
        positives[label] = sum(expected)
    counts = {
        "majority": [1_817, 932, 405, 121, 62, 58],
        "any": [2_300, 1_747, 826, 353, 186, 96],
    }
    assert list(positives.values()) == counts[rule]
    assert int((cohort.table["No Finding"] == 1).sum()) == 10_606
    for label in ("Edema", "Pneumonia", "Fracture", "Support Devices", "Enlarged Cardiomediastinum"):
        assert cohort.table[label].null_count() == 15_000
    assert set(cohort.table["split"]) == {"train"} and set(cohort.table["readers"]) == {3}
    assert any("name no patient" in note for note in cohort.notes)


def test_the_real_boxes(torchxrayvision_data: Path) -> None:
    dataset = build_part("datasets", "vindr-cxr", {"readers": "any"})
    cohort = dataset.load(torchxrayvision_data, torchxrayvision_data)
    found = dataset.annotations(cohort, cohort.table["image_id"].to_list())
    assert found is not None
    mapping = load_mapping("vindr-cxr")
    with gzip.open(torchxrayvision_data / "vinbigdata-train.csv.gz", "rt", newline="") as file:
        rows = [row for row in csv.DictReader(file) if mapping.findings[row["class_name"]] and row["x_min"]]
    assert len(found.regions) == len(rows)
    shape: Any = found.regions[0].shape
    assert [found.regions[0].image_id, found.regions[0].reader] == [rows[0]["image_id"], rows[0]["rad_id"]]
    assert shape.x + shape.width == float(rows[0]["x_max"])
    assert len({region.reader for region in found.regions}) == len({row["rad_id"] for row in rows})
    fewer = build_part("datasets", "vindr-cxr", {}).load(torchxrayvision_data, torchxrayvision_data)
    agreed = dataset.annotations(fewer, fewer.table["image_id"].to_list())
    assert agreed is not None and len(agreed.regions) < len(rows)
    assert len(agreed.regions) + sum(n for why, n in agreed.left_out.items() if "not 1" in why) == len(rows)
