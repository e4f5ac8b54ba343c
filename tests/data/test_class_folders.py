"""Class folders: names to labels, what the other labels are, patients in file names, ready-made splits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from radlens.core.cohort import Cohort
from radlens.core.errors import DataError, RadlensError, SpecError
from radlens.core.spec import build_part

Load = Callable[..., Cohort]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def read(*files: str, **options: Any) -> Cohort:
        for name in files:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        cohort = build_part("datasets", "folder", options).load(tmp_path, tmp_path)
        assert isinstance(cohort, Cohort)
        return cohort

    return read


def column(cohort: Cohort, label: str) -> list[int | None]:
    return cohort.table[label].to_list()


def test_names_and_what_is_certain(load: Load, tmp_path: Path) -> None:
    cohort = load("NORMAL/a.png", "pleural_effusion/b.jpg", "pleural_effusion/c.DCM", "Pneumonia/d.tiff", ".git/x.png")
    assert cohort.table["class"].to_list() == ["NORMAL", "Pneumonia", "pleural_effusion", "pleural_effusion"]
    assert cohort.table["image_id"].to_list() == ["a.png", "d.tiff", "b.jpg", "c.DCM"]
    assert cohort.table["path"][0] == str(tmp_path / "NORMAL" / "a.png")
    assert column(cohort, "No Finding") == [1, 0, 0, 0]
    # nobody said that a film of pneumonia has no effusion
    assert column(cohort, "Pneumonia") == [0, 1, None, None]
    assert column(cohort, "Pleural Effusion") == [0, None, 1, 1]
    assert column(cohort, "Edema") == [None] * 4
    assert cohort.origins["Edema"] == "no class folder stands for it"
    assert cohort.origins["Pneumonia"] == "the class folder Pneumonia that an image lies in"
    assert any("name no patient" in note for note in cohort.notes)


def test_others_may_be_negative(load: Load) -> None:
    cohort = load("Edema/a.png", "Pneumonia/b.png", others="negative")
    assert column(cohort, "Edema") == [1, 0] and column(cohort, "Pneumonia") == [0, 1]
    assert column(cohort, "Fracture") == [None, None]


def test_mapped_folders(load: Load) -> None:
    files = ("covid/a.png", "junk/b.png", "junk/c.png", "lungs/d.png", "normal/e.png", "tb/f.png")
    labels = {"covid": ["Lung Opacity", "Pneumonia"], "lungs": "Lung Lesion", "tb": ""}
    cohort = load(*files, labels=labels, leave_out=["junk"])
    assert cohort.table["image_id"].to_list() == ["a.png", "d.png", "e.png", "f.png"]
    assert column(cohort, "Pneumonia") == [1, None, 0, None]
    assert column(cohort, "Lung Lesion") == [None, 1, 0, None]
    assert column(cohort, "No Finding") == [0, 0, 1, 0]
    assert [(left.what, left.count) for left in cohort.left_out] == [("images of folder junk", 2)]


def test_patients(load: Load) -> None:
    files = ("normal/13_a.png", "Edema/13_b.png", "Edema/7_a.png", "Edema/stray.png")
    cohort = load(*files, patient_pattern=r"^(\d+)_")
    assert dict(zip(cohort.table["image_id"], cohort.table["patient_id"], strict=True)) == {
        "13_a.png": "13",
        "13_b.png": "13",
        "7_a.png": "7",
        "stray.png": None,
    }
    assert "patient_pattern does not fit 1 images, such as stray.png." in cohort.notes


def test_a_folder_for_each_patient(load: Load) -> None:
    cohort = load("normal/p1/view1.png", "normal/p2/view1.png", "Edema/p3/s/view1.png", patient_pattern="^([^/]+)/")
    assert cohort.table["patient_id"].to_list() == ["p3", "p1", "p2"]
    assert cohort.table["image_id"].to_list() == ["Edema/p3/s/view1.png", "normal/p1/view1.png", "normal/p2/view1.png"]
    assert any("1 file names stand more than once, such as view1.png" in note for note in cohort.notes)


def test_ready_made_splits(load: Load) -> None:
    files = ("train/normal/1_a.png", "train/Edema/2_b.png", "Valid/Edema/3_c.png", "test/Edema/2_d.png")
    cohort = load(*files, patient_pattern=r"^(\d+)_")
    assert dict(zip(cohort.table["image_id"], cohort.table["split"], strict=True)) == {
        "1_a.png": "train",
        "2_b.png": "train",
        "3_c.png": "val",
        "2_d.png": "test",
    }
    assert any(note.startswith("1 patients have images in more than one of the train") for note in cohort.notes)


def test_images_beside_the_folders_are_counted(load: Load) -> None:
    cohort = load("normal/a.png", "stray.png", "notes.txt", "normal/notes.txt")
    assert [(left.what, left.count) for left in cohort.left_out] == [("images outside any class folder", 1)]


@pytest.mark.parametrize(
    ("files", "options", "error", "sentence"),
    [
        (("Pneumona/a.png",), {}, SpecError, "unknown label 'Pneumona'. Did you mean 'Pneumonia'?"),
        (("covid/a.png",), {}, SpecError, "pass it over with `leave_out: [covid]`"),
        (("Edema/a.png",), {"labels": {"edma": "Edema"}}, SpecError, "unknown class folder 'edma'"),
        (("Edema/a.png",), {"labels": {"Edema": "Edma"}}, SpecError, "unknown label 'Edma'"),
        (("Edema/a.png",), {"leave_out": ["x"]}, SpecError, "leave_out: unknown class folder 'x'"),
        (("Edema/a.png",), {"patient_pattern": "(a"}, SpecError, "is no regular expression"),
        (("Edema/a.png",), {"patient_pattern": "a"}, SpecError, "has 0 groups; expected one"),
        (("Edema/a.png",), {"patient_pattern": "^(z+)"}, SpecError, "fits no image"),
        (("Edema/a.png",), {"others": "zero"}, SpecError, "others: expected 'not-assessed' or 'negative'"),
        (("x/a.png",), {"labels": {"x": ""}}, SpecError, "none of the folders"),
        (("Edema/a.txt",), {}, DataError, "its 1 class folders hold no image"),
        (("a.png",), {}, DataError, "has no sub-folder; expected one for each class"),
        ((), {"images": "nowhere"}, DataError, "nowhere cannot be listed"),
    ],
)
def test_bad_folders(
    load: Load, files: tuple[str, ...], options: dict[str, Any], error: type[RadlensError], sentence: str
) -> None:
    with pytest.raises(error) as raised:
        load(*files, **options)
    assert sentence in str(raised.value) and "\n" not in str(raised.value)
