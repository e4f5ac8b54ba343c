"""IU-Xray as a cohort: small folders of its shape, and the whole of its real reports."""

from __future__ import annotations

import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from radlens.core.cohort import Cohort, LeftOut
from radlens.core.errors import DataError, SpecError
from radlens.core.parts import Dataset
from radlens.core.spec import build_part
from radlens.data.images import read_image
from radlens.data.iu_xray import IuXray
from radlens.data.iu_xray_images import find_images, image_key
from radlens.data.presence import require_images

REPORT = """<?xml version="1.0" encoding="utf-8"?>
<eCitation><uId id="CXR{n}"/><licenseURL>http://licence.example/</licenseURL>
<MedlineCitation><Article><Abstract>
<AbstractText Label="COMPARISON">None.</AbstractText><AbstractText Label="INDICATION">Cough</AbstractText>
<AbstractText Label="FINDINGS">{findings}</AbstractText><AbstractText Label="IMPRESSION">{impression}</AbstractText>
</Abstract></Article></MedlineCitation>
<MeSH>{codes}</MeSH>{images}</eCitation>"""


def xml(n: int, images: list[str], codes: str = "<major>normal</major>", **texts: str) -> str:
    shown = "".join(f'<parentImage id="{i}"><caption>PA and Lateral</caption></parentImage>' for i in images)
    words = {"findings": "Lungs are clear.", "impression": f"Normal {n}."} | texts
    return REPORT.format(n=n, codes=codes, images=shown, **words)


def noise(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (20, 16), np.uint8)).save(path)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Four reports and five of their six images, as three distributors name them."""
    (tmp_path / "xml").mkdir()
    ids = {
        1: ["CXR1_1_IM-0001-3001", "CXR1_1_IM-0001-4001"],
        22: ["CXR22_IM-0800-1001", "CXR22_IM-0800-2001", "CXR22_IM-0800-3001"],
        3: [],
        40: ["CXR40_IM-2050-1001"],
    }
    for n, images in ids.items():
        (tmp_path / "xml" / f"{n}.xml").write_text(xml(n, images))
    for seed, name in enumerate(
        [
            "a/CXR1_1_IM-0001-3001.png",
            "a/1_IM-0001-4001.dcm.png",
            "CXR22_IM-0800-1001.PNG",
            "b/c/CXR22_IM-0800-3001.jpg",
            "b/CXR40_IM-2050-1001.png",
            "CXR99_IM-0001-1001.png",
            "logo.png",
        ]
    ):
        noise(tmp_path / "images" / name, seed)
    (tmp_path / "images/readme.txt").write_text("no image")
    header = "imageid,View Position\n"
    rows = "CXR1_IM-0001-3001,PA\nCXR1_IM-0001-4001,PA\nCXR22_IM-0800-1001,LL\nCXR22_IM-0800-2001,PA\n"
    (tmp_path / "meta.csv").write_text(header + rows)
    return tmp_path


def load(folder: Path, **options: object) -> tuple[Dataset, Cohort]:
    chosen = {"images": "images", "reports": "xml", "metadata": "meta.csv"} | options
    dataset: Dataset = build_part("datasets", "iu-xray", chosen)
    return dataset, dataset.load(folder, folder / "work")


def test_reports_and_images_are_joined_by_id(small: Path) -> None:
    _, cohort = load(small, only_present=True)
    require_images(cohort)
    rows = {row["image_id"]: row for row in cohort.table.to_dicts()}
    assert {i: os.path.relpath(row["path"], small / "images") for i, row in rows.items()} == {
        "CXR1_1_IM-0001-3001": "a/CXR1_1_IM-0001-3001.png",
        "CXR1_1_IM-0001-4001": "a/1_IM-0001-4001.dcm.png",
        "CXR22_IM-0800-1001": "CXR22_IM-0800-1001.PNG",
        "CXR22_IM-0800-3001": "b/c/CXR22_IM-0800-3001.jpg",
        "CXR40_IM-2050-1001": "b/CXR40_IM-2050-1001.png",
    }
    assert rows["CXR1_1_IM-0001-4001"] | {"path": ""} == {
        "image_id": "CXR1_1_IM-0001-4001",
        "path": "",
        "patient_id": "1",
        "study_id": "CXR1",
        "view": "lateral",
        "report": "Lungs are clear.\n\nNormal 1.",
        "split": None,
        "view_source": "order and caption",
        "view_position": "PA",
        "caption": "PA and Lateral",
    } | dict.fromkeys(cohort.vocabulary.names)
    assert [(row["view"], row["view_source"]) for row in rows.values()] == [
        ("frontal", "order and caption"),
        ("lateral", "order and caption"),
        ("lateral", "metadata"),
        ("frontal", "other image"),
        (None, "unknown"),
    ]
    assert set(cohort.left_out) == {
        LeftOut("reports without an image", 1, ("CXR3",)),
        LeftOut("images without a file", 1, ("CXR22_IM-0800-2001",)),
        LeftOut("image files that no report mentions", 2, ("CXR99_IM-0001-1001.png", "logo.png")),
    }
    told = " ".join(cohort.notes)
    assert "5 of 7,470 images, 3 of 3,851 patients, 3 of 3,851 studies, 4 of 3,955 reports" in told
    assert "does not assess" not in told
    assert cohort.source["collection"] == "iu-xray" and "NC-ND" in cohort.source["licence"]
    assert cohort.source["counts"] == {"images": 5, "patients": 3, "studies": 3, "reports": 4}


def test_a_missing_image_is_an_error_unless_only_those_present_are_wanted(small: Path) -> None:
    _, cohort = load(small)
    assert len(cohort) == 6
    with pytest.raises(DataError, match=r"row 4: image .*CXR22_IM-0800-2001\.png does not exist \(1 of 6"):
        require_images(cohort)


def test_the_labeler_reads_what_load_has_parsed(small: Path) -> None:
    (small / "xml" / "1.xml").write_text(xml(1, ["CXR1_1_IM-0001-3001"], "<major>Cardiomegaly/mild</major>"))
    dataset, cohort = load(small, only_present=True)
    shutil.rmtree(small / "xml")
    reports = dataset.reports(cohort)
    assert dataset.default_labeler == "mesh"
    assert dict(reports.table.select("study_id", "codes").iter_rows()) == {
        "CXR1": ["Cardiomegaly/mild"],
        "CXR22": ["normal"],
        "CXR40": ["normal"],
    }
    with pytest.raises(DataError, match=r"has not been called"):
        IuXray(images="images").reports(cohort)


def test_images_in_a_tgz_are_unpacked_once(small: Path) -> None:
    with tarfile.open(small / "png.tgz", "w:gz") as archive:
        archive.add(small / "images", "NLMCXR_png")
    _, expected = load(small, only_present=True)
    shutil.rmtree(small / "images")
    for _ in range(2):
        _, cohort = load(small, images="png.tgz", only_present=True)
        assert cohort.table.drop("path").equals(expected.table.drop("path"))
        assert cohort.table["path"].str.starts_with(str(small / "work")).all()
        require_images(cohort)
    assert len(list((small / "work/archives").iterdir())) == 1


def test_a_dicom_file_is_an_image_of_the_collection(small: Path, shared: Path) -> None:
    film = next(path for path in sorted((shared / "dicom").iterdir()) if path.suffix == ".dcm")
    shutil.copyfile(film, small / "images/22_IM-0800-2001.dcm")
    _, cohort = load(small)
    require_images(cohort)
    path = cohort.table.filter(pl.col("image_id") == "CXR22_IM-0800-2001")["path"][0]
    assert path.endswith("22_IM-0800-2001.dcm") and read_image(path).pixels.ndim == 2


def test_one_image_in_two_files_is_one_sentence(small: Path) -> None:
    noise(small / "images/b/1_IM-0001-3001.png", 9)
    with pytest.raises(DataError, match=r"1_IM-0001-3001\.png and .*IM-0001-3001\.png are one image of IU-Xray"):
        load(small)


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"images": "nowhere"}, DataError, r"images .*nowhere does not exist; name the folder or the \.tgz"),
        ({"images": "meta.csv"}, DataError, r"meta\.csv is a file, not a folder"),
        ({"images": "xml"}, DataError, r"such as CXR1_1_IM-0001-3001\.png; found no image file"),
        ({"images": "other"}, DataError, r"found 1 image files such as scan\.png"),
        ({"reports": "nowhere"}, DataError, r"reports .*nowhere does not exist; name a \.tgz"),
        ({"metadata": "other.csv"}, DataError, r"unknown column 'imageid'\. Did you mean 'image_id'"),
        ({"metadata": "nowhere.csv"}, DataError, r"nowhere\.csv does not exist"),
        (
            {"only_presnt": True},
            SpecError,
            r"unknown key 'only_presnt'\. Did you mean 'only_present'\? Known: .*reports",
        ),
    ],
)
def test_a_wrong_option_is_one_sentence(
    options: dict[str, object], error: type[Exception], told: str, small: Path
) -> None:
    noise(small / "other/scan.png", 0)
    (small / "other.csv").write_text("image_id,View Position\nx,PA\n")
    with pytest.raises(error, match=told) as caught:
        load(small, only_present=True, **options) if "only_presnt" not in options else load(small, **options)
    assert "\n" not in str(caught.value)


def test_without_metadata_views_come_from_order_and_caption(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("radlens.data.iu_xray.installed_file", lambda name: None)
    _, cohort = load(small, metadata=None, only_present=True)
    assert cohort.table["view"].to_list() == ["frontal", "lateral", "frontal", "lateral", None]
    assert cohort.table["view_position"].null_count() == 5
    assert any("no metadata table was given" in note for note in cohort.notes)


def test_every_way_to_write_an_id_has_one_key() -> None:
    one = {"CXR1_1_IM-0001-3001", "CXR1_IM-0001-3001", "1_IM-0001-3001.dcm", "1_IM-0001-3001.dcm.png"}
    assert {image_key(name) for name in one} == {"1_IM-0001-3001"}
    assert image_key("CXR11_IM-0001-3001.png") == "11_IM-0001-3001"
    assert {image_key(name) for name in ("0.png", "CXR1.png", "IM-0001.png", "CXRa_IM-1.png", "")} == {None}


def test_the_whole_collection(torchxrayvision_data: Path, tmp_path: Path) -> None:
    images = pl.read_csv(torchxrayvision_data / "nlmcxr_dicom_metadata.csv.gz", infer_schema=False)["imageid"]
    # as on the disk: the files of the 7,469 images that the metadata names, empty
    (tmp_path / "images").mkdir()
    for name in images:
        (tmp_path / "images" / f"{name}.png").touch()
    assert len(find_images(tmp_path / "images").by_key) == 7469
    whole = IuXray(images="images").load(tmp_path, tmp_path)
    assert (len(whole), whole.table["patient_id"].n_unique(), whole.table["study_id"].n_unique()) == (7470, 3851, 3851)
    assert LeftOut("reports without an image", 104) in {LeftOut(x.what, x.count) for x in whole.left_out}
    assert not any("part of IU-Xray" in note for note in whole.notes)
    with pytest.raises(DataError, match=r"CXR1000_IM-0003-1001\.png does not exist \(1 of 7470"):
        require_images(whole)
    present = IuXray(images="images", only_present=True).load(tmp_path, tmp_path)
    assert len(present) == 7469 and any("7,469 of 7,470 images" in note for note in present.notes)
    assert {row["view"]: row["len"] for row in whole.table.group_by("view").len().to_dicts()} == {
        "frontal": 3722,
        "lateral": 3467,
        None: 281,
    }
