"""The table and its baselines, figure by figure on cases small enough to know."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest

from radlens.core.errors import DataError
from radlens.core.regions import Annotations, Box, Geometry, Mask, Region, SaliencyMaps
from radlens.explain.baselines import centre_map, label_prior, label_priors, other_patients, region_on_grid
from radlens.explain.localization import SCORES
from radlens.explain.localization_table import (
    DEFINITIONS,
    SCHEMA,
    localization_of_pairs,
    localization_sizes,
    localization_table,
)
from radlens.explain.pair_scores import pair_scores
from radlens.explain.region_pixels import region_pixels

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
    of_a, of_all = ({k: v for k, v in one.items() if k != "label"} for one in (own, everything))
    assert str(of_a) == str(of_all)


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
    assert set(table["method"]) == {"grad-cam", "centre", "oracle"}


def test_baseline_parts() -> None:
    bell = centre_map(14, 14)
    assert np.array_equal(bell, bell[::-1, ::-1]) and bell[6, 6] == bell.max() and bell[0, 0] < 0.2
    geometry = Geometry(120, 80, 64)
    region = region_pixels([Box(20, 0, 40, 40)], 80, 120)
    assert np.array_equal(region_on_grid(region, geometry, (2, 2)), [[1, 0], [0, 0]])
    assert region_on_grid(region_pixels([Box(20, 0, 20, 40)], 80, 120), geometry, (2, 2))[0, 0] == 0.5
    grids = {image: np.full((1, 1), k, np.float32) for k, image in enumerate(IMAGES)}
    assert label_prior(grids, PATIENTS, "p/1") == 2.5
    assert label_prior({"p/1": grids["p/1"], "p/2": grids["p/2"]}, PATIENTS, "p/1") is None
    assert {image: float(grid[0, 0]) for image, grid in label_priors(grids, PATIENTS).items()} == {
        image: float(label_prior(grids, PATIENTS, image)[0, 0]) for image in IMAGES
    }
    assert set(label_priors({"p/1": grids["p/1"], "p/2": grids["p/2"]}, PATIENTS)) == set()
    assert other_patients(IMAGES, PATIENTS) == {"p/1": "q/1", "p/2": "q/1", "q/1": "r/1", "r/1": "p/1"}
    assert other_patients(IMAGES[:2], PATIENTS) == {} == other_patients((), PATIENTS)
    turned = (IMAGES[1], IMAGES[2], IMAGES[0])
    assert other_patients(turned, PATIENTS) == {"p/2": "q/1", "q/1": "p/1", "p/1": "q/1"}


def test_a_map_is_held_against_a_baseline_on_the_pairs_that_the_baseline_has() -> None:
    # every map fills its own region; A is small on two patients and overlaps, B is the whole image of one patient
    boxes = {("p/1", "A"): Box(0, 0, 40, 20), ("q/1", "A"): Box(10, 0, 40, 20), ("r/1", "B"): Box(0, 0, 80, 80)}
    images = ("p/1", "q/1", "r/1")
    geometries = {image: Geometry(80, 80, 64) for image in images}
    maps = np.zeros((3, 2, 1, 1, 8, 8), np.float16)
    for (image, label), box in boxes.items():
        grid = region_on_grid(region_pixels([box], 80, 80), geometries[image], (8, 8))
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


def many(patients: int, seed: int = 0) -> tuple[SaliencyMaps, Annotations, dict[str, Geometry], dict[str, str]]:
    """Maps of two settings' worth of noise and of regions: two images a patient, label A in all, B in every third."""
    generator = np.random.default_rng(seed)
    images = tuple(f"{k // 2}/{k % 2}" for k in range(2 * patients))
    geometries = {image: Geometry(80, 80, 64) for image in images}
    maps = np.empty((len(images), 2, 1, 2, 8, 8), np.float16)
    regions = []
    for k, image in enumerate(images):
        for column, label in enumerate("AB"[: 1 + (k % 3 == 0)]):
            x, y = generator.uniform(0, 50, 2)
            box = Box(x, y, *generator.uniform(5, 30, 2))
            regions.append(Region(image, label, box))
            own = region_on_grid(region_pixels([box], 80, 80), geometries[image], (8, 8))
            maps[k, column, 0, 0] = own + generator.random((8, 8)) / 4
        maps[k, :, 0, 1] = generator.random((2, 8, 8))
        maps[k, 1 if k % 3 else 0, 0, 0] = generator.random((8, 8))
    saliency = SaliencyMaps(images, ("A", "B"), ("grad-cam",), ("-1", "-2"), maps)
    return saliency, Annotations(tuple(regions), "t"), geometries, {image: image.split("/")[0] for image in images}


def test_means_intervals_and_differences_are_those_of_the_pairs() -> None:
    saliency, annotations, geometries, patients = many(24)
    pairs = pair_scores({"s": saliency}, annotations, geometries, patients)
    table = localization_of_pairs(pairs)
    for row in table.iter_rows(named=True):
        own = pairs.filter(setting=row["setting"], method=row["method"], layer=row["layer"])
        own = own if row["label"] == "all" else own.filter(label=row["label"])
        assert row["maps"] == own.height and row["patients"] == own["patient_id"].n_unique()
        for score in SCORES:
            mean = own[score].fill_nan(None).mean()
            assert row[score] == pytest.approx(math.nan if mean is None else mean, nan_ok=True)
        assert (row["lift_low"] is None) == (row["patients"] < 10)
        if row["lift_low"] is not None:
            assert row["lift_low"] < row["lift"] < row["lift_high"]
    told, noise = (
        table.filter(setting="s", method="grad-cam", layer=k, label="all").row(0, named=True) for k in ("-1", "-2")
    )
    rivals = {"centre": "-", "label-prior": "-", "other-patient:grad-cam": "-1"}
    joined = {
        method: pairs.filter(setting="s", method="grad-cam", layer="-1").join(
            pairs.filter(method=method, layer=layer), on=["image_id", "label"], suffix="_other"
        )
        for method, layer in rivals.items()
    }
    best = max(joined.values(), key=lambda both: both["lift_other"].mean())
    assert told["lift_difference"] == pytest.approx((best["lift"] - best["lift_other"]).mean())
    assert told["lift_difference"] == pytest.approx(told["lift_on_same_pairs"] - told["lift_best_baseline"])
    assert told["pairs_compared"] == best.height
    # the difference is paired: its interval is narrower than that of either lift would make it
    assert told["lift_difference_low"] > 0 and told["beats_baseline"] is True
    assert noise["lift_difference_low"] < 0 and noise["beats_baseline"] is False
    assert table.filter(setting="baseline")["beats_baseline"].null_count() == table.filter(setting="baseline").height
    assert table.equals(localization_of_pairs(pairs))


def test_few_patients_have_no_interval_but_a_reason() -> None:
    own = row(table_of(hot(0, 1, 2, 3)), "probe", "grad-cam", "A")
    assert own["lift_low"] is None and own["lift_difference_high"] is None and own["beats_baseline"] is None
    assert own["reason"] == "not estimable: 3 patients, an interval needs 10" and math.isnan(own["iou_tuned"])
    saliency, annotations, geometries, patients = many(12)
    saliency.maps[:] = 0
    saliency.flags.update({(k, c, 0, z): "constant" for k in range(24) for c in range(2) for z in range(2)})
    flat = localization_table({"s": saliency}, annotations, geometries, patients)
    constant = flat.filter(setting="s", method="grad-cam", layer="-1", label="A").row(0, named=True)
    assert constant["lift"] == 1 and constant["lift_low"] is None and constant["hit_rate_low"] is not None
    assert constant["reason"].startswith("lift, iou, dice, iou_oracle") and "same value" in constant["reason"]


def test_sizes_are_scored_apart() -> None:
    saliency, annotations, geometries, patients = many(24)
    pairs = pair_scores({"s": saliency}, annotations, geometries, patients)
    table = localization_sizes(pairs)
    assert list(table.columns) == ["size", *SCHEMA] and list(table["size"].unique(maintain_order=True)) == [
        "small",
        "medium",
        "large",
    ] == [size for size in ("small", "medium", "large") if (pairs["size"] == size).any()]
    own = table.filter(setting="s", method="grad-cam", layer="-1", label="all")
    assert own["maps"].sum() == pairs.filter(setting="s", method="grad-cam", layer="-1").height
    small = pairs.filter(setting="s", method="grad-cam", layer="-1", size="small")
    assert own.filter(size="small")["energy_in_region"].item() == pytest.approx(small["energy_in_region"].mean())


def test_every_figure_of_the_table_is_defined() -> None:
    known = [definition["column"] for definition in DEFINITIONS]
    names = {"setting", "method", "layer", "label", "images", "patients", "maps", "reason"}
    assert {*known} | names == set(SCHEMA) and len(known) == len(set(known)) and not names & {*known}
    for definition in DEFINITIONS:
        assert {"column", "text", "direction", "bounds", "source", "table"} == set(definition)
        assert definition["direction"] in {"higher", "lower", "none"}
        assert definition["bounds"][0] in (0, -math.inf) and definition["bounds"][1] in (1, math.inf)
