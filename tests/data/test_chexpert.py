"""CheXpert: the released table gives the true counts; what a blank means is said and can be chosen."""

from __future__ import annotations

import csv
import gzip
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from radlens.core.cohort import Cohort
from radlens.core.errors import DataError, SpecError
from radlens.core.spec import build_part
from radlens.core.vocabulary import load_vocabulary
from radlens.data.cards import load_card
from radlens.data.chexpert_labels import LABELS, resolve_unmentioned

SMALL = "CheXpert-v1.0-small"
HEADER = "Path,Sex,Age,Frontal/Lateral,AP/PA," + ",".join(LABELS)


def row(path: str, facts: str = "Female,68,Frontal,AP", **labels: str) -> str:
    named = {name.replace(" ", "_"): name for name in LABELS}
    cells = {named[key]: value for key, value in labels.items()}
    return ",".join([f"{SMALL}/{path}", facts, *(cells.get(name, "") for name in LABELS)])


TRAIN = [
    row("train/patient00001/study1/view1_frontal.jpg", No_Finding="1.0", Support_Devices="1.0"),
    row("train/patient00002/study1/view1_frontal.jpg", "Male,87,Frontal,PA", Edema="-1.0", Pneumonia="0.0"),
    row("train/patient00002/study1/view2_lateral.jpg", "Male,87,Lateral,", Edema="-1.0", Pneumonia="0.0"),
    row("train/patient00003/study2/view1_frontal.jpg", "Unknown,0,Frontal,LL"),
    row("train/patient00004/study1/view1_frontal.jpg", Pneumothorax="0.0"),
]
VALID = [row("valid/patient64541/study1/view1_frontal.jpg", **{n.replace(" ", "_"): "0.0" for n in LABELS[:-1]})]


def text(rows: list[str], header: str = HEADER) -> str:
    return "\n".join([header, *rows]) + "\n"


@pytest.fixture
def release(tmp_path: Path) -> Path:
    folder = tmp_path / SMALL
    folder.mkdir()
    (folder / "train.csv").write_text(text(TRAIN))
    (folder / "valid.csv").write_text(text(VALID))
    return tmp_path


@pytest.fixture
def load(release: Path) -> Callable[..., Cohort]:
    def read(**options: Any) -> Cohort:
        cohort = build_part("datasets", "chexpert", options).load(release, release)
        assert isinstance(cohort, Cohort)
        return cohort

    return read


def column(cohort: Cohort, name: str) -> list[int | None]:
    return cohort.table[name].to_list()


def test_the_released_layout(load: Callable[..., Cohort], release: Path) -> None:
    cohort = load()
    assert cohort.table["image_id"].to_list()[:2] == [
        "patient00001_study1_view1_frontal",
        "patient00002_study1_view1_frontal",
    ]
    assert cohort.table["path"][0] == str(release / SMALL / "train/patient00001/study1/view1_frontal.jpg")
    assert cohort.table["path"][5] == str(release / SMALL / "valid/patient64541/study1/view1_frontal.jpg")
    assert cohort.table["study_id"].to_list()[1:3] == ["patient00002_study1"] * 2
    assert cohort.table["view"].to_list() == ["AP", "PA", "lateral", "lateral", "AP", "AP"]
    assert cohort.table["sex"].to_list() == ["F", "M", "M", None, "F", "F"]
    assert cohort.table["age"].to_list() == [68, 87, 87, 0, 68, 68]
    assert cohort.table["split"].to_list() == ["train"] * 5 + ["val"]
    assert "CheXpert labeler" in cohort.origins["Edema"]
    assert "val: majority of three radiologists" in cohort.origins["Edema"]
    assert cohort.left_out == ()


def test_what_a_blank_becomes(load: Callable[..., Cohort]) -> None:
    absent = load()
    assert column(absent, "Edema") == [0, None, None, None, 0, 0]
    assert column(absent, "Pneumonia") == [0, 0, 0, None, 0, 0]
    # blank since oedema is uncertain: not a normal film
    assert column(absent, "No Finding") == [1, 0, 0, None, 0, 0]
    assert "1 images have no label at all: not assessed." in absent.notes
    # 12 + 12 + 12 + 13 + 1 cells of the assessed rows, less the two "No Finding" that the labeler's rule decides
    assert "48 findings that a report does not mention count as absent (unmentioned: negative)." in absent.notes
    ignored = load(unmentioned="ignore")
    assert column(ignored, "Edema") == [None, None, None, None, None, 0]
    assert column(ignored, "No Finding") == [1, 0, 0, None, None, 0]
    assert not any("count as absent" in note for note in ignored.notes)


@pytest.mark.parametrize(("policy", "value"), [("zeros", 0), ("ones", 1), ("ignore", None)])
def test_the_policy_for_uncertain(load: Callable[..., Cohort], policy: str, value: int | None) -> None:
    cohort = load(uncertain=policy)
    assert column(cohort, "Edema")[1:3] == [value, value]
    # decided before the policy: uncertain oedema speaks against "No Finding" even where it becomes 0
    assert column(cohort, "No Finding")[1:3] == [0, 0]
    assert any(note.startswith("uncertain (-1)") and "Edema 2" in note for note in cohort.notes)


@given(st.lists(st.lists(st.sampled_from([1, 0, -1, None]), min_size=14, max_size=14), min_size=1, max_size=8))
def test_unmentioned_row_by_row(rows: list[list[int | None]]) -> None:
    table = pl.DataFrame(rows, schema=dict.fromkeys(LABELS, pl.Int8), orient="row")
    for policy in ("negative", "ignore"):
        resolved, _ = resolve_unmentioned(table, policy)
        for before, after in zip(table.iter_rows(named=True), resolved.iter_rows(named=True), strict=True):
            expected = dict(before)
            if any(before[name] in (1, -1) for name in LABELS[1:-1]) and before["No Finding"] is None:
                expected["No Finding"] = 0
            if policy == "negative" and any(value is not None for value in before.values()):
                expected = {name: 0 if value is None else value for name, value in expected.items()}
            assert after == expected


def test_where_the_images_are(load: Callable[..., Cohort], release: Path) -> None:
    # root may be the inner folder; then nothing of its name stands in it
    inner = load(root=SMALL)
    assert inner.table["path"][0] == str(release / SMALL / "train/patient00001/study1/view1_frontal.jpg")
    other = load(images="/films")
    assert other.table["path"][0] == "/films/train/patient00001/study1/view1_frontal.jpg"


def test_paths_without_the_archive_folder_and_the_radiologists_table(
    load: Callable[..., Cohort], release: Path
) -> None:
    header = "Path," + ",".join(LABELS)
    (release / "test_labels.csv").write_text(
        text(["test/patient64741/study1/view1_frontal.jpg" + ",0" * 13 + ",1"], header)
    )
    cohort = load(parts=["test"])
    assert cohort.table.select("image_id", "split", "view", "age", "sex").row(0) == (
        "patient64741_study1_view1_frontal",
        "test",
        "frontal",
        None,
        None,
    )
    assert column(cohort, "Support Devices") == [1]
    assert cohort.origins["Edema"] == "test: majority of five radiologists"
    assert load(parts=["train", "valid", "test"]).table["split"].to_list() == ["train"] * 5 + ["val", "test"]


def test_only_present(load: Callable[..., Cohort], release: Path) -> None:
    with pytest.raises(DataError, match=r"none of the 6 images"):
        load(only_present=True)
    image = release / SMALL / "train/patient00001/study1/view1_frontal.jpg"
    image.parent.mkdir(parents=True)
    image.touch()
    cohort = load(only_present=True)
    assert cohort.table["path"].to_list() == [str(image)]
    (left,) = cohort.left_out
    assert (left.what, left.count) == ("images of the table without a file", 5)


def test_a_vocabulary_of_two_labels(load: Callable[..., Cohort], release: Path) -> None:
    entry = '[[label]]\nname = "{}"\npositive = ["a"]\nnegative = ["b"]\n'
    (release / "two.toml").write_text('name = "two"\n' + entry.format("Edema") + entry.format("Hernia"))
    cohort = load(vocabulary="two.toml")
    assert "Pneumonia" not in cohort.table.columns
    assert column(cohort, "Edema") == [0, None, None, None, 0, 0]
    assert column(cohort, "Hernia") == [None] * 6
    assert cohort.origins["Hernia"] == "not assessed by CheXpert"
    (release / "none.toml").write_text('name = "none"\n' + entry.format("Hernia"))
    with pytest.raises(DataError, match="CheXpert assesses none of the labels of vocabulary none"):
        load(vocabulary="none.toml")


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("train.csv", None, "holds no train.csv and no CheXpert-v1.0-small/train.csv"),
        ("train.csv", text([TRAIN[0], TRAIN[1].replace("-1.0", "maybe")]), "row 2 has 'maybe' for 'Edema'"),
        ("train.csv", text([TRAIN[0], TRAIN[1].replace("-1.0", "2")]), "row 2 has '2' for 'Edema'"),
        ("train.csv", text([TRAIN[0], TRAIN[0]]), "stands in rows 1, 2 (1 are duplicated)"),
        (
            "train.csv",
            text([TRAIN[0].replace("view1", "../view1")]),
            "expected train/patient00001/study1/view1_frontal",
        ),
        ("train.csv", text([TRAIN[0][len(SMALL) + 44 :]]), "row 1 has"),
        ("train.csv", text(TRAIN).replace("Edema", "Oedema", 1), "unknown column 'Edema'. Did you mean 'Oedema'?"),
        (
            "valid.csv",
            text([VALID[0].replace("patient64541", "patient00002")]),
            "patient 'patient00002' stands in train and val (1 patients do)",
        ),
    ],
)
def test_bad_input_is_one_sentence(
    load: Callable[..., Cohort], release: Path, name: str, content: str | None, sentence: str
) -> None:
    path = release / SMALL / name
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(DataError) as caught:
        load()
    assert sentence in str(caught.value)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_part_that_does_not_exist(load: Callable[..., Cohort]) -> None:
    with pytest.raises(SpecError, match=r"parts.*'train', 'valid' or 'test'"):
        load(parts=["validate"])


def test_the_real_table(torchxrayvision_data: Path) -> None:
    started = time.perf_counter()
    options = {"root": str(torchxrayvision_data), "train": "chexpert_train.csv.gz", "parts": ["train"]}
    cohort = build_part("datasets", "chexpert", options).load(Path(), Path())
    assert time.perf_counter() - started < 15
    table = cohort.table
    assert len(cohort) == 223414
    assert table["patient_id"].n_unique() == 64540
    assert table["study_id"].n_unique() == 187641
    # valid.csv: 234 images of 200 patients, a study each
    expected = load_card("chexpert").expected
    assert (expected.images, expected.patients, expected.studies) == (223414 + 234, 64540 + 200, 187641 + 200)
    # Table 1 of Irvin et al. counts studies; these are counted here with the standard library, by image
    with gzip.open(torchxrayvision_data / "chexpert_train.csv.gz", "rt") as file:
        cells = list(csv.DictReader(file))
    for name in load_vocabulary("chexpert-14").names:
        counts = Counter(cell[name] for cell in cells)
        assert table[name].sum() == counts["1.0"], name
        # 12 rows hold no label at all
        assert table[name].null_count() == counts["-1.0"] + 12, name
    assert table["No Finding"].sum() == 22381
    assert dict(table["view"].value_counts().iter_rows()) == {
        "AP": 161590,
        "PA": 29420,
        "lateral": 32387 + 16 + 1,
    }
    assert "the table holds 223414 images, the whole data set 223648." in cohort.notes
