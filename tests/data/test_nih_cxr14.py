"""ChestX-ray14: the released tables give the true counts, and a folder in the released layout becomes a cohort."""

from __future__ import annotations

import csv
import gzip
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image

from radlens.core.cohort import Cohort, LeftOut
from radlens.core.errors import DataError, ImageError
from radlens.core.mapping import load_mapping
from radlens.core.parts import Dataset
from radlens.core.regions import Box
from radlens.core.spec import build_part
from radlens.data.cards import load_card
from radlens.data.image_folder import index_images

HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
ROWS = [
    "00000001_000.png,Cardiomegaly|Emphysema,0,1,58,M,PA,2682,2749,0.143,0.143",
    "00000002_000.png,No Finding,0,2,414,F,AP,2500,2048,0.168,0.168",
    "00000003_000.png,Infiltration|Nodule,0,3,,F,PA,2500,2048,0.168,0.168",
    "00000003_001.png,Hernia,1,3,75,F,PA,2500,2048,0.168,0.168",
]
IDS = [row.partition(",")[0] for row in ROWS]
BOXES = "Image Index,Finding Label,Bbox [x,y,w,h],,,"


def table(rows: list[str], header: str = HEADER) -> str:
    return "\n".join([header, *rows]) + "\n"


def dataset(**options: Any) -> Dataset:
    part = build_part("datasets", "nih-cxr14", options)
    assert isinstance(part, Dataset)
    return part


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """Four images in two of the folders of the release, the official lists, and boxes."""
    (tmp_path / "Data_Entry_2017_v2020.csv").write_text(table(ROWS))
    (tmp_path / "train_val_list.txt").write_text(f"{IDS[0]}\n{IDS[1]}\n")
    (tmp_path / "test_list.txt").write_text(f"{IDS[2]}\n{IDS[3]}")
    boxes = [f"{IDS[0]},Cardiomegaly,100,200,300,400", f"{IDS[2]},Infiltrate,0.5,0,1023.5,512.25"]
    (tmp_path / "BBox_List_2017.csv").write_text(table(boxes, BOXES))
    for number, (name, size) in enumerate(zip(IDS, (1024, 64, 512, 64), strict=True), 1):
        images = tmp_path / f"images_00{(number + 1) // 2}" / "images"
        images.mkdir(parents=True, exist_ok=True)
        Image.new("L", (size, size)).save(images / name)
    return tmp_path


@pytest.fixture
def load(release: Path) -> Callable[..., Cohort]:
    return lambda **options: dataset(**options).load(release, release)


@pytest.fixture(scope="module")
def real(torchxrayvision_data: Path) -> tuple[Cohort, float]:
    started = time.perf_counter()
    cohort = dataset(root=str(torchxrayvision_data)).load(Path(), Path())
    return cohort, time.perf_counter() - started


def test_the_released_layout(load: Callable[..., Cohort], release: Path) -> None:
    cohort = load()
    assert cohort.table["image_id"].to_list() == IDS
    assert cohort.table["path"][3] == str(release / "images_002" / "images" / IDS[3])
    assert all(Path(path).is_file() for path in cohort.table["path"])
    assert cohort.table["patient_id"].to_list() == ["1", "2", "3", "3"]
    assert cohort.table["study_id"].null_count() == 4
    assert cohort.table["view"].to_list() == ["PA", "AP", "PA", "PA"]
    assert cohort.table["sex"].to_list() == ["M", "F", "F", "F"]
    assert cohort.table["split"].to_list() == ["train", "train", "test", "test"]
    assert cohort.table["age"].to_list() == [58, None, None, 75]
    assert "1 ages are no number of years up to 120: null." in cohort.notes
    labels = cohort.table.select(cohort.vocabulary.names).to_dicts()
    assert [[name for name, value in row.items() if value == 1] for row in labels] == [
        ["Cardiomegaly"],
        ["No Finding"],
        ["Lung Opacity", "Lung Lesion"],
        [],
    ]
    # an image with Hernia alone is not normal
    assert labels[3]["No Finding"] == 0
    assert {name for name, value in labels[0].items() if value is None} == {
        "Enlarged Cardiomediastinum",
        "Fracture",
        "Support Devices",
    }
    assert cohort.origins["Pleural Effusion"].endswith(": Effusion -> Pleural Effusion")
    assert cohort.origins["Pleural Other"].endswith(": Pleural Thickening -> Pleural Other")
    assert cohort.origins["Edema"] == cohort.origins["Cardiomegaly"]
    assert "not assessed" in cohort.origins["Fracture"]
    assert set(cohort.origins) == set(cohort.vocabulary.names)
    assert cohort.left_out == ()
    assert "the table holds 4 images, the whole data set 112120." in cohort.notes


def test_the_older_table_and_its_ages(release: Path) -> None:
    (release / "Data_Entry_2017_v2020.csv").unlink()
    # the older release writes ages with a unit, and a separator at the end of every line
    older = [row.replace(",58,", ",058Y,").replace(",414,", ",013M,") + "," for row in ROWS]
    with gzip.open(release / "Data_Entry_2017.csv.gz", "wt") as file:
        file.write(table(older, HEADER + ","))
    cohort = dataset().load(release, release)
    assert cohort.table["age"].to_list() == [58, 1, None, 75]


def test_only_present_counts_what_has_no_file(load: Callable[..., Cohort], release: Path) -> None:
    (release / "images_002" / "images" / IDS[2]).unlink()
    assert len(load()) == 4
    cohort = load(only_present=True)
    assert cohort.table["image_id"].to_list() == [IDS[0], IDS[1], IDS[3]]
    assert cohort.left_out == (LeftOut("images of the table without a file", 1, (IDS[2],)),)
    (release / "elsewhere").mkdir()
    with pytest.raises(DataError, match=r"none of the 4 images .*elsewhere.* `images:`"):
        load(only_present=True, images="elsewhere")


def test_boxes_follow_the_size_of_the_images(load: Callable[..., Cohort]) -> None:
    cohort = load()
    found = dataset().annotations(cohort, IDS)
    assert found is not None
    assert [(r.image_id, r.label, r.shape, r.reader) for r in found.regions] == [
        (IDS[0], "Cardiomegaly", Box(100, 200, 300, 400), "radiologist"),
        (IDS[2], "Lung Opacity", Box(0.25, 0, 511.75, 256.125), "radiologist"),
    ]
    assert found.left_out == {}
    only = dataset().annotations(cohort, IDS[:1])
    assert only is not None
    assert only.image_ids() == (IDS[0],)


def test_boxes_that_cannot_be_used_are_counted(load: Callable[..., Cohort], release: Path) -> None:
    boxes = [f"{IDS[0]},Cardiomegaly,1,2,3,4,,,", "strange.png,Mass,1,2,3,4,,,", f"{IDS[1]},Cavity,1,2,3,4,,,"]
    (release / "BBox_List_2017.csv").write_text(table(boxes, BOXES))
    found = dataset().annotations(load(), IDS)
    assert found is not None
    assert len(found.regions) == 1
    assert found.left_out == {"image not in the cohort": 1, "finding 'Cavity' has no label in chexpert-14": 1}


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ("00000001_000.png,Mass,1,2,x,4", "row 1 has 'x' for width; expected pixels"),
        ("00000001_000.png,Mass,1,2,0,4", "row 1 has '0' for width; expected pixels"),
        ("00000001_000.png,Mass,1,2", "row 1 is '00000001_000.png,Mass,1,2'; expected image, finding, x, y, w, h"),
        ("00000001_000.png,Mass,1000,2,50,4", "row 1: the box on 00000001_000.png reaches beyond the 1024"),
    ],
)
def test_a_box_that_is_none(load: Callable[..., Cohort], release: Path, row: str, sentence: str) -> None:
    (release / "BBox_List_2017.csv").write_text(table([row], BOXES))
    with pytest.raises(DataError, match=r"BBox_List_2017\.csv") as caught:
        dataset().annotations(load(), IDS)
    assert sentence in str(caught.value)


def test_a_box_on_a_cropped_image(load: Callable[..., Cohort], release: Path) -> None:
    Image.new("L", (1024, 800)).save(release / "images_001" / "images" / IDS[0])
    with pytest.raises(ImageError, match="needs a square image"):
        dataset().annotations(load(), IDS)


def test_without_boxes_and_lists(load: Callable[..., Cohort], release: Path) -> None:
    for name in ("BBox_List_2017.csv", "train_val_list.txt", "test_list.txt"):
        (release / name).unlink()
    cohort = load()
    assert dataset().annotations(cohort, IDS) is None
    assert cohort.table["split"].null_count() == 4
    assert any("official split is not known" in note for note in cohort.notes)


@pytest.mark.parametrize(
    ("change", "options", "sentence"),
    [
        ({"Data_Entry_2017_v2020.csv": None}, {}, "holds no Data_Entry_2017_v2020.csv and no Data_Entry_2017.csv"),
        ({}, {"table": "mine.csv"}, "mine.csv does not exist; expected the file that is released as Data_Entry"),
        ({}, {"boxes": "b.csv"}, "b.csv does not exist; expected the file that is released as BBox_List_2017.csv"),
        ({}, {"images": "films"}, "films does not exist; name it with `images:`"),
        ({"test_list.txt": None}, {}, "test_list.txt is not in"),
        ({"test_list.txt": ""}, {}, "test_list.txt is empty"),
        ({"test_list.txt": f"{IDS[0]}\n{IDS[2]}\n"}, {}, f"image {IDS[0]} stands in"),
        (
            {"train_val_list.txt": f"{IDS[0]}\n{IDS[2]}\n", "test_list.txt": f"{IDS[1]}\n{IDS[3]}\n"},
            {},
            "patient '3' stands in train and test (1 patients do)",
        ),
        (
            {"Data_Entry_2017_v2020.csv": table([*ROWS, ROWS[0]])},
            {},
            "Image Index '00000001_000.png' stands in rows 1, 5",
        ),
        (
            {"Data_Entry_2017_v2020.csv": table([ROWS[0], ROWS[1].replace("No Finding", "Efusion")])},
            {},
            "row 2 has 'Efusion' in 'Finding Labels': unknown finding 'Efusion'. Did you mean 'Effusion'?",
        ),
        (
            {"Data_Entry_2017_v2020.csv": table([",".join(ROWS[0].split(",")[:2])], "Image Index,Finding Labels")},
            {},
            "unknown column 'Patient ID'",
        ),
    ],
)
def test_bad_input_is_one_sentence(
    load: Callable[..., Cohort], release: Path, change: dict[str, str | None], options: dict[str, str], sentence: str
) -> None:
    for name, text in change.items():
        (release / name).unlink() if text is None else (release / name).write_text(text)
    with pytest.raises(DataError) as caught:
        load(**options)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_lists_longer_than_the_table_are_counted(load: Callable[..., Cohort], release: Path) -> None:
    (release / "test_list.txt").write_text(f"{IDS[2]}\n99999999_000.png\n")
    cohort = load()
    assert cohort.table["split"].to_list() == ["train", "train", "test", None]
    assert "1 of 4 images stand in no list of the official split." in cohort.notes
    assert cohort.left_out[0].examples == ("99999999_000.png",)


def test_an_image_that_lies_there_twice(load: Callable[..., Cohort], release: Path) -> None:
    copies = release / "copies"
    copies.mkdir()
    Image.new("L", (8, 8)).save(copies / IDS[1])
    with pytest.raises(DataError, match=rf"holds {IDS[1]} more than once .* `images:`"):
        load()


def test_a_vocabulary_of_nih_own_words(load: Callable[..., Cohort], release: Path) -> None:
    labels = "".join(
        f'[[label]]\nname = "{name}"\npositive = ["a"]\nnegative = ["b"]\n' for name in ("Emphysema", "Hernia")
    )
    (release / "own.toml").write_text(f'name = "own"\n{labels}')
    cohort = load(vocabulary="own.toml")
    np.testing.assert_array_equal(cohort.targets(), [[1, 0], [0, 0], [0, 0], [0, 1]])


def test_the_real_table(real: tuple[Cohort, float], torchxrayvision_data: Path) -> None:
    cohort, seconds = real
    expected = load_card("nih-cxr14").expected
    assert (len(cohort), cohort.table["patient_id"].n_unique()) == (112120, 30805)
    assert (expected.images, expected.patients) == (112120, 30805)
    assert seconds < 10
    assert not any("the whole data set" in note for note in cohort.notes)
    # counted here with the standard library alone
    with gzip.open(torchxrayvision_data / "Data_Entry_2017_v2020.csv.gz", "rt") as file:
        cells = [row["Finding Labels"].split("|") for row in csv.DictReader(file)]
    findings = Counter(finding for cell in cells for finding in cell)
    assert len(findings) == 15
    for label, source in {"No Finding": "No Finding", "Pleural Effusion": "Effusion", "Edema": "Edema"}.items():
        assert cohort.table[label].sum() == findings[source]
    assert cohort.table["Lung Lesion"].sum() == sum("Mass" in cell or "Nodule" in cell for cell in cells) == 11207
    assert cohort.table["No Finding"].sum() == 60361
    assert dict(cohort.table["view"].value_counts().iter_rows()) == {"PA": 67310, "AP": 44810}
    assert dict(cohort.table["sex"].value_counts().iter_rows()) == {"M": 63340, "F": 48780}
    assert cohort.table["age"].null_count() == 0


def test_the_real_boxes(real: tuple[Cohort, float], tmp_path: Path) -> None:
    cohort, _ = real
    # without images no box can be placed: one blank film stands for all
    Image.new("L", (512, 512)).save(tmp_path / "film.png")
    placed = Cohort(
        cohort.name,
        cohort.table.with_columns(path=pl.lit(str(tmp_path / "film.png"))),
        cohort.vocabulary,
        cohort.source,
    )
    found = dataset().annotations(placed, cohort.table["image_id"].to_list())
    assert found is not None
    assert found.left_out == {}
    assert len(found.regions) == 984
    assert len(found.image_ids()) == 880
    assert Counter(region.label for region in found.regions) == {
        "Atelectasis": 180,
        "Pleural Effusion": 153,
        "Cardiomegaly": 146,
        "Lung Opacity": 123,
        "Pneumonia": 120,
        "Pneumothorax": 98,
        "Lung Lesion": 85 + 79,
    }
    first = next(region for region in found.regions if region.image_id == "00013118_008.png")
    assert isinstance(first.shape, Box)
    assert first.shape.x == pytest.approx(225.084745762712 / 2)


def test_the_mapping_agrees_with_labels_made_elsewhere(shared: Path) -> None:
    rows = pl.read_csv(shared / "nih_dev" / "labels.csv", infer_schema=False)
    mapping = load_mapping("nih-cxr14")
    made = rows.select(mapping.columns(pl.col("nih_labels").str.split("|")))
    assert rows.height == 538
    for label in mapping.assesses:
        assert made[label].to_list() == rows[label].cast(pl.Int8).to_list(), label
    for label in ("Enlarged Cardiomediastinum", "Fracture", "Support Devices"):
        assert label not in mapping.assesses
        assert rows[label].null_count() == 538


def test_the_folder_of_real_images_is_a_cohort(shared: Path, torchxrayvision_data: Path) -> None:
    images = shared / "nih_dev" / "images"
    cohort = dataset(root=str(torchxrayvision_data), images=str(images.resolve()), only_present=True).load(
        Path(), Path()
    )
    assert len(cohort) == len(list(images.glob("*.png")))
    assert cohort.left_out[0].count == 112120 - len(cohort)
    found = dataset().annotations(cohort, cohort.table["image_id"].to_list())
    assert found is not None
    theirs = pl.read_csv(shared / "nih_dev" / "boxes.csv").filter(pl.col("source") == "NIH_BBox_2017")
    assert len(found.regions) == theirs.height > 0
    assert Counter(region.image_id for region in found.regions) == Counter(theirs["image"].to_list())
    ours = sorted((r.image_id, r.shape.x, r.shape.width) for r in found.regions if isinstance(r.shape, Box))
    written = sorted(theirs.select("image", "x_384", "w_384").iter_rows())
    for mine, other in zip(ours, written, strict=True):
        assert mine[0] == other[0]
        # written with three decimals
        assert mine[1:] == pytest.approx(other[1:], abs=1e-3)


def test_a_tree_is_listed_once_and_without_what_is_hidden(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    for name in ("a/b/1.PNG", "a/2.jpg", "a/._2.jpg", "a/notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "a" / "b" / "again").symlink_to(tmp_path / "a", target_is_directory=True)
    assert index_images(tmp_path, (".png", ".jpg")) == {
        "1.PNG": str(tmp_path / "a" / "b" / "1.PNG"),
        "2.jpg": str(tmp_path / "a" / "2.jpg"),
    }
    with pytest.raises(DataError, match="cannot be listed"):
        index_images(tmp_path / "nowhere")
