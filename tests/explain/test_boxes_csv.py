"""Boxes in a table: what is read, what is counted, what is refused and in which words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from PIL import Image

from radlens.core.errors import DataError, SpecError
from radlens.core.regions import Box, Region
from radlens.core.spec import build_part
from radlens.core.vocabulary import load_vocabulary

LABELS = ("Pneumonia", "Lung Opacity")
SIZES = {"a": (100, 100), "b": (200, 100)}


def read(tmp_path: Path, text: str, name: str = "boxes.csv", **options: Any) -> Any:
    path = tmp_path / name
    path.write_text(text)
    return build_part("formats", "boxes-csv", options).read(path, LABELS, SIZES)


def test_reads_maps_and_counts(tmp_path: Path) -> None:
    text = (
        "image,label,x,y,w,h,who\na,Pneumonia,1,2,3.5,4,r1\nb,opacity,0,0,200.5,100,\nz,Pneumonia,1,1,1,1,r1\n"
        "a,Mass,1,1,1,1,r1\na,Pneumonia,,,,,r2\n"
    )
    found = read(tmp_path, text, labels={"opacity": ["Lung Opacity", "Pneumonia"]}, reader_column="who")
    assert found.regions == (
        Region("a", "Pneumonia", Box(1, 2, 3.5, 4), "r1"),
        Region("b", "Lung Opacity", Box(0, 0, 200, 100), "reader"),
        Region("b", "Pneumonia", Box(0, 0, 200, 100), "reader"),
    )
    assert found.left_out == {"image not in the cohort": 1, "label 'Mass' not in the vocabulary": 1, "no box": 1}


def test_scales_from_the_size_they_were_drawn_at(tmp_path: Path) -> None:
    text = "img\tlabel\tleft\tup\twide\thigh\nb\tPneumonia\t400\t100\t200\t50\n"
    columns = {"image_column": "img", "x": "left", "y": "up", "width": "wide", "height": "high"}
    found = read(tmp_path, text, "boxes.tsv", drawn_at=[800, 400], **columns)
    assert found.regions[0].shape == Box(100, 25, 50, 12.5)


@pytest.mark.parametrize(
    ("line", "options", "sentence"),
    [
        ("a,Pneumonia,60,0,50,9", {}, r"row 2: the box on a spans 60 to 110 across, outside the 100 pixels of the im"),
        ("a,Pneumonia,0,-5,50,9", {}, r"row 2: the box on a spans -5 to 4 down.*say drawn_at: \[width, height\], or"),
        ("a,Pneumonia,0,999,9,99", {"drawn_at": [1024, 1024]}, r"999 to 1098 down, outside the 1024 pixels of the siz"),
        ("b,Pneumonia,0,9,9,9", {"drawn_at": [1024, 1024]}, r"drawn_at 1024x1024 has another shape than image b of 20"),
        ("a,Pneumonia,0,ten,9,9", {}, r"row 2: expected a number in column 'y', found 'ten'"),
        ("a,Pneumonia,0,,9,9", {}, r"row 2: expected a number in column 'y', found None"),
        ("a,Pneumonia,0,inf,9,9", {}, r"expected a number in column 'y', found 'inf'"),
        ("a,Pneumonia,0,0,9,0", {}, r"row 2: expected a box with a width and height above 0, found 9 x 0"),
        ("z,Pneumonia,0,0,9,9", {}, r"holds no box for this cohort \(image not in the cohort: 1\)"),
        ("a,Mass,0,0,9,9", {}, r"label 'Mass' not in the vocabulary: 1.*labels: \{file label: Pneumonia\}"),
        ("a,Mass,0,0,9,9", {"labels": {"Mass": "Pneumona"}}, r"'Mass' -> unknown label 'Pneumona'. Did you mean"),
        ("a,Mass,0,0,9,9", {"x": "left"}, r"unknown column 'left'.*Known: h, image, label, w, x, y"),
    ],
)
def test_refusals(tmp_path: Path, line: str, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        read(tmp_path, f"image,label,x,y,w,h\n{line}\n", **options)


def test_missing_file_and_unknown_option(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        build_part("formats", "boxes-csv", {}).read(tmp_path / "no.csv", LABELS, SIZES)
    with pytest.raises(SpecError, match=r"unknown key 'drawn'. Did you mean 'drawn_at'"):
        build_part("formats", "boxes-csv", {"drawn": [1, 1]})
    with pytest.raises(DataError, match="not a readable table"):
        read(tmp_path, "")


def test_real_boxes(shared: Path) -> None:
    path = shared / "nih_dev" / "boxes.csv"
    table = pl.read_csv(path)
    sizes = {}
    for image in table["image"].unique():
        with Image.open(shared / "nih_dev" / "images" / image) as file:
            sizes[image] = file.size
    names = load_vocabulary("chexpert-14").names
    labels = {"Lung Opacity (pneumonia)": ["Lung Opacity", "Pneumonia"]}
    with pytest.raises(
        DataError,
        match=r"row 2: the box on 00000061_012.png spans 172 to 472 across, outside the 384 .*drawn_at.*x_384",
    ):
        build_part("formats", "boxes-csv", {"labels": labels}).read(path, names, sizes)
    drawn = build_part("formats", "boxes-csv", {"labels": labels, "drawn_at": [1024, 1024]}).read(path, names, sizes)
    columns = {"x": "x_384", "y": "y_384", "width": "w_384", "height": "h_384"}
    small = build_part("formats", "boxes-csv", {"labels": labels, **columns}).read(path, names, sizes)
    assert len(drawn.regions) == len(small.regions) == 21 + 2 * 100
    for one, other in zip(drawn.regions, small.regions, strict=True):
        assert (one.image_id, one.label) == (other.image_id, other.label)
        assert vars(one.shape) == pytest.approx(vars(other.shape), abs=0.01)
