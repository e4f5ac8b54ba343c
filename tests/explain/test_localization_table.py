"""The table and its baselines, figure by figure on cases small enough to know."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest

from radlens.core.errors import DataError
from radlens.core.regions import Annotations, Box, Geometry, Mask, Region, SaliencyMaps
from radlens.explain.baselines import centre_map, label_prior, other_patient, region_on_grid
from radlens.explain.localization_table import DEFINITIONS, SCHEMA, localization_table

IMAGES = ("p/1", "p/2", "q/1", "r/1")
PATIENTS = {image: image[0] for image in IMAGES}
GEOMETRIES = {image: Geometry(80, 80, 64) for image in IMAGES}
# the region of image k is quarter k of the image
QUARTERS = {image: Box(40 * (k % 2), 40 * (k // 2), 40, 40) for k, image in enumerate(IMAGES)}


def hot(*quarters: int | None) -> SaliencyMaps:
    """Maps (image, label A, layer) of 4x4, warm (1) in one quarter each; None: zeros, flagged."""
    maps = np.zeros((len(quarters), 2, 1, 1, 4, 4), np.float16)
    flags = {}
    for k, quarter in enumerate(quarters):
        if quarter is None:
            flags[k, 0, 0, 0] = "constant"
        else:
            rows, columns = 2 * (quarter // 2), 2 * (quarter % 2)
            maps[k, 0, 0, 0, rows : rows + 2, columns : columns + 2] = 1
    return SaliencyMaps(IMAGES[: len(quarters)], ("A", "B"), ("grad-cam",), ("-1",), maps, flags)


def table_of(maps: SaliencyMaps, *more: Region) -> pl.DataFrame:
    regions = tuple(Region(image, "A", box) for image, box in QUARTERS.items())
    return localization_table({"probe": maps}, Annotations((*regions, *more), "test"), GEOMETRIES, PATIENTS)


def row(table: pl.DataFrame, setting: str, method: str, label: str) -> dict[str, float]:
    return table.filter(setting=setting, method=method, label=label).row(0, named=True)


def test_right_maps_and_their_baselines() -> None:
    table = table_of(hot(0, 1, 2, 3))
    assert dict(table.schema) == SCHEMA
    own = row(table, "probe", "grad-cam", "A")
    assert (own["images"], own["patients"], own["maps"], own["layer"]) == (4, 3, 4, "-1")
    assert own["hit_rate"] == 1 and own["degenerate_maps"] == 0 and own["unreachable_share"] == 0
    assert 3 < own["lift"] <= 4
    assert own["energy_in_region"] == pytest.approx(own["lift"] / 4)
    other = row(table, "probe", "other-patient:grad-cam", "A")
    assert other["hit_rate"] == 0 and other["lift"] < 0.7
    centre = row(table, "baseline", "centre", "A")
    assert centre["lift"] == pytest.approx(1, abs=1e-3) and centre["layer"] == "-"
    prior = row(table, "baseline", "label-prior", "A")
    assert prior["lift"] < 0.7
    assert own["lift_best_baseline"] == pytest.approx(max(other["lift"], centre["lift"], prior["lift"]))
    assert other["lift_best_baseline"] is None and prior["lift_best_baseline"] is None
    assert (own["lift_on_same_pairs"], own["pairs_compared"]) == (pytest.approx(own["lift"]), 4)
    assert other["lift_on_same_pairs"] is None and prior["pairs_compared"] is None
    everything = row(table, "probe", "grad-cam", "all")
    assert {k: v for k, v in everything.items() if k != "label"} == {k: v for k, v in own.items() if k != "label"}


def test_degenerate_maps_are_counted_and_score_as_uniform() -> None:
    table = table_of(hot(0, 1, 2, None))
    own, whole = row(table, "probe", "grad-cam", "A"), row(table_of(hot(0, 1, 2, 3)), "probe", "grad-cam", "A")
    assert own["degenerate_maps"] == 1
    assert own["hit_rate"] == pytest.approx((3 + 0.25) / 4)
    assert own["lift"] == pytest.approx((3 * whole["lift"] + 1) / 4, rel=0.02)


def test_other_labels_images_and_thin_regions() -> None:
    thin = Region("p/1", "B", Box(10.6, 10.6, 0.2, 0.2))
    unknown = Region("p/1", "C", Box(0, 0, 9, 9))
    elsewhere = Region("z/9", "A", Box(0, 0, 9, 9))
    table = table_of(hot(0, 1, 2, 3), thin, unknown, elsewhere)
    assert set(table["label"]) == {"A", "B", "all"}
    b = row(table, "probe", "grad-cam", "B")
    assert b["undefined_regions"] == 1 and math.isnan(b["hit_rate"]) and b["maps"] == 1
    everything = row(table, "probe", "grad-cam", "all")
    assert (everything["images"], everything["maps"], everything["hit_rate"]) == (4, 5, 1.0)
    assert table.filter(method="label-prior", label="B").height == 0
    with pytest.raises(DataError, match="none of the 1 regions of test belongs to one of the 4 explained images"):
        localization_table({"s": hot(0, 1, 2, 3)}, Annotations((elsewhere,), "test"), GEOMETRIES, PATIENTS)


def test_unreachable_share_of_a_mask_in_a_wide_image() -> None:
    bits = np.zeros((40, 160), bool)
    bits[:, :80] = True
    regions = (Region("p/1", "A", Mask.pack(bits)),)
    maps = SaliencyMaps(("p/1",), ("A",), ("grad-cam",), ("-1",), np.ones((1, 1, 1, 1, 4, 4), np.float16))
    table = localization_table({"s": maps}, Annotations(regions, "m"), {"p/1": Geometry(160, 40, 64)}, {"p/1": "p"})
    own = row(table, "s", "grad-cam", "A")
    assert own["unreachable_share"] == pytest.approx(60 / 80)
    assert own["lift"] == pytest.approx(1, abs=1e-5)
    assert set(table["method"]) == {"grad-cam", "centre"}


def test_baseline_parts() -> None:
    bell = centre_map(14, 14)
    assert np.array_equal(bell, bell[::-1, ::-1]) and bell[6, 6] == bell.max() and bell[0, 0] < 0.2
    geometry = Geometry(120, 80, 64)
    region = Box(20, 0, 40, 40).mask(80, 120)
    assert np.array_equal(region_on_grid(region, geometry, 2, 2), [[1, 0], [0, 0]])
    assert region_on_grid(Box(20, 0, 20, 40).mask(80, 120), geometry, 2, 2)[0, 0] == 0.5
    grids = {image: np.full((1, 1), k, np.float32) for k, image in enumerate(IMAGES)}
    assert label_prior(grids, PATIENTS, "p/1") == 2.5
    assert label_prior({"p/1": grids["p/1"], "p/2": grids["p/2"]}, PATIENTS, "p/1") is None
    assert [other_patient(IMAGES, PATIENTS, image) for image in IMAGES] == ["q/1", "q/1", "r/1", "p/1"]
    assert other_patient(IMAGES[:2], PATIENTS, "p/1") is None


def test_a_map_is_held_against_a_baseline_on_the_pairs_that_the_baseline_has() -> None:
    # every map fills its own region; A is small on two patients and overlaps, B is the whole image of one patient
    boxes = {("p/1", "A"): Box(0, 0, 40, 20), ("q/1", "A"): Box(10, 0, 40, 20), ("r/1", "B"): Box(0, 0, 80, 80)}
    images = ("p/1", "q/1", "r/1")
    geometries = {image: Geometry(80, 80, 64) for image in images}
    maps = np.zeros((3, 2, 1, 1, 8, 8), np.float16)
    for (image, label), box in boxes.items():
        grid = region_on_grid(box.mask(80, 80), geometries[image], 8, 8)
        maps[images.index(image), "AB".index(label), 0, 0] = grid
    saliency = SaliencyMaps(images, ("A", "B"), ("grad-cam",), ("-1",), maps)
    regions = tuple(Region(image, label, box) for (image, label), box in boxes.items())
    patients = {image: image[0] for image in images}
    table = localization_table({"s": saliency}, Annotations(regions, "t"), geometries, patients)
    own, small = row(table, "s", "grad-cam", "all"), row(table, "s", "grad-cam", "A")
    prior = row(table, "baseline", "label-prior", "all")
    assert (own["maps"], prior["maps"]) == (3, 2)
    assert own["lift"] < prior["lift"]  # over other pairs: no comparison
    assert own["lift_best_baseline"] == pytest.approx(prior["lift"]) and own["pairs_compared"] == 2
    assert own["lift_on_same_pairs"] == pytest.approx(small["lift"])
    assert own["lift_on_same_pairs"] > own["lift_best_baseline"]


def test_label_invariant_maps_are_counted() -> None:
    maps = hot(0, 1, 2, 3)
    maps.flags[1, 0, 0, 0] = maps.flags[2, 0, 0, 0] = "label-invariant"
    own = row(table_of(maps), "probe", "grad-cam", "A")
    assert (own["label_invariant_maps"], own["degenerate_maps"]) == (2, 0)


def test_every_figure_of_the_table_is_defined() -> None:
    known = {definition["column"] for definition in DEFINITIONS}
    names = "hit_rate energy_in_region lift iou lift_best_baseline lift_on_same_pairs unreachable_share degenerate_maps"
    assert {*names.split(), "label_invariant_maps"} == known <= set(SCHEMA)
    for definition in DEFINITIONS:
        assert {"column", "text", "direction", "bounds", "source", "table"} == set(definition)
        assert definition["direction"] in {"higher", "lower", "none"} and definition["bounds"][0] == 0
