"""PadChest: the real table of 160,861 rows, and small ones with what may be wrong in it."""

from __future__ import annotations

import ast
import csv
import gzip
import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from radlens.core.cohort import Cohort
from radlens.core.errors import DataError, SpecError
from radlens.core.mapping import FindingMapping, load_mapping
from radlens.core.spec import build_part

TABLE = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"
REMARKS = {"unchanged", "suboptimal study", "exclude"}
COLUMNS = (
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
VALUES = ("x", "0", "20140915", "s", "p", "1930.0", "F", "PA", "No", "text", "Physician", "['normal']")


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Cohort]:
    def read(*rows: dict[str, str], **options: Any) -> Cohort:
        base = dict(zip(COLUMNS, VALUES, strict=True))
        with (tmp_path / TABLE).open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(base | {"ImageID": f"{number}.png"} | row for number, row in enumerate(rows))
        cohort = build_part("datasets", "padchest", options).load(tmp_path, tmp_path)
        assert isinstance(cohort, Cohort)
        return cohort

    return read


def by_hand(cell: str, mapping: FindingMapping) -> dict[str, int | None] | None:
    """The rule of the docstring, one cell at a time; None where nothing is assessed."""
    found = [] if cell == "nan" else [name.strip() for name in ast.literal_eval(cell)]
    found = [name for name in found if name]
    if not found:
        return None
    partial = bool(REMARKS & set(found)) and "normal" not in found
    values: dict[str, int | None] = {}
    for label in mapping.assesses:
        positive = any(label in mapping.findings.get(name, ()) for name in found)
        values[label] = 1 if positive else None if partial else 0
    others = [name for name in found if name != "normal" and name not in REMARKS]
    abnormal = any(mapping.findings.get(name) != ("Support Devices",) for name in others)
    values["No Finding"] = 0 if abnormal else 1 if "normal" in found else None if partial else 0
    return values


def test_the_real_table(torchxrayvision_data: Path) -> None:
    start = time.perf_counter()
    dataset = build_part("datasets", "padchest", {"root": str(torchxrayvision_data)})
    cohort = dataset.load(torchxrayvision_data, torchxrayvision_data)
    assert time.perf_counter() - start < 10
    with gzip.open(torchxrayvision_data / f"{TABLE}.gz", "rt", newline="") as file:
        rows = list(csv.DictReader(file))
    assert (len(rows), len({row["PatientID"] for row in rows}), len({row["StudyID"] for row in rows})) == (
        160_861,
        67_625,
        109_931,
    )
    assert not any("whole data set" in note for note in cohort.notes)
    kept = [row for row in rows if row["Projection"] in ("PA", "L", "AP", "AP_horizontal")]
    assert len(cohort) == len(kept) == 160_212
    assert cohort.table["image_id"].to_list() == [row["ImageID"] for row in kept]
    assert {left.what: left.count for left in cohort.left_out} == {
        "images of projection COSTAL": 630,
        "images of projection EXCLUDE": 11,
        "images of projection UNK": 8,
    }
    mapping = load_mapping("padchest")
    known = {cell: by_hand(cell, mapping) for cell in {row["Labels"] for row in kept}}
    for label in cohort.vocabulary.names:
        expected = [values[label] if (values := known[row["Labels"]]) else None for row in kept]
        assert cohort.table[label].to_list() == expected, label
    positives = {label: int((cohort.table[label] == 1).sum()) for label in cohort.vocabulary.names}
    assert positives == {
        "No Finding": 50_195,
        "Enlarged Cardiomediastinum": 1_427,
        "Cardiomegaly": 14_976,
        "Lung Opacity": 21_007,
        "Lung Lesion": 5_466,
        "Edema": 4_637,
        "Consolidation": 2_629,
        "Pneumonia": 8_156,
        "Atelectasis": 8_936,
        "Pneumothorax": 563,
        "Pleural Effusion": 10_009,
        "Pleural Other": 5_989,
        "Fracture": 4_453,
        "Support Devices": 15_112,
    }
    assert Counter(cohort.table["view"]) == {"PA": 91_728, "lateral": 49_579, "AP": 18_905}
    assert not any("not in the mapping" in note for note in cohort.notes)
    first = cohort.table.row(0, named=True)
    assert (first["age"], first["sex"], first["label_method"], first["split"]) == (84, "F", "Physician", None)
    assert first["report"].startswith("sin hallazg")
    assert cohort.table["report"].str.contains("^nan$").sum() == 0
    assert cohort.table["padchest_findings"].null_count() == sum(row["Labels"] == "nan" for row in kept)
    assert "radiologist" not in cohort.origins["Edema"] and "physicians" in cohort.origins["Edema"]
    assert "Research Use" in cohort.source["licence"]


def test_every_finding_of_the_real_table_is_mapped(torchxrayvision_data: Path) -> None:
    with gzip.open(torchxrayvision_data / f"{TABLE}.gz", "rt", newline="") as file:
        cells = {row["Labels"] for row in csv.DictReader(file)}
    named = {name.strip() for cell in cells if cell != "nan" for name in ast.literal_eval(cell)} - {""}
    assert named == set(load_mapping("padchest").findings)


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("['normal']", {"No Finding": 1, "Edema": 0}),
        ("['normal', 'NSG tube']", {"No Finding": 1, "Support Devices": 1}),
        ("['normal', ' cardiomegaly']", {"No Finding": 0, "Cardiomegaly": 1}),
        ("['scoliosis']", {"No Finding": 0, "Cardiomegaly": 0}),
        ("['unchanged']", {"No Finding": None, "Cardiomegaly": None}),
        ("['unchanged', 'pneumonia']", {"No Finding": 0, "Pneumonia": 1, "Edema": None}),
        ("['normal', 'unchanged']", {"No Finding": 1, "Edema": 0}),
        ("['suboptimal study', 'scoliosis']", {"No Finding": 0, "Edema": None}),
        ("['hydropneumothorax']", {"Pneumothorax": 1, "Pleural Effusion": 1}),
        ("['']", {"No Finding": None, "Edema": None}),
        ("[]", {"No Finding": None, "Edema": None}),
        ("nan", {"No Finding": None, "Edema": None}),
        ("", {"No Finding": None, "Edema": None}),
        ("[\"pneumonia\", 'edema']", {"Pneumonia": 1, "Edema": 0}),
    ],
)
def test_one_cell(load: Callable[..., Cohort], cell: str, expected: dict[str, int | None]) -> None:
    row = load({"Labels": cell}).table.row(0, named=True)
    assert {label: row[label] for label in expected} == expected


def test_a_cell_is_never_evaluated(load: Callable[..., Cohort], tmp_path: Path) -> None:
    target = tmp_path / "made"
    code = f"[open({str(target)!r}, 'w').write('x')]"
    cohort = load({"Labels": code}, {"Labels": "['normal'"}, {"Labels": "normal"}, {"Labels": "['normal']"})
    assert not target.exists()
    assert cohort.table["No Finding"].to_list() == [None, None, None, 1]
    assert any(note.startswith('3 Labels cells are no list of texts, such as "[open(') for note in cohort.notes)


def test_a_finding_that_nobody_mapped_is_counted(load: Callable[..., Cohort]) -> None:
    cohort = load({"Labels": "['gossypiboma', 'pneumonia']"}, {"Labels": "['gossypiboma', 'normal']"})
    assert cohort.table["No Finding"].to_list() == [0, 0]
    assert "1 findings are not in the mapping and set no label: gossypiboma (2)." in cohort.notes


def test_views_methods_ages_and_counts(load: Callable[..., Cohort]) -> None:
    rows = (
        {"Projection": "AP_horizontal", "MethodLabel": "RNN_model", "PatientBirth": "nan"},
        {"Projection": "L", "Pediatric": "PED", "PatientBirth": "1880.0", "PatientSex_DICOM": "O"},
        {"Projection": "COSTAL"},
    )
    cohort = load(*rows)
    assert cohort.table["view"].to_list() == ["AP", "lateral"]
    assert cohort.table["projection"].to_list() == ["AP_horizontal", "L"]
    assert cohort.table["age"].to_list() == [None, None]
    assert cohort.table["sex"].to_list() == ["F", None]
    assert cohort.table["paediatric"].to_list() == [False, True]
    assert "the table holds 3 images, the whole data set 160861." in cohort.notes
    assert "1 ages are no number of years up to 120: null." in cohort.notes
    only = load(*rows, physician_only=True, projections=["L", "COSTAL"])
    assert only.table["image_id"].to_list() == ["1.png", "2.png"]
    assert only.table["view"].to_list() == ["lateral", None]
    with pytest.raises(SpecError, match="projections"):
        load(*rows, projections=["PAA"])


def test_only_present(load: Callable[..., Cohort], tmp_path: Path) -> None:
    (tmp_path / "54").mkdir()
    (tmp_path / "54" / "1.png").touch()
    (tmp_path / "54" / "2.jpg").touch()
    cohort = load({}, {}, {}, only_present=True)
    assert cohort.table["path"].to_list() == [str(tmp_path / "54" / name) for name in ("1.png", "2.jpg")]
    assert [(left.what, left.count) for left in cohort.left_out] == [("images of the table without a file", 1)]
    assert load({}).table["path"].to_list() == [f"{tmp_path}/0/0.png"]
    shutil.rmtree(tmp_path / "54")
    with pytest.raises(DataError, match="none of the 1 images of the table is in"):
        load({}, only_present=True)


def test_bad_tables(load: Callable[..., Cohort], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"ImageID '0.png' stands in rows 1, 2"):
        load({}, {"ImageID": "0.png"})
    with pytest.raises(DataError, match="row 2 has no 'ImageID'"):
        load({}, {"ImageID": " "})
    (tmp_path / TABLE).write_text("ImageID,Label\na,b\n")
    with pytest.raises(DataError, match="unknown column 'ImageDir'"):
        build_part("datasets", "padchest", {}).load(tmp_path, tmp_path)
    (tmp_path / TABLE).unlink()
    with pytest.raises(DataError, match=r"holds no PADCHEST.*name the folder of the release"):
        build_part("datasets", "padchest", {}).load(tmp_path, tmp_path)


def test_another_vocabulary(load: Callable[..., Cohort], tmp_path: Path) -> None:
    label = '[[label]]\nname = "{}"\npositive = ["a"]\nnegative = ["b"]\n'
    (tmp_path / "v.toml").write_text('name = "v"\n' + label.format("Edema") + label.format("Goiter"))
    cohort = load({"Labels": "['pulmonary edema']"}, vocabulary="v.toml")
    assert cohort.table["Edema"].to_list() == [1] and cohort.table["Goiter"].to_list() == [None]
    assert cohort.table.columns[-2:] == ["Edema", "Goiter"]
    assert isinstance(cohort.table, pl.DataFrame) and cohort.origins["Goiter"] == "not assessed by PadChest"
    (tmp_path / "w.toml").write_text('name = "w"\n' + label.format("Goiter"))
    with pytest.raises(DataError, match="PadChest assesses none of the labels of vocabulary w"):
        load({}, vocabulary="w.toml")
