"""A study on an IU-Xray-shaped folder, from XML to report: real reports, phantom pixels under real image ids."""

from __future__ import annotations

import csv
import json
import tarfile
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from PIL import Image

from radlens.core.spec import study_from_dict
from radlens.data.iu_xray_reports import read_iu_xray_reports
from radlens.data.phantom import SHIFTED, render_many
from radlens.study import run_study

IMAGES = 150


@pytest.fixture(scope="module")
def collection(torchxrayvision_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a user has it: the reports' archive, and the PNG files of the first 150 image ids."""
    folder = tmp_path_factory.mktemp("iu-xray")
    archive = folder / "NLMCXR_reports.tgz"
    archive.write_bytes((torchxrayvision_data / "NLMCXR_reports.tgz").read_bytes())
    reports = read_iu_xray_reports(str(archive), folder)
    ids = reports.table["image_ids"].explode().drop_nulls().to_list()[:IMAGES]
    (folder / "images").mkdir()
    for image_id, phantom in zip(ids, render_many(3, range(IMAGES), SHIFTED), strict=True):
        Image.fromarray(phantom.pixels).save(folder / "images" / f"{image_id}.png")
    return folder


def study(folder: Path, **changes: Any) -> Any:
    return study_from_dict(
        {
            "name": "iu",
            "cohort": {
                "dataset": "iu-xray",
                "reports": "NLMCXR_reports.tgz",
                "images": "images",
                "only_present": True,
                "labeler": {"name": "mesh", "borderline": "positive"},
            },
            "model": {"name": "radlens-tiny"},
            "settings": ["zero-shot", "linear-probe"],
        }
        | changes,
        folder,
    )


def test_from_xml_to_report(collection: Path, tmp_path: Path) -> None:
    page = run_study(study(collection), tmp_path / "run").read_text("utf-8")
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    cohort = pl.read_parquet(tmp_path / "run" / "cohort.parquet")
    assert cohort.height == IMAGES
    assert cohort.filter(pl.col("study_id") == "CXR1")["report"][0].startswith("The cardiac silhouette")
    assert set(cohort["view"].drop_nulls()) == {"frontal", "lateral"}
    origin = "MeSH major codes"
    assert all(origin in text for text in run["cohort"]["label_origins"].values())
    assert origin in page and "What was left out" in page
    left = {entry["what"]: entry["count"] for entry in run["left_out"]}
    assert 7470 - IMAGES in left.values()
    card = json.loads((tmp_path / "run" / "split_card.json").read_text())
    assert card["leakage"]["patients_in_several_splits"] == 0
    assert card["leakage"]["near_duplicates_in_several_splits"] == 0
    with (tmp_path / "run" / "label_evidence.csv").open() as file:
        evidence = {(row["study_id"], row["label"]): row for row in csv.DictReader(file)}
    assert evidence["CXR2", "Cardiomegaly"]["because"] == "Cardiomegaly/borderline"
    # the paper's figures stand beside
    assert "Published" in page


def test_images_in_an_archive_are_the_same_cohort(collection: Path, tmp_path: Path) -> None:
    archive = tmp_path / "NLMCXR_png.tgz"
    with tarfile.open(archive, "w:gz") as packed:
        for path in sorted((collection / "images").iterdir()):
            packed.add(path, path.name)
    from rich.console import Console

    from radlens.core.store import Cache
    from radlens.progress import Teller
    from radlens.stages.cohort import read_cohort

    spec = study(collection)
    packed_cohort = spec.cohort.model_copy(update={"images": str(archive)})
    assert packed_cohort.options()["images"] == str(archive)
    both = [
        read_cohort(one, Cache(tmp_path / "cache"), False, Teller(Console(), quiet=True)).cohort.table.drop("path")
        for one in (spec, spec.model_copy(update={"cohort": packed_cohort}))
    ]
    assert both[0].equals(both[1])


def test_another_labeler_and_folds(collection: Path, tmp_path: Path) -> None:
    cohort = study(collection).cohort.model_dump(exclude_none=True) | {"labeler": "rules"}
    spec = study(collection, cohort=cohort, settings=["zero-shot"], split={"folds": 2})
    page = run_study(spec, tmp_path / "run")
    assert page == tmp_path / "run" / "report.html"
    table = pl.read_csv(tmp_path / "run" / "tables" / "overall.csv")
    row = table.filter(pl.col("metric") == "macro_auroc").row(0, named=True)
    each = [pl.read_csv(tmp_path / "run" / f"fold-{k}" / "tables" / "overall.csv")["macro_auroc"][0] for k in (1, 2)]
    assert row["repeats"] == 2 and row["mean"] == pytest.approx(sum(each) / 2)
    tests = [
        set(pl.read_parquet(tmp_path / "run" / f"fold-{k}" / "cohort.parquet").filter(split="test")["image_id"])
        for k in (1, 2)
    ]
    assert not tests[0] & tests[1] and len(tests[0] | tests[1]) == IMAGES
    assert 'href="fold-2/report.html"' in page.read_text()
