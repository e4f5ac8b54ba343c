"""Bad input: one sentence that names the file and the entry, or a count where the rest can go on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from radlens.core.errors import DataError, RadlensError, SpecError
from radlens.core.regions import Box, Polygon
from radlens.core.registry import parts
from radlens.core.spec import build_part

LABELS = ("Pneumonia", "Edema")
SIZES = {"a": (40, 30), "b": (20, 25)}
BOMB = (
    '<?xml version="1.0"?><!DOCTYPE annotations [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    "<annotations>&b;</annotations>"
)


def read(name: str, path: Path, content: Any = None, **options: Any) -> Any:
    if content is not None:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return build_part("formats", name, options).read(path, LABELS, SIZES)


def coco(**entry: Any) -> dict[str, Any]:
    return {
        "images": [{"id": 1, "file_name": "a.png", "width": 40, "height": 30}, {"id": 2, "file_name": "z.png"}],
        "categories": [{"id": 1, "name": "Edema"}, {"id": 2, "name": "Mass"}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5]} | entry],
    }


RUNS = {"size": [30, 40], "counts": [600, 10, 590]}


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        (
            coco(bbox=[36, 1, 9, 5]),
            r"coco.json annotations\[0\]: the box on a spans 36 to 45 across, outside the 40 pix",
        ),
        (coco(bbox=[1, 1, 0, 5]), r"annotations\[0\]: expected a box with a width and height above 0, found 0 x 5"),
        (coco(bbox=[1, 1, 5]), r"coco.json: key 'annotations.0.bbox.3' is missing"),
        (coco(bbox=None), "expected a segmentation or a bbox, found neither"),
        (coco(segmentation=[[1, 1, 5, 5, 9, 9]]), "three or more corners with an area above 0"),
        (coco(segmentation=[[1, 1, 5, 5]]), "three or more corners with an area above 0, found 2 corners"),
        (coco(segmentation=[[1, 1, 5, 5, 9]]), "found a polygon of 5 numbers"),
        (coco(segmentation=[[1, 1, 5, 5, 9, -4]]), "the polygon on a spans -4 to 5 down, outside"),
        (coco(segmentation=RUNS | {"counts": [600, 10]}), r"damaged: runs of 610 pixels together, but 40x30 has 1200"),
        (coco(segmentation=RUNS | {"counts": "oo"}), "damaged: the text ends in the middle"),
        (coco(segmentation=RUNS | {"size": [40, 30]}), "a mask of 30x40 pixels for an image of 40x30"),
        (coco(bbox=[1, 1, 10**400, 5]), "annotations.0.bbox"),
        (coco() | {"images": [{"id": 1, "file_name": "a", "width": 10**6, "height": 10**6}]}, "found 1000000x1000000"),
        (coco(image_id=9), "image_id 9 is not among its images"),
        (coco(category_id=9), "category_id 9 is not among its categories"),
        (coco(category_id=2), r"label 'Mass' not in the vocabulary: 1|holds no"),
        (
            coco() | {"images": [{"id": 1, "file_name": "a.png", "width": 41, "height": 30}]},
            "annotated at 41x30, but im",
        ),
        (coco() | {"images": [{"id": 1, "file_name": "a"}] * 2}, "images: the id 1 stands twice"),
        (coco() | {"images": [{"id": 1, "file_name": f"{x}/a.png"} for x in "xy"]}, "stands twice"),
        (
            coco() | {"images": [{"id": x, "file_name": f"{x}/a.png"} for x in (1, 2)]},
            r"'2/a.png' and '1/a.png' both fit",
        ),
        ({}, "key 'images' is missing"),
        ([], "coco.json: "),
        ("{", "not valid JSON"),
        ("", "coco.json is empty"),
        ("\n", "coco.json is empty"),
        ("[" * 100_000, "not valid JSON"),
        (json.dumps(coco()).replace("[1, 1, 5, 5]", "[1, 1, NaN, 5]"), "annotations.0.bbox"),
    ],
)
def test_coco(tmp_path: Path, document: Any, sentence: str) -> None:
    if sentence.startswith("label 'Mass'"):
        found = read("coco-json", tmp_path / "coco.json", document)
        assert found.left_out == {"label 'Mass' not in the vocabulary": 1} and not found.regions
        return
    with pytest.raises(DataError, match=sentence) as caught:
        read("coco-json", tmp_path / "coco.json", document)
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


def test_unknown_images_are_listed_and_nothing_is_opened(tmp_path: Path) -> None:
    document = coco()
    document["images"] += [{"id": 3, "file_name": "../../../../etc/passwd"}]
    document["annotations"] += [{"image_id": 3, "category_id": 1, "bbox": [0, 0, 1, 1]}] * 2
    found = read("coco-json", tmp_path / "coco.json", document)
    assert found.unknown_images == ("z.png", "../../../../etc/passwd")
    assert found.left_out == {"image not in the cohort": 2} and len(found.regions) == 1


def test_readers_of_one_file_and_of_a_folder(tmp_path: Path) -> None:
    document = coco(annotator="r1")
    with pytest.raises(DataError, match=r"annotations\[0\]: expected a reader under 'who', found None"):
        read("coco-json", tmp_path / "coco.json", document, reader_key="who")
    found = read("coco-json", tmp_path / "coco.json", document, reader_key="annotator")
    assert found.readers() == ("r1",)
    (tmp_path / "readers").mkdir()
    for name in ("anna", "bela"):
        (tmp_path / "readers" / f"{name}.json").write_text(
            json.dumps(coco() if name == "anna" else coco(category_id=2))
        )
    found = read("coco-json", tmp_path / "readers")
    assert found.readers() == ("anna", "bela")
    assert found.presence("a", "Edema", "anna") is True and found.presence("a", "Edema", "bela") is False
    partial = read("coco-json", tmp_path / "readers", complete=False)
    assert partial.presence("a", "Edema", "bela") is None, "not annotated"
    other = coco()
    other["images"][0] |= {"width": 80, "height": 60}
    (tmp_path / "readers" / "bela.json").write_text(json.dumps(other))
    with pytest.raises(DataError, match=r"image a is 80x60 here but 40x30 in .*anna.json annotations\[0\]; regions of"):
        read("coco-json", tmp_path / "readers", rescale=True)
    with pytest.raises(DataError, match=r"holds no file that ends in .xml"):
        read("cvat-xml", tmp_path / "readers")


@pytest.mark.parametrize("name", ["cvat-xml", "pascal-voc"])
def test_xml(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x.xml"
    with pytest.raises(DataError, match=r"x.xml declares a document type or entities, which are not read for safety"):
        read(name, path, BOMB)
    external = '<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]><annotations>&f;</annotations>'
    with pytest.raises(DataError, match="for safety"):
        read(name, path, external)
    with pytest.raises(DataError, match="not valid XML"):
        read(name, path, "<annotations>")
    with pytest.raises(DataError, match=r"at the root, found <html>"):
        read(name, path, "<html/>")
    with pytest.raises(DataError, match="is empty"):
        read(name, path, "")


def cvat(shape: str) -> str:
    return f'<annotations><image name="a.png" width="40" height="30">{shape}</image></annotations>'


@pytest.mark.parametrize(
    ("shape", "sentence"),
    [
        ('<box label="Edema" xtl="1" ytl="2" xbr="3"/>', "shape 1: expected a number in attribute 'ybr', found None"),
        ('<box label="Edema" xtl="1" ytl="2" xbr="3" ybr="nan"/>', "attribute 'ybr', found 'nan'"),
        ('<polygon label="Edema" points="1,2;3"/>', "expected a number in 'points', found ''"),
        ('<mask label="Edema" rle="5, 1" left="0" top="0" width="3" height="3"/>', "damaged: runs of 6 pixels tog"),
        ('<mask label="Edema" rle="9" left="38" top="0" width="3" height="3"/>', "spans 38 to 41 across"),
        ('<mask label="Edema" rle="x" left="0" top="0" width="3" height="3"/>', "damaged"),
        ('<polyline label="Edema" points="1,2;3,4"/>', ""),
    ],
)
def test_cvat(tmp_path: Path, shape: str, sentence: str) -> None:
    path = tmp_path / "x.xml"
    if not sentence:
        found = read("cvat-xml", path, cvat(shape))
        assert found.left_out == {"a shape of type 'polyline' has no area": 1} and not found.regions
        return
    with pytest.raises(DataError, match=r"x.xml image 'a.png' .*" + sentence):
        read("cvat-xml", path, cvat(shape))


def test_cvat_reader_in_an_attribute(tmp_path: Path) -> None:
    box = '<box label="Edema" xtl="1" ytl="2" xbr="3" ybr="4"><attribute name="by">{}</attribute></box>'
    found = read("cvat-xml", tmp_path / "x.xml", cvat(box.format("r1")), reader_attribute="by")
    assert found.readers() == ("r1",)
    with pytest.raises(DataError, match="expected a reader in the attribute 'by'"):
        read("cvat-xml", tmp_path / "x.xml", cvat(box.format(" ")), reader_attribute="by")


def voc(corners: str = "<xmin>1</xmin><ymin>2</ymin><xmax>10</xmax><ymax>5</ymax>", name: str = "Edema") -> str:
    size = "<size><width>40</width><height>30</height></size>"
    box = f"<object><name>{name}</name><bndbox>{corners}</bndbox></object>"
    return f"<annotation><filename>a.png</filename>{size}{box}</annotation>"


def test_pascal_voc(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    with pytest.raises(DataError, match=r"a.xml object 1: expected a number in <xmin>, found None"):
        read("pascal-voc", path, voc(""))
    with pytest.raises(DataError, match=r"object 1|expected a finding in <name>"):
        read("pascal-voc", path, voc(name=" "))
    assert read("pascal-voc", path, voc()).shapes("a", "Edema") == (Box(1, 2, 9, 3),)
    assert read("pascal-voc", path, voc(), counted_from=1).shapes("a", "Edema") == (Box(0, 1, 10, 4),)
    with pytest.raises(DataError, match=r"expected a folder with one sub-folder a reader"):
        read("pascal-voc", path, reader_folders=True)
    with pytest.raises(DataError, match="lies in no reader's sub-folder"):
        read("pascal-voc", tmp_path, reader_folders=True)
    (tmp_path / "all" / "r7").mkdir(parents=True)
    (tmp_path / "all" / "r7" / "a.xml").write_text(voc())
    assert read("pascal-voc", tmp_path / "all", reader_folders=True).readers() == ("r7",)


def labelme(**shape: Any) -> dict[str, Any]:
    entry = {"label": "Edema", "points": [[1, 1], [5, 1], [5, 9]], "shape_type": "polygon"} | shape
    return {"imagePath": "a.png", "imageWidth": 40, "imageHeight": 30, "shapes": [entry]}


@pytest.mark.parametrize(
    ("shape", "sentence"),
    [
        ({"points": [[1, 1], [5, 1]]}, r"a.json shapes\[0\]: expected a polygon of three or more corners"),
        ({"shape_type": "rectangle"}, r"expected 2 points of a rectangle, found 3"),
        ({"shape_type": "mask", "points": [[0, 0], [3, 3]], "mask": "@@"}, "the mask is not a readable PNG"),
        ({"shape_type": "mask", "points": [[0, 0], [3, 3]]}, "the mask is not a readable PNG"),
        ({"points": [[1, 1], [5, "x"], [5, 9]]}, "a.json: shapes.0.points.1.1"),
    ],
)
def test_labelme(tmp_path: Path, shape: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        read("labelme-json", tmp_path / "a.json", labelme(**shape))


def studio(**changed: Any) -> list[dict[str, Any]]:
    value = {"x": 10, "y": 10, "width": 20, "height": 20, "rectanglelabels": ["Edema"]}
    result = {"type": "rectanglelabels", "value": value, "original_width": 40, "original_height": 30} | changed
    return [{"data": {"image": "a.png"}, "annotations": [{"result": [result], "completed_by": {"email": "x@y.z"}}]}]


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"original_width": None}, r"result\[0\]: expected original_width and original_height"),
        ({"original_width": 20, "original_height": 15}, "annotated at 20x15, but image a is 40x30"),
        ({"value": {"rectanglelabels": ["Edema"]}}, r"tasks\[0\] annotations\[0\] result\[0\]: key 'x' is missing"),
        ({"value": {"x": 1}}, "expected a list of findings under value.rectanglelabels, found None"),
        ({"type": "brushlabels", "value": {"brushlabels": ["Edema"], "rle": [1, 2, 3, 4]}}, "brush mask is damaged"),
        ({"type": "brushlabels", "value": {"brushlabels": ["Edema"], "rle": [999]}}, "a number that is no byte"),
        ({"type": "brushlabels", "value": {"brushlabels": ["Edema"], "rle": [0, 0, 18, 192]}}, "ends too early"),
    ],
)
def test_label_studio(tmp_path: Path, changed: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        read("label-studio", tmp_path / "t.json", studio(**changed))


def test_label_studio_readers_and_cancelled(tmp_path: Path) -> None:
    tasks = studio()
    tasks[0]["annotations"] += [{"result": [], "completed_by": 7}, {"result": [], "was_cancelled": True}]
    found = read("label-studio", tmp_path / "t.json", tasks)
    assert found.readers() == ("x@y.z", "7") and found.left_out == {"a cancelled annotation": 1}
    assert found.presence("a", "Edema", "7") is False and found.presence("a", "Edema", "x@y.z") is True
    with pytest.raises(DataError, match=r"expected an image's name under data.film, found None"):
        read("label-studio", tmp_path / "t.json", tasks, image_key="film")


@pytest.mark.parametrize(
    "address",
    [
        "a.png",
        "/data/upload/0123abcd-a.png",
        "/data/upload/12/0123abcd-a.png?token=1",
        "https://host/films/a.png?sig=x/y",
        "/data/local-files/?d=films%20of/a.png",
        "s3://bucket/a.png",
    ],
)
def test_label_studio_addresses(tmp_path: Path, address: str) -> None:
    tasks = studio()
    tasks[0]["data"]["image"] = address
    assert read("label-studio", tmp_path / "t.json", tasks).image_ids() == ("a",)


def test_a_name_of_eight_characters_and_a_dash_is_kept(tmp_path: Path) -> None:
    tasks = studio()
    tasks[0]["data"]["image"] = "/data/local-files/?d=mimic/02aa804e-b.jpg"
    (tmp_path / "t.json").write_text(json.dumps(tasks))
    found = build_part("formats", "label-studio", {}).read(tmp_path / "t.json", LABELS, {"02aa804e-b": (40, 30)})
    assert found.image_ids() == ("02aa804e-b",)


def picture(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def test_mask_png(tmp_path: Path) -> None:
    inside = np.zeros((30, 40), np.uint8)
    inside[3:5, 2:9] = 1
    picture(tmp_path / "m" / "r1" / "a" / "Edema.png", inside)
    picture(tmp_path / "m" / "r2" / "a" / "Edema.png", inside * 0)
    (tmp_path / "m" / "other.png").write_bytes(b"")
    pattern = "{reader}/{image}/{label}.png"
    found = read("mask-png", tmp_path / "m", pattern=pattern)
    assert np.array_equal(found.mask("a", "Edema", 30, 40), inside > 0)
    assert found.presence("a", "Edema", "r1") is True and found.presence("a", "Edema", "r2") is False
    assert found.left_out == {"a file that does not fit the pattern": 1}
    picture(tmp_path / "m" / "r3" / "a" / "Edema.png", inside[:20])
    with pytest.raises(DataError, match=r"r3/a/Edema.png: .*40x20"):
        read("mask-png", tmp_path / "m", pattern=pattern)
    (tmp_path / "m" / "r3" / "a" / "Edema.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"r3/a/Edema.png is not a readable PNG"):
        read("mask-png", tmp_path / "m", pattern=pattern)
    picture(tmp_path / "m" / "r3" / "a" / "Edema.png", np.zeros((30, 40, 3), np.uint8))
    with pytest.raises(DataError, match="expected a mask of one channel, found the mode RGB"):
        read("mask-png", tmp_path / "m", pattern=pattern)
    with pytest.raises(DataError, match="expected a folder of masks"):
        read("mask-png", tmp_path / "none")
    for wrong in ("{image}.png", "{image}/{label}/{label}.png", "{image}{label}{who}.png"):
        with pytest.raises(SpecError, match=r"pattern: expected \{image\} and \{label\}"):
            read("mask-png", tmp_path / "m", pattern=wrong)
    for outside in ("../{image}/{label}.png", "/{image}/{label}.png"):
        with pytest.raises(SpecError, match="expected a path inside the folder of masks"):
            read("mask-png", tmp_path / "m", pattern=outside)


def test_tables_and_films(tmp_path: Path) -> None:
    head = "image_id,rad_id,class_name,x_min,y_min,x_max,y_max\n"
    with pytest.raises(DataError, match=r"v.csv row 2: expected a number in column 'y_max', found None"):
        read("vindr-csv", tmp_path / "v.csv", head + "a,R1,Edema,1,2,3,\n")
    with pytest.raises(DataError, match=r"row 2: expected a box with a width and height above 0, found -2 x 1"):
        read("vindr-csv", tmp_path / "v.csv", head + "a,R1,Edema,3,2,1,3\n")
    with pytest.raises(DataError, match=r"row 2: expected a reader in column 'rad_id'"):
        read("vindr-csv", tmp_path / "v.csv", head + "a,,Edema,1,2,3,4\n")
    with pytest.raises(DataError, match=r"row 2: expected a number in column 'x_min', found None"):
        read("vindr-csv", tmp_path / "v.csv", head + "a,R1,Edema,,,,\n")
    test = read("vindr-csv", tmp_path / "v.csv", "image_id,class_name,x_min,y_min,x_max,y_max\na,Edema,1,2,3,4\n")
    assert test.readers() == ("consensus",)
    with pytest.raises(DataError, match=r"unknown column 'class_name'"):
        read("vindr-csv", tmp_path / "v.csv", "image_id,finding,x_min,y_min,x_max,y_max\n")
    head = "dicom_id,category_name,label_text,path,x,y,w,h,image_width,image_height\n"
    with pytest.raises(DataError, match=r"m.csv row 2: annotated at 80x60, but image a is 40x30"):
        read("ms-cxr", tmp_path / "m.csv", head + "a,Edema,t,p,1,1,2,2,80,60\n")
    with pytest.raises(DataError, match=r"found the ending '\.tsv'"):
        read("ms-cxr", tmp_path / "m.tsv", head)
    film = {"file_name": "a.png", "syms": ["Edema"], "boxes": [], "polygons": []}
    with pytest.raises(DataError, match=r"d.json films\[0\]: a.png has 1 findings, 0 boxes and 0 polygons"):
        read("chestx-det", tmp_path / "d.json", [film])
    with pytest.raises(DataError, match=r"drawn_at 1024x1024 has another shape than image a of 40x30"):
        read("chestx-det", tmp_path / "d.json", [film | {"syms": []}])
    with pytest.raises(DataError, match="expected films, each with its findings"):
        read("chexlocalize", tmp_path / "c.json", [])
    with pytest.raises(DataError, match=r"c.json a 'Edema': .*img_size"):
        read("chexlocalize", tmp_path / "c.json", {"a": {"Edema": [[[1, 2], [3, 4], [5, 9]]]}})
    found = read(
        "chexlocalize", tmp_path / "c.json", {"a": {"img_size": [30, 40], "Edema": [[[1, 2], [3, 4], [1, 9]]]}}
    )
    assert found.shapes("a", "Edema") == (Polygon(((1, 2), (3, 4), (1, 9))),)


@pytest.mark.parametrize("name", [name for name in parts("formats") if name != "mask-png"])
def test_an_empty_file_and_none_at_all(tmp_path: Path, name: str) -> None:
    path = tmp_path / "file.csv" if name in ("boxes-csv", "vindr-csv", "ms-cxr") else tmp_path / "file.json"
    with pytest.raises(DataError, match="does not exist"):
        read(name, path)
    path.write_bytes(b"")
    with pytest.raises(DataError, match=r"file\.(csv|json) is (empty|not a readable)"):
        read(name, path)


@settings(max_examples=50, deadline=None)
@given(content=st.binary(max_size=60) | st.text(max_size=60).map(lambda t: json.dumps([t]).encode()))
@pytest.mark.parametrize("name", [name for name in parts("formats") if name != "mask-png"])
def test_any_content_is_refused_in_one_sentence(
    tmp_path_factory: pytest.TempPathFactory, name: str, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(content)
    with pytest.raises(RadlensError) as caught:
        read(name, path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("ids", "name", "found"),
    [
        (("a.png",), "films/a.png", "a.png"),
        (("x/a.png", "y/a.png"), "y/a.jpg", "y/a.png"),
        (("x/a.png",), "y/a.png", None),
        (("1.2.840.1", "1.2.840.2"), "1.2.840.2", "1.2.840.2"),
        (("1.2.840.1",), "1.2.840.1.dcm", "1.2.840.1"),
        (("a.png",), "b.png", None),
        (("a.png",), "..", None),
        (("a.png",), "", None),
    ],
)
def test_names_of_images(tmp_path: Path, ids: tuple[str, ...], name: str, found: str | None) -> None:
    path = tmp_path / "b.csv"
    path.write_text(f"image,label,x,y,w,h\nq,Edema,1,1,2,2\n{name},Edema,1,1,2,2\n")
    sizes = dict.fromkeys((*ids, "q"), (40, 30))
    read_back = build_part("formats", "boxes-csv", {}).read(path, LABELS, sizes)
    assert read_back.image_ids() == ("q",) if found is None else ("q", found)


def test_a_name_that_fits_two_images(tmp_path: Path) -> None:
    path = tmp_path / "b.csv"
    path.write_text("image,label,x,y,w,h\na.png,Edema,1,1,2,2\n")
    sizes = dict.fromkeys(("x/a.png", "y/a.png"), (40, 30))
    with pytest.raises(DataError, match=r"row 2: the name 'a.png' fits 'x/a.png' and 'y/a.png' of the cohort"):
        build_part("formats", "boxes-csv", {}).read(path, LABELS, sizes)
