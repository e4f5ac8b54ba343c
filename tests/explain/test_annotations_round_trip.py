"""A small set of regions written in every format by the tests' own writers, and read back as equal masks."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from radlens.core.regions import Annotations, Box, Mask, Point, Polygon, Shape
from radlens.core.spec import build_part

LABELS = ("Pneumonia", "Edema", "Lung Lesion")
SIZES = {"a": (40, 30), "b": (20, 25), "c": (12, 12)}
BOX = Box(3, 4, 10.7, 6)
TRIANGLE = Polygon(((1.13, 1.21), (17.9, 2.57), (4.07, 20.3)))
BLOB = np.zeros((25, 20), bool)
BLOB[3:9, 4:17] = BLOB[20, 1] = True
BLOB[5:7, 6:8] = False
Written = tuple[tuple[str, str, str, Shape], ...]
"""Image, label, reader, shape."""
BOXES: Written = (("a", "Pneumonia", "reader", BOX), ("b", "Edema", "reader", Box(0, 0, 20, 25)))
SHAPES: Written = (*BOXES, ("a", "Edema", "reader", TRIANGLE), ("b", "Pneumonia", "reader", Mask.pack(BLOB)))
NOTHING_IN_C = {("c", "reader"): frozenset({"Pneumonia", "Edema"})}


def png(mask: np.ndarray) -> bytes:
    target = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).save(target, "PNG")
    return target.getvalue()


def runs_of(flat: np.ndarray) -> list[int]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flat])))
    return np.diff(np.concatenate([[0], edges, [len(flat)]])).tolist()


def write_boxes_csv(path: Path, regions: Written) -> dict[str, Any]:
    rows = [f"{image},{label},{s.x},{s.y},{s.width},{s.height}" for image, label, _, s in regions]
    path.write_text("\n".join(["image,label,x,y,w,h", *rows, "c,Pneumonia,,,,", "c,Edema,,,,"]))
    return {}


def write_coco(path: Path, regions: Written) -> dict[str, Any]:
    images = [
        {"id": image, "file_name": f"films/{image}.png", "width": w, "height": h} for image, (w, h) in SIZES.items()
    ]
    entries = []
    for image, label, _, shape in regions:
        entry: dict[str, Any] = {"id": len(entries), "image_id": image, "category_id": LABELS.index(label)}
        match shape:
            case Box():
                entry |= {"bbox": [shape.x, shape.y, shape.width, shape.height], "segmentation": []}
            case Polygon():
                entry["segmentation"] = [[value for point in shape.points for value in point]]
            case Mask():
                counts = runs_of(shape.mask(shape.height, shape.width).T.ravel())
                entry["segmentation"] = {"size": [shape.height, shape.width], "counts": counts}
        entries.append(entry)
    categories = [{"id": at, "name": name} for at, name in enumerate(LABELS[:2])]
    path.write_text(json.dumps({"images": images, "categories": categories, "annotations": entries}))
    return {}


def write_chexlocalize(path: Path, regions: Written) -> dict[str, Any]:
    """As masks; an empty one says that there is nothing."""
    films: dict[str, Any] = {}
    for image, (width, height) in SIZES.items():
        for label in LABELS[:2]:
            mask = np.zeros((height, width), bool)
            for _, _, _, shape in (one for one in regions if one[:2] == (image, label)):
                mask |= shape.mask(height, width)
            runs = {"size": [height, width], "counts": runs_of(mask.T.ravel())}
            films.setdefault(image, {})[label] = runs
    path.write_text(json.dumps(films))
    return {}


def write_chexlocalize_polygons(path: Path, regions: Written) -> dict[str, Any]:
    films: dict[str, Any] = {}
    for image, label, _, shape in regions:
        film = films.setdefault(image, {"img_size": [SIZES[image][1], SIZES[image][0]]})
        film.setdefault(label, []).append(outline(shape))
    path.write_text(json.dumps(films))
    return {}


def outline(shape: Shape) -> list[tuple[float, float]]:
    if isinstance(shape, Polygon):
        return list(shape.points)
    assert isinstance(shape, Box)
    right, bottom = shape.x + shape.width, shape.y + shape.height
    return [(shape.x, shape.y), (right, shape.y), (right, bottom), (shape.x, bottom)]


def write_labelme(path: Path, regions: Written) -> dict[str, Any]:
    path.mkdir()
    for image, (width, height) in SIZES.items():
        shapes = []
        for _, label, _, shape in (one for one in regions if one[0] == image):
            entry: dict[str, Any] = {"label": label, "flags": {}, "group_id": None}
            match shape:
                case Box():
                    corners = outline(shape)
                    entry |= {"points": [corners[2], corners[0]], "shape_type": "rectangle"}
                case Polygon():
                    entry |= {"points": shape.points, "shape_type": "polygon"}
                case Mask():
                    mask = shape.mask(height, width)
                    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
                    part = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
                    points = [[columns[0], rows[0]], [columns[-1], rows[-1]]]
                    entry |= {"points": np.array(points).tolist(), "shape_type": "mask"}
                    entry["mask"] = base64.b64encode(png(part)).decode()
            shapes.append(entry)
        document = {
            "imagePath": f"..\\films\\{image}.png",
            "imageWidth": width,
            "imageHeight": height,
            "shapes": shapes,
        }
        (path / f"{image}.json").write_text(json.dumps(document))
    return {}


def write_cvat(path: Path, regions: Written) -> dict[str, Any]:
    images = []
    for image, (width, height) in SIZES.items():
        shapes = []
        for _, label, _, shape in (one for one in regions if one[0] == image):
            match shape:
                case Box():
                    (left, top), _, (right, bottom), _ = outline(shape)
                    shapes.append(f'<box label="{label}" xtl="{left}" ytl="{top}" xbr="{right}" ybr="{bottom}"/>')
                case Polygon():
                    points = ";".join(f"{x},{y}" for x, y in shape.points)
                    shapes.append(f'<polygon label="{label}" points="{points}"></polygon>')
                case Mask():
                    part = shape.mask(height, width)[2:22, 1:18]
                    rle = ", ".join(map(str, runs_of(part.ravel())))
                    place = 'left="1" top="2" width="17" height="20"'
                    shapes.append(f'<mask label="{label}" rle="{rle}" {place}/>')
        body = "".join(shapes)
        images.append(f'<image id="0" name="films/{image}.png" width="{width}" height="{height}">{body}</image>')
    names = "".join(f"<label><name>{label}</name></label>" for label in LABELS[:2])
    meta = f"<meta><task><labels>{names}</labels></task></meta>"
    path.write_text(f"<?xml version='1.0'?><annotations><version>1.1</version>{meta}{''.join(images)}</annotations>")
    return {}


def packed_brush(mask: np.ndarray) -> list[int]:
    """thi.ng's rle-pack of an RGBA picture, written from its description; pieces of both kinds."""
    values = np.repeat(mask.ravel().astype(int) * 255, 4).tolist()
    bits = f"{len(values):032b}" + f"{7:05b}" + "".join(f"{width - 1:04b}" for width in (3, 4, 8, 16))
    at = 0
    while at < len(values):
        stop = at + 1
        while stop < len(values) and values[stop] == values[at]:
            stop += 1
        if stop - at == 4 and stop + 4 <= len(values):
            stop = at + 8
            bits += "0" + "00" + f"{7:03b}" + "".join(f"{value:08b}" for value in values[at:stop])
        else:
            width, which = next((w, n) for n, w in enumerate((3, 4, 8, 16)) if stop - at <= 1 << w)
            bits += "1" + f"{which:02b}" + f"{stop - at - 1:0{width}b}" + f"{values[at]:08b}"
        at = stop
    bits += "0" * (-len(bits) % 8)
    return [int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)]


def write_label_studio(path: Path, regions: Written) -> dict[str, Any]:
    tasks = []
    for image, (width, height) in SIZES.items():
        results = []
        for _, label, _, shape in (one for one in regions if one[0] == image):
            match shape:
                case Box():
                    kind = "rectanglelabels"
                    value: dict[str, Any] = {"x": shape.x / width * 100, "y": shape.y / height * 100, "rotation": 0}
                    value |= {"width": shape.width / width * 100, "height": shape.height / height * 100}
                case Polygon():
                    kind = "polygonlabels"
                    value = {"points": [[x / width * 100, y / height * 100] for x, y in shape.points]}
                case Mask():
                    kind = "brushlabels"
                    value = {"format": "rle", "rle": packed_brush(shape.mask(height, width))}
            size = {"original_width": width, "original_height": height}
            results.append({"type": kind, "value": value | {kind: [label]}, **size})
        data = {"image": f"/data/upload/3/0f1e2d3c-{image}.png?d=1"}
        annotation = {"result": [*results, {"type": "choices", "value": {"choices": ["good"]}}], "completed_by": None}
        tasks.append({"id": 1, "data": data, "annotations": [annotation]})
    path.write_text(json.dumps(tasks))
    return {}


def write_voc(path: Path, regions: Written) -> dict[str, Any]:
    path.mkdir()
    for image, (width, height) in SIZES.items():
        objects = ""
        for _, label, _, shape in (one for one in regions if one[0] == image):
            (left, top), _, (right, bottom), _ = outline(shape)
            corners = f"<xmin>{left}</xmin><ymin>{top}</ymin><xmax>{right}</xmax><ymax>{bottom}</ymax>"
            objects += f"<object><name>{label}</name><bndbox>{corners}</bndbox></object>"
        size = f"<size><width>{width}</width><height>{height}</height><depth>1</depth></size>"
        text = f"<annotation><filename>{image}.jpg</filename>{size}{objects}</annotation>"
        (path / f"{image}.xml").write_text(text)
    return {}


def write_masks(path: Path, regions: Written) -> dict[str, Any]:
    for image, (width, height) in SIZES.items():
        (path / image).mkdir(parents=True)
        for label in LABELS[:2]:
            mask = np.zeros((height, width), bool)
            for _, _, _, shape in (one for one in regions if one[:2] == (image, label)):
                mask |= shape.mask(height, width)
            (path / image / f"{label}.png").write_bytes(png(mask))
    return {}


def write_vindr(path: Path, regions: Written) -> dict[str, Any]:
    rows = ["image_id,rad_id,class_name,x_min,y_min,x_max,y_max", "c,reader,No finding,,,,"]
    for image, label, reader, shape in regions:
        (left, top), _, (right, bottom), _ = outline(shape)
        rows.append(f"{image},{reader},{label},{left},{top},{right},{bottom}")
    path.write_text("\n".join(rows))
    return {}


def write_ms_cxr(path: Path, regions: Written) -> dict[str, Any]:
    rows = ["dicom_id,category_name,label_text,path,x,y,w,h,image_width,image_height,split"]
    for image, label, _, shape in regions:
        place = f"{shape.x},{shape.y},{shape.width},{shape.height},{SIZES[image][0]},{SIZES[image][1]}"
        rows.append(f'{image},{label},"left, ill-defined",files/p1/s1/{image}.jpg,{place},train')
    path.write_text("\n".join(rows))
    return {}


CASES: list[tuple[str, str, Callable[[Path, Written], dict[str, Any]], Written, bool]] = [
    ("boxes-csv", "boxes.csv", write_boxes_csv, BOXES, True),
    ("coco-json", "coco.json", write_coco, SHAPES, True),
    ("chexlocalize", "segmentations.json", write_chexlocalize, SHAPES, True),
    ("chexlocalize", "annotations.json", write_chexlocalize_polygons, SHAPES[:3], False),
    ("labelme-json", "labelme", write_labelme, SHAPES, True),
    ("cvat-xml", "cvat.xml", write_cvat, SHAPES, True),
    ("label-studio", "tasks.json", write_label_studio, SHAPES, True),
    ("pascal-voc", "voc", write_voc, BOXES, True),
    ("mask-png", "masks", write_masks, SHAPES, True),
    ("vindr-csv", "annotations_train.csv", write_vindr, BOXES, True),
    ("ms-cxr", "ms_cxr.csv", write_ms_cxr, BOXES, False),
    ("ms-cxr", "ms_cxr.json", write_coco, BOXES, False),
]


def union(regions: Written, image: str, label: str) -> np.ndarray:
    width, height = SIZES[image]
    mask = np.zeros((height, width), bool)
    for _, _, _, shape in (one for one in regions if one[:2] == (image, label)):
        mask |= shape.mask(height, width)
    return mask


@pytest.mark.parametrize(
    ("name", "file", "write", "regions", "says_nothing"), CASES, ids=[f"{c[0]}:{c[1]}" for c in CASES]
)
def test_round_trip(
    tmp_path: Path,
    name: str,
    file: str,
    write: Callable[[Path, Written], dict[str, Any]],
    regions: Written,
    says_nothing: bool,
) -> None:
    options = write(tmp_path / file, regions)
    found: Annotations = build_part("formats", name, options).read(tmp_path / file, LABELS, SIZES)
    assert found.left_out in ({}, {"no box": 2}) and found.unknown_images == ()
    for image, (width, height) in SIZES.items():
        for label in LABELS:
            mask = found.mask(image, label, height, width)
            assert np.array_equal(mask, union(regions, image, label)), (image, label)
    for image, label, reader, _ in regions:
        assert found.presence(image, label, reader) is True
    assert (("c", "reader") in found.examined) == says_nothing
    if says_nothing:
        assert found.examined["c", "reader"] == frozenset({"Pneumonia", "Edema"})
        assert found.presence("c", "Pneumonia", "reader") is False
    assert found.presence("c", "Lung Lesion", "reader") is None


def test_chestx_det_round_trip(tmp_path: Path) -> None:
    regions: Written = (("c", "Pneumothorax", "reader", TRIANGLE), ("c", "Nodule", "reader", Box(1, 2, 3, 4)))
    films: list[dict[str, Any]] = [{"file_name": "c.png", "syms": [], "boxes": [], "polygons": []}]
    for _, label, _, shape in regions:
        points = outline(shape)
        films[0]["syms"] += [label]
        films[0]["boxes"] += [[*np.min(points, axis=0).tolist(), *np.max(points, axis=0).tolist()]]
        films[0]["polygons"] += [points]
    path = tmp_path / "det.json"
    path.write_text(json.dumps(films))
    labels, sizes = ("Pneumothorax", "Lung Lesion", "Pleural Effusion", "Support Devices"), {"c": (24, 24)}
    found = build_part("formats", "chestx-det", {"drawn_at": [24, 24]}).read(path, labels, sizes)
    assert np.array_equal(found.mask("c", "Pneumothorax", 24, 24), TRIANGLE.mask(24, 24))
    assert np.array_equal(found.mask("c", "Lung Lesion", 24, 24), Box(1, 2, 3, 4).mask(24, 24))
    assert found.presence("c", "Pleural Effusion", "reader") is False, "one of its 13 findings"
    assert found.presence("c", "Support Devices", "reader") is None, "none of them"
    boxes = build_part("formats", "chestx-det", {"drawn_at": [24, 24], "shapes": "boxes"}).read(path, labels, sizes)
    around, box = (region.shape for region in boxes.regions)
    assert vars(around) == pytest.approx({"x": 1.13, "y": 1.21, "width": 16.77, "height": 19.09})
    assert box == Box(1, 2, 3, 4)
    small = build_part("formats", "chestx-det", {"drawn_at": [24, 24]}).read(path, labels, {"c": (12, 12)})
    halved = Polygon(tuple((x / 2, y / 2) for x, y in TRIANGLE.points))
    assert np.array_equal(small.mask("c", "Pneumothorax", 12, 12), halved.mask(12, 12))


def test_rescaled_masks_and_outlines(tmp_path: Path) -> None:
    """A cohort of resized copies: twice as large, so that every pixel becomes four."""
    twice = {image: (2 * width, 2 * height) for image, (width, height) in SIZES.items()}
    for name, file, write in (("coco-json", "coco.json", write_coco), ("mask-png", "masks", write_masks)):
        write(tmp_path / file, SHAPES)
        found = build_part("formats", name, {"rescale": True}).read(tmp_path / file, LABELS, twice)
        mask = found.mask("b", "Pneumonia", 50, 40)
        assert np.array_equal(mask, np.kron(BLOB, np.ones((2, 2), bool)))
    doubled = Box(2 * BOX.x, 2 * BOX.y, 2 * BOX.width, 2 * BOX.height)
    found = build_part("formats", "coco-json", {"rescale": True}).read(tmp_path / "coco.json", LABELS, twice)
    assert found.shapes("a", "Pneumonia") == (doubled,)


def test_points_and_ellipses(tmp_path: Path) -> None:
    yy, xx = np.mgrid[:30, :40] + 0.5
    oval = ((xx - 20) / 10) ** 2 + ((yy - 15) / 5) ** 2 <= 1
    turned = ((xx - 20) / 5) ** 2 + ((yy - 15) / 10) ** 2 <= 1
    image = '<image name="a" width="40" height="30">'
    sides = 'label="Edema" cx="20" cy="15" rx="10" ry="5"'
    path = tmp_path / "cvat.xml"
    for rotation, expected in ((0, oval), (90, turned)):
        shape = f'<ellipse {sides} rotation="{rotation}"/><points label="Pneumonia" points="3.5,4.5;7,8"/>'
        path.write_text(f"<annotations>{image}{shape}</image></annotations>")
        found = build_part("formats", "cvat-xml", {}).read(path, LABELS, SIZES)
        assert (found.mask("a", "Edema", 30, 40) != expected).sum() <= 4
        assert found.shapes("a", "Pneumonia") == (Point(3.5, 4.5), Point(7, 8))
    value = {"x": 50, "y": 50, "radiusX": 25, "radiusY": 100 / 6, "ellipselabels": ["Edema"]}
    point = {"x": 10, "y": 20, "width": 0.4, "keypointlabels": ["Pneumonia"]}
    size = {"original_width": 40, "original_height": 30}
    result = [
        {"type": "ellipselabels", "value": value} | size,
        {"type": "keypointlabels", "value": point} | size,
    ]
    path = tmp_path / "tasks.json"
    path.write_text(json.dumps([{"data": {"image": "a.png"}, "annotations": [{"result": result}]}]))
    found = build_part("formats", "label-studio", {}).read(path, LABELS, SIZES)
    assert (found.mask("a", "Edema", 30, 40) != oval).sum() <= 4
    assert found.shapes("a", "Pneumonia") == (Point(4, 6),)
    shapes = [
        {"label": "Edema", "shape_type": "circle", "points": [[20, 15], [20, 25]]},
        {"label": "Pneumonia", "shape_type": "point", "points": [[1, 2]]},
        {"label": "Edema", "shape_type": "linestrip", "points": [[1, 2], [3, 4], [5, 6]]},
    ]
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"imageWidth": 40, "imageHeight": 30, "imagePath": "a.png", "shapes": shapes}))
    found = build_part("formats", "labelme-json", {}).read(path, LABELS, SIZES)
    circle = (xx - 20) ** 2 + (yy - 15) ** 2 <= 100
    assert (found.mask("a", "Edema", 30, 40) != circle).sum() <= 4
    assert found.shapes("a", "Pneumonia") == (Point(1, 2),)
    assert found.left_out == {"a shape of type 'linestrip' has no area": 1}


def test_turned_boxes(tmp_path: Path) -> None:
    """A quarter turn: of CVAT about the centre, of Label Studio about the upper left corner."""
    path = tmp_path / "cvat.xml"
    box = '<box label="Edema" xtl="10" ytl="10" xbr="30" ybr="20" rotation="90"/>'
    path.write_text(f'<annotations><image name="a" width="40" height="30">{box}</image></annotations>')
    found = build_part("formats", "cvat-xml", {}).read(path, LABELS, SIZES)
    (shape,) = found.shapes("a", "Edema")
    assert isinstance(shape, Polygon) and shape.extent == pytest.approx((15, 5, 25, 25))
    value = {"x": 50, "y": 20, "width": 25, "height": 10, "rotation": 90, "rectanglelabels": ["Edema"]}
    result = [{"type": "rectanglelabels", "value": value, "original_width": 40, "original_height": 30}]
    path = tmp_path / "tasks.json"
    path.write_text(json.dumps([{"data": {"image": "a.png"}, "annotations": [{"result": result}]}]))
    found = build_part("formats", "label-studio", {}).read(path, LABELS, SIZES)
    (shape,) = found.shapes("a", "Edema")
    assert isinstance(shape, Polygon) and shape.extent == pytest.approx((17, 6, 20, 16))
