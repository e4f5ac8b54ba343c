"""The RSNA challenge: the real tables of 26,684 films, and small ones with what may be wrong in them."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from radlens.core.cohort import Cohort
from radlens.core.errors import DataError, ImageError, SpecError
from radlens.core.spec import build_part

LABELS = """patientId,x,y,width,height,Target
a,,,,,0
b,,,,,0
c,100,200,300,400,1
c,10.0,20.0,30.0,40.0,1
"""
CLASSES = """patientId,class
a,Normal
b,No Lung Opacity / Not Normal
c,Lung Opacity
c,Lung Opacity
"""
HEADERS = """,PatientAge,PatientID,PatientSex,ViewPosition
0,58,a,F,PA
1,151,b,M,AP
2,7,c,M,AP
"""
PATIENTS = [
    {"subset_img_id": "a", "img_id": "00000013_005.png", "orig_labels": ["No Finding"]},
    {"subset_img_id": "c", "img_id": "00000013_006.png", "orig_labels": []},
    {"subset_img_id": "z", "img_id": "00030805_000.png", "orig_labels": []},
]
TABLE = "stage_2_train_labels.csv"


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Cohort]:
    def read(
        labels: str = LABELS,
        classes: str | None = None,
        headers: str | None = None,
        patients: Any = None,
        **options: Any,
    ) -> Cohort:
        files = {
            TABLE: labels,
            "stage_2_detailed_class_info.csv": classes,
            "kaggle_stage_2_train_images_dicom_headers.csv": headers,
            "pneumonia-challenge-dataset-mappings_2018.json": json.dumps(patients) if patients is not None else None,
        }
        for name, text in files.items():
            (tmp_path / name).unlink(missing_ok=True)
            if text is not None:
                (tmp_path / name).write_text(text)
        cohort = build_part("datasets", "rsna-pneumonia", options).load(tmp_path, tmp_path)
        assert isinstance(cohort, Cohort)
        return cohort

    return read


def test_all_four_tables(load: Callable[..., Cohort], tmp_path: Path) -> None:
    cohort = load(classes=CLASSES, headers=HEADERS, patients=PATIENTS)
    table = cohort.table
    assert table["image_id"].to_list() == ["a", "b", "c"]
    assert table["path"][0] == f"{tmp_path}/stage_2_train_images/a.dcm"
    assert table["Lung Opacity"].to_list() == [0, 0, 1]
    assert table["Pneumonia"].to_list() == [0, 0, 1]
    assert table["No Finding"].to_list() == [1, 0, 0]
    assert table["Consolidation"].null_count() == 3
    assert table["patient_id"].to_list() == ["13", None, "13"]
    assert table["age"].to_list() == [58, None, 7] and table["sex"].to_list() == ["F", "M", "M"]
    assert table["view"].to_list() == ["PA", "AP", "AP"]
    assert table["split"].null_count() == 3
    assert "1 ages are no number of years up to 120: null." in cohort.notes
    assert "not confirmed" in cohort.origins["Pneumonia"]
    assert cohort.origins["Edema"] == "not assessed by these RSNA tables"


@pytest.mark.parametrize(("suspected", "value"), [("ones", 1), ("zeros", 0), ("ignore", None)])
def test_suspected(load: Callable[..., Cohort], suspected: str, value: int | None) -> None:
    assert load(suspected=suspected).table["Pneumonia"].to_list() == [0, 0, value]


def test_the_table_of_labels_alone(load: Callable[..., Cohort]) -> None:
    cohort = load()
    assert cohort.table["No Finding"].null_count() == 3
    assert cohort.origins["No Finding"] == "not assessed by these RSNA tables"
    assert cohort.table["patient_id"].null_count() == 3
    assert any("patientId names an image" in note for note in cohort.notes)


def test_boxes_follow_the_size_of_the_image(load: Callable[..., Cohort], tmp_path: Path) -> None:
    dataset = build_part("datasets", "rsna-pneumonia", {})
    image = tmp_path / "stage_2_train_images" / "c.png"
    image.parent.mkdir()
    Image.new("L", (512, 512)).save(image)
    found = dataset.annotations(load(), ["a", "c"])
    assert [(r.image_id, r.label, r.shape.x, r.shape.y, r.shape.width, r.shape.height) for r in found.regions] == [
        ("c", "Lung Opacity", 50, 100, 150, 200),
        ("c", "Pneumonia", 50, 100, 150, 200),
        ("c", "Lung Opacity", 5, 10, 15, 20),
        ("c", "Pneumonia", 5, 10, 15, 20),
    ]
    ignored = build_part("datasets", "rsna-pneumonia", {"suspected": "ignore"}).load(tmp_path, tmp_path)
    assert {region.label for region in dataset.annotations(ignored, ["c"]).regions} == {"Lung Opacity"}
    Image.new("L", (512, 400)).save(image)
    with pytest.raises(ImageError, match="512 x 400 pixels; a box drawn at 1024 x 1024 needs a square"):
        dataset.annotations(load(), ["c"])
    image.write_bytes(b"no image")
    with pytest.raises(ImageError, match="its size cannot be read"):
        dataset.annotations(load(), ["c"])


def test_a_dicom_tells_its_size_without_its_pixels(shared: Path) -> None:
    from pydicom import dcmread

    from radlens.data.image_size import image_size

    path = next(path for path in sorted((shared / "dicom").rglob("*")) if path.suffix.lower() in (".dcm", ".dicom"))
    pixels = dcmread(path)
    assert image_size(path) == (pixels.Columns, pixels.Rows)


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        ({"labels": LABELS.replace("a,,,,,0", "a,,,,,yes")}, "row 1 has 'yes' for 'Target'"),
        ({"labels": LABELS.replace("a,,,,,0", "a,,,,,-1")}, "row 1 has -1 for 'Target'"),
        ({"labels": LABELS + "c,,,,,0\n"}, "image c has Target 1 in one row and 0 or blank in another"),
        ({"labels": LABELS.replace("b,,", " ,,")}, "row 2 has no 'patientId'"),
        ({"labels": LABELS.replace("Target", "target")}, "unknown column 'Target'. Did you mean 'target'?"),
        ({"classes": CLASSES.replace("Normal\n", "Norm\n", 1)}, "row 1 has class 'Norm'; expected one of Normal"),
        ({"classes": CLASSES + "a,Lung Opacity\n"}, "image a has two classes"),
        ({"classes": CLASSES.replace("a,Normal", "a,Lung Opacity")}, "image a has Target 0 in"),
        ({"headers": HEADERS.replace("1,151,b", "1,151,a")}, "PatientID 'a' stands in rows 1, 2"),
        ({"patients": {"a": 1}}, "expected a JSON list of entries with subset_img_id and img_id"),
        ({"patients": [{"subset_img_id": "a"}]}, "(no 'img_id')"),
        ({"patients": [*PATIENTS, PATIENTS[0] | {"img_id": "00000014_000.png"}]}, "image a is said to be two images"),
        ({"headers": None, "root": "elsewhere"}, "holds no stage_2_train_labels.csv"),
        ({"patients": None, "classes": None, "table": "x.csv"}, "x.csv does not exist"),
    ],
)
def test_bad_tables(load: Callable[..., Cohort], parts: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DataError) as raised:
        load(**parts)
    assert sentence in str(raised.value) and "\n" not in str(raised.value)


def test_an_option_that_does_not_exist(load: Callable[..., Cohort]) -> None:
    with pytest.raises(SpecError, match="suspected: expected 'zeros', 'ones' or 'ignore'"):
        load(suspected="maybe")


def zipped(path: Path, members: dict[str, str]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name, text)


def read(folder: Path) -> Cohort:
    cohort = build_part("datasets", "rsna-pneumonia", {}).load(folder, folder)
    assert isinstance(cohort, Cohort)
    return cohort


def test_a_zipped_table(tmp_path: Path) -> None:
    path = tmp_path / f"{TABLE}.zip"
    # a member's own path is not used, so it cannot lead out of anywhere
    zipped(path, {f"../../{TABLE}": LABELS, f"__MACOSX/._{TABLE}": "x", "readme.txt": "x"})
    assert read(tmp_path).table["Lung Opacity"].to_list() == [0, 0, 1]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [path.name]


def test_bad_archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / f"{TABLE}.zip"
    for content, sentence in (
        ({"readme.txt": "x"}, "expected one table (.csv) in it, found none"),
        ({"a.csv": LABELS, "b.csv": LABELS}, "found a.csv, b.csv"),
        ({"a.csv": "x,y\n"}, f"{path} (a.csv) has column names but no rows"),
    ):
        zipped(path, content)
        with pytest.raises(DataError) as raised:
            read(tmp_path)
        assert sentence in str(raised.value) and "\n" not in str(raised.value)
    zipped(path, {"a.csv": LABELS})
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match=r"cannot be read .* download it again"):
        read(tmp_path)
    zipped(path, {"a.csv": LABELS})
    packed = bytearray(path.read_bytes())
    packed[45] ^= 255
    path.write_bytes(packed)
    with pytest.raises(DataError, match="cannot be read"):
        read(tmp_path)
    zipped(path, {"a.csv": LABELS})
    monkeypatch.setattr("radlens.data.zipped_table._LARGEST", 20)
    with pytest.raises(DataError, match=r"claims [0-9]+ bytes, too many for a table"):
        read(tmp_path)


def test_only_present(load: Callable[..., Cohort], tmp_path: Path) -> None:
    folder = tmp_path / "films" / "stage_2_train_images"
    folder.mkdir(parents=True)
    (folder / "b.dcm").touch()
    cohort = load(only_present=True, images="films")
    assert cohort.table["path"].to_list() == [str(folder / "b.dcm")]
    assert [(left.what, left.count) for left in cohort.left_out] == [("images of the table without a file", 2)]


def test_the_real_tables(torchxrayvision_data: Path) -> None:
    dataset = build_part("datasets", "rsna-pneumonia", {"root": str(torchxrayvision_data)})
    cohort = dataset.load(torchxrayvision_data, torchxrayvision_data)
    with zipfile.ZipFile(torchxrayvision_data / "kaggle_stage_2_train_labels.csv.zip") as archive:
        text = io.StringIO(archive.read("stage_2_train_labels.csv").decode())
    rows = list(csv.DictReader(text))
    assert len(rows) == 30_227
    target = {row["patientId"]: int(row["Target"]) for row in rows}
    assert len(cohort) == len(target) == 26_684
    assert dict(zip(cohort.table["image_id"], cohort.table["Lung Opacity"], strict=True)) == target
    assert sum(target.values()) == 6_012
    assert not any("whole data set" in note for note in cohort.notes)
    assert "5 ages are no number of years up to 120: null." in cohort.notes
    views = cohort.table["view"].value_counts().sort("view").rows()
    assert views == [("AP", 12_173), ("PA", 14_511)]
    found = dataset.annotations(cohort, [name for name, value in target.items() if value])
    assert len(found.regions) == 2 * 9_555
    assert found.left_out == {}
