"""Scores map by map, their baselines, and thresholds tuned on validation."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest

from radlens.core.errors import DataError
from radlens.core.regions import Annotations, Box, Geometry, Point, Region, SaliencyMaps
from radlens.explain.baselines import region_on_grid
from radlens.explain.localization import SCORES, scores
from radlens.explain.pair_scores import SCHEMA, pair_scores
from radlens.explain.region_pixels import region_pixels
from radlens.explain.tuned_thresholds import SHARES, tuned_thresholds

CONTRACT = [
    "setting",
    "method",
    "layer",
    "label",
    "image_id",
    "patient_id",
    "flag",
    "area_share",
    "size",
    "unreachable_share",
    "hit_rate",
    "energy_in_region",
    "lift",
    "iou",
    "dice",
    "iou_tuned",
    "dice_tuned",
    "iou_oracle",
    "dice_oracle",
    "pixel_auroc",
    "pixel_average_precision",
    "contrast_to_noise",
]
IMAGES = ("a/1", "a/2", "b/1", "c/1")
PATIENTS = {image: image[0] for image in IMAGES}
GEOMETRIES = {image: Geometry(70, 56, 64) for image in IMAGES}
BOXES = {image: Box(10 * k, 8 * k, 22, 24) for k, image in enumerate(IMAGES)}


def maps_of(seed: int = 0, methods: tuple[str, ...] = ("grad-cam",), **options: object) -> SaliencyMaps:
    generator = np.random.default_rng(seed)
    maps = generator.random((4, 2, len(methods), 2, 4, 4)).astype(np.float16)
    return SaliencyMaps(IMAGES, ("A", "B"), methods, ("-1", "-3"), maps, **options)  # type: ignore[arg-type]


def regions(*more: Region) -> Annotations:
    return Annotations((*(Region(image, "A", box) for image, box in BOXES.items()), *more), "test")


def scored(results: dict[str, SaliencyMaps], *more: Region, **options: object) -> pl.DataFrame:
    return pair_scores(results, regions(*more), GEOMETRIES, PATIENTS, **options)  # type: ignore[arg-type]


def values(row: dict[str, object]) -> dict[str, object]:
    return {score: row[score] for score in SCORES}


def test_every_row_is_the_score_of_its_map() -> None:
    results = {"zero-shot": maps_of(1), "probe": maps_of(2)}
    results["probe"].flags[1, 0, 0, 1] = "constant"
    results["probe"].flags[2, 0, 0, 0] = "label-invariant"
    thresholds = {("probe", "grad-cam", "-1"): 0.6, ("baseline", "centre", "-"): 0.3}
    table = scored(results, thresholds=thresholds)
    assert list(table.columns) == CONTRACT and dict(table.schema) == SCHEMA
    assert table.height == 4 * (2 * 2 * 2 + 3) and table.select(CONTRACT[:5]).is_unique().all()
    strangers = {"a/1": "b/1", "a/2": "b/1", "b/1": "c/1", "c/1": "a/1"}
    for row in table.filter(pl.col("setting") != "baseline").iter_rows(named=True):
        maps, image = results[row["setting"]], row["image_id"]
        k = ("-1", "-3").index(row["layer"])
        source = IMAGES.index(strangers[image] if row["method"].startswith("other-patient:") else image)
        flag = maps.flags.get((source, 0, 0, k))
        assert row["flag"] == flag and row["patient_id"] == PATIENTS[image] and row["label"] == "A"
        geometry, region = GEOMETRIES[image], BOXES[image].mask(56, 70)
        big, visible = geometry.enlarge(maps.maps[source, 0, 0, k].astype(np.float32)), geometry.visible_mask()
        share = 0.6 if (row["setting"], row["layer"]) == ("probe", "-1") else math.nan
        slow = scores(big, region, visible, degenerate=flag == "constant", share=share)
        assert values(row) == pytest.approx(slow, abs=2e-4, nan_ok=True)
        assert row["area_share"] == pytest.approx((region & visible).sum() / visible.sum())
        assert row["unreachable_share"] == pytest.approx((region & ~visible).sum() / region.sum())
    centre = table.filter(method="centre")
    assert centre["iou_tuned"].is_not_nan().all() and table.filter(method="oracle")["iou_tuned"].is_nan().all()
    assert table.equals(scored(results, thresholds=thresholds, threads=1))


def test_the_oracle_is_the_region_itself_and_bounds_what_a_grid_can_do() -> None:
    table = scored({"s": maps_of()})
    oracle, own = table.filter(method="oracle"), table.filter(method="grad-cam", layer="-1")
    # not to the last digit: a region that fills patches in part is not highest everywhere inside
    for score in ("hit_rate", "energy_in_region", "pixel_auroc", "iou_oracle", "contrast_to_noise"):
        assert (oracle[score] >= own[score]).sum() >= 3 and oracle[score].mean() > own[score].mean() + 0.1
    row = oracle.filter(image_id="b/1").row(0, named=True)
    grid = region_on_grid(region_pixels([BOXES["b/1"]], 56, 70), GEOMETRIES["b/1"], (4, 4))
    geometry = GEOMETRIES["b/1"]
    slow = scores(geometry.enlarge(grid), BOXES["b/1"].mask(56, 70), geometry.visible_mask())
    assert values(row) == pytest.approx(slow, abs=2e-4, nan_ok=True) and row["layer"] == "-"


def test_two_readers_are_scored_against_each_other() -> None:
    other = Box(4, 3, 30, 20)
    table = scored({"s": maps_of()}, Region("a/1", "A", other, "second"), Region("b/1", "A", Point(30, 30), "second"))
    both = table.filter(method="second-reader")
    assert both["image_id"].to_list() == ["a/1"] and both["setting"].item() == "baseline"
    geometry = GEOMETRIES["a/1"]
    ways = []
    for drawn, truth in ((BOXES["a/1"], other), (other, BOXES["a/1"])):
        grid = region_on_grid(region_pixels([drawn], 56, 70), geometry, (4, 4))
        ways.append(scores(geometry.enlarge(grid), truth.mask(56, 70), geometry.visible_mask()))
    expected = {score: (ways[0][score] + ways[1][score]) / 2 for score in SCORES}
    assert values(both.row(0, named=True)) == pytest.approx(expected, abs=2e-4, nan_ok=True)
    # all other rows of the image are scored against both readers' regions together
    union = BOXES["a/1"].mask(56, 70) | other.mask(56, 70)
    seen = geometry.visible_mask()
    assert both["area_share"].item() == pytest.approx((union & seen).sum() / seen.sum())


def test_a_method_without_depth_stands_once() -> None:
    maps = maps_of(methods=("grad-cam", "occlusion"), has_depth=(True, False))
    table = scored({"s": maps}, thresholds={("s", "occlusion", "-"): 0.5})
    layers = table.group_by("method", maintain_order=True).agg(pl.col("layer").unique().sort())
    found = dict(layers.iter_rows())
    assert found["grad-cam"] == ["-1", "-3"] == found["other-patient:grad-cam"]
    assert found["occlusion"] == ["-"] == found["other-patient:occlusion"]
    assert table.filter(pl.col("method").str.ends_with("occlusion"))["iou_tuned"].is_not_nan().all()


def test_sizes_empty_regions_and_regions_out_of_sight() -> None:
    geometries = {"a/1": Geometry(400, 100, 64)}
    boxes = {"A": Box(200, 10, 10, 10), "B": Box(160, 10, 30, 30), "C": Box(150, 0, 80, 80)}
    boxes |= {"D": Box(0, 0, 50, 50), "E": Box(170.6, 20.6, 0.2, 0.2)}
    annotations = Annotations(tuple(Region("a/1", label, box) for label, box in boxes.items()), "t")
    maps = SaliencyMaps(
        ("a/1",),
        tuple("ABCDE"),
        ("grad-cam",),
        ("-1",),
        np.eye(4, dtype=np.float16)[None, None, None, None].repeat(5, 1),
    )
    table = pair_scores({"s": maps}, annotations, geometries, {"a/1": "a"})
    own = {row["label"]: row for row in table.filter(setting="s").iter_rows(named=True)}
    assert [own[label]["size"] for label in "ABCDE"] == ["small", "medium", "large", None, None]
    assert own["D"]["unreachable_share"] == 1 and own["D"]["area_share"] == 0 and own["D"]["iou_oracle"] == 0
    assert math.isnan(own["D"]["lift"]) and own["D"]["hit_rate"] == 0
    assert all(math.isnan(own["E"][name]) for name in (*SCORES, "area_share", "unreachable_share"))
    assert set(table["method"]) == {"grad-cam", "centre", "oracle"}


def test_maps_and_regions_that_do_not_meet() -> None:
    with pytest.raises(DataError, match="none of the 1 regions of t belongs to one of the 4 explained images"):
        pair_scores({"s": maps_of()}, Annotations((Region("z", "A", Box(0, 0, 9, 9)),), "t"), GEOMETRIES, PATIENTS)
    coarse = SaliencyMaps(IMAGES, ("A",), ("grad-cam",), ("-1",), np.ones((4, 1, 1, 1, 2, 2), np.float16))
    with pytest.raises(ValueError, match="grids of 2 sizes"):
        scored({"s": maps_of(), "t": coarse})


def test_the_tuned_share_has_the_highest_mean_overlap() -> None:
    results = {"s": maps_of(3, ("grad-cam", "occlusion"), has_depth=(True, False))}
    results["s"].maps[:, 0, 0, 0] *= 0.5  # the share is of the map's own maximum
    annotations = regions(Region("b/1", "B", Box(30, 20, 20, 20)), Region("b/1", "C", Box(0, 0, 9, 9)))
    found = tuned_thresholds(results, annotations, GEOMETRIES, PATIENTS)
    baselines = {("baseline", method, "-") for method in ("centre", "oracle", "label-prior")}
    assert set(found) == {("s", "grad-cam", "-1"), ("s", "grad-cam", "-3"), ("s", "occlusion", "-")} | baselines
    targets = [(image, 0, box) for image, box in BOXES.items()] + [("b/1", 1, Box(30, 20, 20, 20))]
    for (method, layer), (m, k) in {
        ("grad-cam", "-1"): (0, 0),
        ("grad-cam", "-3"): (0, 1),
        ("occlusion", "-"): (1, 0),
    }.items():
        means = []
        for share in SHARES:
            overlaps = []
            for image, column, box in targets:
                geometry = GEOMETRIES[image]
                big = geometry.enlarge(results["s"].maps[IMAGES.index(image), column, m, k].astype(np.float32))
                overlaps.append(scores(big, box.mask(56, 70), geometry.visible_mask(), share=share)["iou_tuned"])
            means.append(np.mean(overlaps))
        assert found["s", method, layer] == SHARES[int(np.argmax(means))]
    without = tuned_thresholds(results, annotations, GEOMETRIES)
    assert without == {key: share for key, share in found.items() if key[1] != "label-prior"}
    assert tuned_thresholds(results, Annotations((), "none"), GEOMETRIES) == {}
    thin = Annotations((Region("a/1", "A", Box(3.6, 3.6, 0.2, 0.2)),), "thin")
    assert tuned_thresholds(results, thin, GEOMETRIES) == {}
