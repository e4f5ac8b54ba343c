"""Phantoms as a data set: rendered once, with exact masks, and options that are checked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from radlens.core.errors import SpecError
from radlens.core.spec import build_part
from radlens.data.phantom import SHIFTED, render
from radlens.data.phantoms import Phantoms


def test_the_files_are_the_phantoms_and_are_made_once(tmp_path: Path) -> None:
    dataset = Phantoms(images=5, seed=3, site="shifted", size=96)
    told: list[tuple[int, int]] = []
    cohort = dataset.load(Path(), tmp_path, lambda done, total: told.append((done, total)))
    assert told[-1] == (5, 5)
    for index, row in enumerate(cohort.table.to_dicts()):
        phantom = render(3, index, SHIFTED, 96)
        np.testing.assert_array_equal(np.asarray(Image.open(row["path"])), phantom.pixels)
        assert {label: row[label] for label in cohort.vocabulary.names} == phantom.labels
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.png")}
    next(iter(written)).unlink()
    told.clear()
    dataset.load(Path(), tmp_path, lambda done, total: told.append((done, total)))
    assert told == [(1, 1)]


def test_another_site_or_size_has_files_of_its_own(tmp_path: Path) -> None:
    first = Phantoms(images=1, size=96).load(Path(), tmp_path)
    other = Phantoms(images=1, size=96, parameters={"noise": 0.02}).load(Path(), tmp_path)
    assert first.table["path"][0] != other.table["path"][0]


def test_annotations_are_the_exact_masks_of_what_is_present(tmp_path: Path) -> None:
    dataset = Phantoms(images=6, size=96, prevalence={"Cardiomegaly": 1.0})
    cohort = dataset.load(Path(), tmp_path)
    ids = cohort.table["image_id"].to_list()[:2]
    found = dataset.annotations(cohort, ids)
    assert found is not None and found.image_ids() == tuple(ids)
    phantom = render(0, 0, dataset._site(), 96)
    np.testing.assert_array_equal(found.mask(ids[0], "Cardiomegaly", 96, 96), phantom.masks["Cardiomegaly"])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"prevalence": {"Cardiomegally": 0.5}}, "Cardiomegally"),
        ({"prevalence": {"Cardiomegaly": 1.5}}, "between 0 and 1"),
        ({"parameters": {"noise": "loud"}}, "noise"),
        ({"parameters": {"nose": 0.1}}, "nose"),
        ({"parameters": {"blur": 99}}, "blur"),
        ({"vocabulary": "mine.toml"}, "chexpert-14"),
        ({"site": "elsewhere"}, "site"),
    ],
)
def test_a_wrong_option_is_one_sentence(options: dict[str, object], told: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=told):
        build_part("datasets", "phantom", options).load(Path(), tmp_path)
