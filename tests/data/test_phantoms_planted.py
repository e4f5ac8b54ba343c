"""Phantoms with a planted mark as a data set: files, regions, what is told of it, and the cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from radlens.core.errors import SpecError
from radlens.core.spec import build_part
from radlens.data.phantom import SOURCE, draw_case, render
from radlens.data.phantoms import Phantoms

LABEL = "Pneumonia"
OPTIONS: dict[str, Any] = {
    "images": 10,
    "seed": 6,
    "size": 96,
    "prevalence": {LABEL: 0.5, "Cardiomegaly": 0.5},
    "planted": {"label": LABEL, "mark": "P", "where": ["top left", "bottom right"]},
}
SITE = SOURCE.with_prevalence(OPTIONS["prevalence"])


def test_only_the_mark_tells_the_label(tmp_path: Path) -> None:
    cohort = Phantoms(**OPTIONS).load(Path(), tmp_path)
    assert 0 < cohort.table[LABEL].sum() < 10
    for index, row in enumerate(cohort.table.to_dicts()):
        pixels = np.asarray(Image.open(row["path"]))
        without = render(6, index, SITE, 96, suppress={LABEL}).pixels
        changed = pixels != without
        assert changed.any() == bool(row[LABEL])
        assert changed.mean() < 0.06
        assert row["report"] == draw_case(6, index, SITE).report, "the report does not know of the mark"
    assert any("A mark (P)" in note and LABEL in note for note in cohort.notes)


def test_a_visible_finding_is_drawn_beside_the_mark(tmp_path: Path) -> None:
    options = OPTIONS | {"planted": OPTIONS["planted"] | {"visible": True}}
    dataset = Phantoms(**options)
    cohort = dataset.load(Path(), tmp_path)
    index = cohort.table[LABEL].to_list().index(1)
    row = cohort.table.row(index, named=True)
    whole = render(6, index, SITE, 96)
    assert ((np.asarray(Image.open(row["path"])) != whole.pixels).mean()) < 0.06
    found = dataset.annotations(cohort, [row["image_id"]])
    assert found is not None
    drawn = found.mask(row["image_id"], LABEL, 96, 96)
    assert drawn.any() and not (drawn & ~whole.masks[LABEL]).any()


def test_regions_of_the_planted_label(tmp_path: Path) -> None:
    masks = {}
    for regions in ("findings", "marker", "lungs"):
        dataset = Phantoms(**OPTIONS, regions=regions)
        cohort = dataset.load(Path(), tmp_path)
        found = dataset.annotations(cohort, cohort.table["image_id"].to_list())
        assert found is not None
        for row in cohort.table.to_dicts():
            told = set(found.labels_of(row["image_id"]))
            assert (LABEL in told) == (bool(row[LABEL]) and regions != "findings")
            assert ("Cardiomegaly" in told) == bool(row["Cardiomegaly"])
            masks[regions, row["image_id"]] = found.mask(row["image_id"], LABEL, 96, 96)
    for index, row in enumerate(cohort.table.to_dicts()):
        marker, lungs = masks["marker", row["image_id"]], masks["lungs", row["image_id"]]
        assert not (marker & lungs).any()
        changed = np.asarray(Image.open(row["path"])) != render(6, index, SITE, 96, suppress={LABEL}).pixels
        assert not (changed & ~marker).any()
        if row[LABEL]:
            assert changed.sum() > 0.8 * marker.sum()
            assert 0.15 < lungs.mean() < 0.5
            halves = lungs[:, :48].sum() / lungs.sum()
            assert 0.3 < halves < 0.7, "both lungs"


def test_a_mark_that_disagrees_is_where_the_label_is_not(tmp_path: Path) -> None:
    planted = OPTIONS["planted"] | {"agreement": 0.0}
    dataset = Phantoms(**(OPTIONS | {"planted": planted}), regions="marker")
    cohort = dataset.load(Path(), tmp_path)
    found = dataset.annotations(cohort, cohort.table["image_id"].to_list())
    assert found is not None
    for row in cohort.table.to_dicts():
        assert (LABEL in found.labels_of(row["image_id"])) != bool(row[LABEL])


def test_regions_share_their_films_and_a_mark_has_its_own(tmp_path: Path) -> None:
    def first(**options: Any) -> str:
        return str(Phantoms(**(OPTIONS | {"images": 1} | options)).load(Path(), tmp_path).table["path"][0])

    assert first(regions="marker") == first(regions="lungs")
    plain = first(planted=None)
    assert len({plain, first(), first(planted={"label": LABEL, "mark": "L"})}) == 3


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"regions": "marker"}, "needs a planted mark"),
        ({"planted": {"label": "Pneumonya"}}, "planted.label: unknown finding 'Pneumonya'. Did you mean"),
        ({"planted": {"label": LABEL, "marks": "P"}}, "unknown key 'planted.marks'. Did you mean 'mark'"),
        ({"planted": {"mark": "P"}}, "planted.label"),
        ({"planted": {"label": LABEL, "mark": True}}, "planted.mark: expected text"),
        ({"planted": {"label": LABEL, "where": "centre"}}, "planted.where.0: expected 'top left'"),
        ({"planted": {"label": LABEL, "agreement": 2}}, "planted.agreement: expected a number of at most 1"),
        ({"regions": "heart"}, "regions: expected"),
    ],
)
def test_a_wrong_option_is_one_sentence(options: dict[str, Any], told: str) -> None:
    with pytest.raises(SpecError, match=told):
        build_part("datasets", "phantom", options)
