"""Released files of CheXlocalize and ChestX-Det, and the challenge's table of VinDr-CXR."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask

from radlens.core.errors import DataError
from radlens.core.regions import Mask, Polygon
from radlens.core.spec import build_part
from radlens.core.vocabulary import load_vocabulary
from radlens.explain.agreement import intersection_over_union, reader_agreement

NAMES = load_vocabulary("chexpert-14").names
FILMS = {"patient64541_study1_view1_frontal": (2828, 2320), "patient64542_study1_view1_frontal": (2021, 2022)}


def test_chexlocalize_masks_are_its_polygons(shared: Path) -> None:
    folder = shared / "formats" / "chexlocalize"
    masks = build_part("formats", "chexlocalize", {}).read(folder / "gt_segmentations_val.json", NAMES, FILMS)
    outlines = build_part("formats", "chexlocalize", {}).read(folder / "gt_annotations_val.json", NAMES, FILMS)
    drawn = {(region.image_id, region.label) for region in masks.regions}
    first, second = FILMS
    assert drawn == {
        (first, "Enlarged Cardiomediastinum"),
        (first, "Cardiomegaly"),
        (first, "Lung Opacity"),
        (second, "Support Devices"),
    }
    assert drawn == {(region.image_id, region.label) for region in outlines.regions}
    assert len(outlines.regions) == 5 and outlines.left_out == masks.left_out == {}
    for image_id, label in drawn:
        width, height = FILMS[image_id]
        one, other = (found.mask(image_id, label, height, width) for found in (masks, outlines))
        # the release was drawn by Pillow, on corners rounded down to whole pixels, the outline's own pixels too
        drawing = np.zeros((height, width), bool)
        for shape in outlines.shapes(image_id, label):
            assert isinstance(shape, Polygon)
            film = Image.new("1", (width, height))
            ImageDraw.Draw(film).polygon([(int(x), int(y)) for x, y in shape.points], outline=1, fill=1)
            drawing |= np.array(film)
        assert np.array_equal(one, drawing)
        assert intersection_over_union(one, other) > (0.97 if label == "Support Devices" else 0.99)
    assert masks.presence(first, "Edema", "reader") is False and masks.presence(first, "Fracture", "reader") is None
    assert outlines.presence(first, "Edema", "reader") is None


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_chexlocalize_masks_against_pycocotools(shared: Path) -> None:
    path = shared / "formats" / "chexlocalize" / "gt_segmentations_val.json"
    found = build_part("formats", "chexlocalize", {}).read(path, NAMES, FILMS)
    for film, findings in json.loads(path.read_text()).items():
        width, height = FILMS[film]
        for finding, runs in findings.items():
            label = "Lung Opacity" if finding == "Airspace Opacity" else finding
            expected = coco_mask.decode(runs).astype(bool)
            assert np.array_equal(found.mask(film, label, height, width), expected)


def test_chexlocalize_by_the_ids_of_chexpert_and_on_resized_films(shared: Path) -> None:
    path = shared / "formats" / "chexlocalize" / "gt_segmentations_val.json"
    small = {f"{film}.jpg": (width // 4, height // 4) for film, (width, height) in FILMS.items()}
    with pytest.raises(DataError, match=r"annotated at 2828x2320, but image .*frontal.jpg is 707x580; use the image"):
        build_part("formats", "chexlocalize", {}).read(path, NAMES, small)
    found = build_part("formats", "chexlocalize", {"rescale": True}).read(path, NAMES, small)
    full = build_part("formats", "chexlocalize", {}).read(path, NAMES, FILMS)
    film = "patient64541_study1_view1_frontal"
    shares = [
        found.mask(f"{film}.jpg", "Cardiomegaly", 580, 707).mean(),
        full.mask(film, "Cardiomegaly", 2320, 2828).mean(),
    ]
    assert shares[0] == pytest.approx(shares[1], rel=0.01)


def test_chestx_det(shared: Path) -> None:
    path = shared / "formats" / "chestxdet" / "ChestX_Det_test.json"
    films = json.loads(path.read_text())
    sizes = {film["file_name"]: (1024, 1024) for film in films[:300]}
    found = build_part("formats", "chestx-det", {}).read(path, NAMES, sizes)
    entries = [(film["file_name"], name) for film in films[:300] for name in film["syms"]]
    known = {"Atelectasis", "Cardiomegaly", "Consolidation", "Fracture", "Pneumothorax"}
    known |= {"Effusion", "Mass", "Nodule", "Diffuse Nodule", "Pleural Thickening"}
    assert len(found.regions) == sum(name in known for _, name in entries)
    assert found.left_out["image not in the cohort"] == sum(len(film["syms"]) for film in films[300:])
    assert found.left_out["label 'Fibrosis' not in the vocabulary"] == sum(name == "Fibrosis" for _, name in entries)
    assert len(found.unknown_images) == 253
    empty = next(film["file_name"] for film in films if not film["syms"])
    assert found.presence(empty, "Pleural Effusion", "reader") is False
    assert found.presence(empty, "Support Devices", "reader") is None
    boxes = build_part("formats", "chestx-det", {"shapes": "boxes"}).read(path, NAMES, sizes)
    for one, other in list(zip(found.regions, boxes.regions, strict=True))[:60]:
        inside, around = one.shape.mask(1024, 1024), other.shape.mask(1024, 1024)
        assert inside.any() and (inside & ~around).sum() < 0.06 * inside.sum()


def test_vindr_challenge_keeps_its_readers_apart(torchxrayvision_data: Path, tmp_path: Path) -> None:
    content = gzip.decompress((torchxrayvision_data / "vinbigdata-train.csv.gz").read_bytes())
    path = tmp_path / "train.csv"
    path.write_bytes(content)
    table = pl.read_csv(path, infer_schema=False)
    images = table["image_id"].unique().sort().to_list()[:2000]
    reach = (
        table.filter(pl.col("image_id").is_in(images))
        .group_by("image_id")
        .agg(pl.col("x_max").cast(pl.Float64).max(), pl.col("y_max").cast(pl.Float64).max())
    )
    sizes = {i: (int(x or 100) + 1, int(y or 100) + 1) for i, x, y in reach.iter_rows()}
    found = build_part("formats", "vindr-csv", {}).read(path, NAMES, sizes)
    looks = table.filter(pl.col("image_id").is_in(images)).select("image_id", "rad_id").unique()
    assert set(found.examined) == set(looks.iter_rows()), "every image has its three readers"
    hearts = table.filter(pl.col("image_id").is_in(images) & (pl.col("class_name") == "Cardiomegaly"))
    drawn = {(r.image_id, r.reader) for r in found.regions if r.label == "Cardiomegaly"}
    assert drawn == set(hearts.select("image_id", "rad_id").iter_rows())
    small = {i: size for i, size in sizes.items() if i in images[:150]}
    agreement = reader_agreement(found.of(small), small, {i: i for i in small}, replicates=200)
    hearts_row = agreement.row(
        by_predicate=(pl.col("label") == "Cardiomegaly") & (pl.col("reader") == "all"), named=True
    )
    assert 0.3 < hearts_row["kappa"] < 1 and 0.5 < hearts_row["iou"] < 1
    assert hearts_row["iou_low"] < hearts_row["iou"] < hearts_row["iou_high"]
    ids = {image: {reader for image_, reader in found.examined if image_ == image} for image in images[:5]}
    assert all(len(readers) == 3 for readers in ids.values())


def test_no_shape_of_a_released_file_is_kept_twice_in_memory(shared: Path) -> None:
    path = shared / "formats" / "chexlocalize" / "gt_segmentations_val.json"
    found = build_part("formats", "chexlocalize", {}).read(path, NAMES, FILMS)
    for region in found.regions:
        assert isinstance(region.shape, Mask)
        width, height = FILMS[region.image_id]
        assert len(region.shape.bits) == -(-width * height // 8)
