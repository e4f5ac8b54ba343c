"""False alarms, figure by figure on cases small enough to know, and on planted and random maps."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import roc_auc_score

from radlens.core.patient_means import patient_means
from radlens.core.regions import Annotations, Box, Geometry, Region, SaliencyMaps
from radlens.explain.false_alarms import SCHEMA, false_alarm_table, highlighted_area
from radlens.explain.table_definitions import DEPTH_MATRIX, FALSE_ALARMS, MAP_SIMILARITY

SHOW, LACK = tuple(f"s{k}" for k in range(14)), tuple(f"n{k}" for k in range(16))
IMAGES = (*SHOW, *LACK)
PATIENTS = {image: image for image in IMAGES}
PRESENT: dict[str, dict[str, bool | None]] = {"A": {image: image in SHOW for image in IMAGES}}
GEOMETRIES = {image: Geometry(80, 80, 64) for image in IMAGES}
# the finding lies in the upper left quarter of the film, four of the sixteen patches
REGIONS = Annotations(tuple(Region(image, "A", Box(0, 0, 40, 40)) for image in SHOW), "test")
LAYERS = ("-1", "-3")


def slow_area(values: Any) -> float:
    """Otsu by trying every cut, by the variances within."""
    values = np.sort(np.asarray(values, float).ravel())
    within = {}
    for cut in np.unique(values)[:-1]:
        low, high = values[values <= cut], values[values > cut]
        within[cut] = len(low) * low.var() + len(high) * high.var()
    if not within:
        return 0.0
    least = min(within.values())
    return float((values > min(cut for cut, one in within.items() if one <= least + 1e-9)).mean())


def maps_of(grids: Any, **more: Any) -> SaliencyMaps:
    """Maps (images, layers, 4, 4) of label A by one method."""
    return SaliencyMaps(IMAGES, ("A",), ("grad-cam",), LAYERS, np.asarray(grids, np.float16)[:, None, None], **more)


def planted(seed: int = 0) -> Any:
    """Layer -1: the finding's place where it is, anywhere else where it is not; layer -3: the same in both."""
    random = np.random.default_rng(seed)
    grids = random.random((len(IMAGES), 2, 4, 4)) * 0.3
    for n, image in enumerate(IMAGES):
        if image in SHOW:
            grids[n, 0, :2, :2] = 1
        else:
            grids[n, 0].ravel()[random.permutation(16)[: random.integers(1, 4)]] = 1
        grids[n, 1].ravel()[random.permutation(8)[: random.integers(2, 7)]] = 1
    return grids


def row(table: pl.DataFrame, layer: str = "-1", **wanted: str) -> dict[str, Any]:
    (found,) = table.filter(layer=layer, **wanted).rows(named=True)
    return found


@settings(max_examples=60, deadline=None)
@given(arrays(np.float16, (9,), elements=st.sampled_from([0.0, 0.125, 0.25, 0.5, 0.75, 1.0])))
def test_highlighted_area_is_otsus(values: Any) -> None:
    assert highlighted_area(values) == pytest.approx(slow_area(values))


def test_highlighted_area_of_many() -> None:
    maps = np.random.default_rng(1).random((3, 2, 25)).astype(np.float16)
    found = highlighted_area(maps)
    assert found.shape == (3, 2)
    assert found == pytest.approx(np.array([[slow_area(one) for one in each] for each in maps]))
    assert highlighted_area(np.full((2, 9), 0.5)).tolist() == [0, 0]


def test_figures_on_planted_maps() -> None:
    grids = planted(1)
    random = np.random.default_rng(5)
    strengths = random.random((len(IMAGES), 1, 1, 2)).astype(np.float32)
    strengths[: len(SHOW), :, :, 0] += 0.5
    called: dict[str, dict[str, dict[str, bool | None]]] = {
        "probe": {"A": {i: i in ("s1", "n1", "n2") for i in IMAGES}}
    }
    maps = maps_of(grids, strengths=strengths)
    table = false_alarm_table({"probe": maps}, PRESENT, PATIENTS, REGIONS, GEOMETRIES, called)
    assert dict(table.schema) == SCHEMA and table["layer"].to_list() == list(LAYERS)
    lack = [n for n, image in enumerate(IMAGES) if image in LACK]
    stored = maps.maps[:, 0, 0].astype(float)
    quarter = np.zeros((4, 4))
    quarter[:2, :2] = 1
    areas = np.array([[slow_area(one) for one in each] for each in stored])
    energies = (stored * quarter).sum(axis=(-1, -2)) / stored.sum(axis=(-1, -2))
    for k, layer in enumerate(LAYERS):
        found = row(table, layer)
        assert (found["images_absent"], found["images_present"]) == (16, 14)
        assert (found["patients_absent"], found["patients_present"], found["images_disputed"]) == (16, 14, 0)
        assert found["prior_area"] == pytest.approx(0.25)
        for name, values in (("area", areas[:, k]), ("energy", energies[:, k])):
            assert found[f"{name}_absent"] == pytest.approx(values[lack].mean())
            assert found[f"{name}_present"] == pytest.approx(values[: len(SHOW)].mean())
            difference = values[lack].mean() - values[: len(SHOW)].mean()
            assert found[f"{name}_difference"] == pytest.approx(difference)
        expected = roc_auc_score([1] * 14 + [0] * 16, strengths[:, 0, 0, k])
        assert found["auroc_strength"] == pytest.approx(expected)
        assert found["called_positive"] == pytest.approx(2 / 16) and found["called_positive_reason"] is None
    alone = np.where(np.isin(IMAGES, LACK), energies[:, 0], np.nan)
    expected_ends = patient_means(alone, list(IMAGES))
    found = row(table)
    assert found["energy_absent_low"] == pytest.approx(expected_ends.low[0])
    assert found["energy_absent_high"] == pytest.approx(expected_ends.high[0])
    # layer -1 points elsewhere where there is nothing, layer -3 does not care
    assert found["energy_difference_high"] < -0.2 and found["auroc_strength_low"] > 0.5
    blind = row(table, "-3")
    assert blind["energy_difference_low"] < 0 < blind["energy_difference_high"]
    assert blind["area_difference_low"] < 0 < blind["area_difference_high"]


def test_the_prior_is_of_other_patients_alone() -> None:
    regions = Annotations((Region("s0", "A", Box(0, 0, 40, 40)), Region("s1", "A", Box(40, 40, 40, 40))), "test")
    grids = np.zeros((len(IMAGES), 2, 4, 4))
    grids[..., 0, 0] = 1
    patients = PATIENTS | {"n0": "s0"}
    table = false_alarm_table({"probe": maps_of(grids)}, PRESENT, patients, regions, GEOMETRIES)
    found = row(table)
    # 0 for n0, of the patient whose region it is; half of two regions for the others
    assert found["energy_absent"] == pytest.approx(15 * 0.5 / 16)
    # s0 sees only the other region, s1 only that of s0
    assert found["energy_present"] == pytest.approx((0 + 1 + 12 * 0.5) / 14)
    only = Annotations((Region("s0", "A", Box(0, 0, 40, 40)),), "test")
    table = false_alarm_table({"probe": maps_of(grids)}, PRESENT, dict.fromkeys(IMAGES, "s0"), only, GEOMETRIES)
    found = row(table)
    assert found["energy_absent"] is None and found["prior_area"] is None
    assert "no region of the label in another patient" in found["energy_difference_reason"]


def test_constant_maps_highlight_nothing_and_are_spread_evenly() -> None:
    grids = planted()
    grids[20, 0] = 0
    flags = {(20, 0, 0, 0): "constant", (21, 0, 0, 0): "constant", (0, 0, 0, 0): "label-invariant"}
    table = false_alarm_table({"probe": maps_of(grids, flags=flags)}, PRESENT, PATIENTS, REGIONS, GEOMETRIES)
    found = row(table)
    assert (found["constant_absent"], found["constant_present"]) == (2, 0)
    stored = grids[:, 0].astype(np.float16).astype(float)
    lack = [n for n in range(14, 30) if n not in (20, 21)]
    assert found["area_absent"] == pytest.approx(sum(slow_area(stored[n]) for n in lack) / 16)
    energies = [stored[n, :2, :2].sum() / stored[n].sum() for n in lack]
    assert found["energy_absent"] == pytest.approx((sum(energies) + 2 * 0.25) / 16)


def test_what_is_missing_has_a_reason() -> None:
    maps = maps_of(planted())
    nothing = row(false_alarm_table({"probe": maps}, PRESENT, PATIENTS, None, {}))
    assert nothing["energy_absent"] is None and "no region" in nothing["energy_absent_reason"]
    assert nothing["auroc_strength"] is None and "without their strengths" in nothing["auroc_strength_reason"]
    assert nothing["called_positive"] is None and "no decision" in nothing["called_positive_reason"]
    assert nothing["area_absent"] is not None and nothing["area_absent_reason"] is None
    strong = maps_of(planted(), strengths=np.ones((30, 1, 1, 2), np.float32))
    absent: dict[str, dict[str, bool | None]] = {"A": dict.fromkeys(LACK[:4], False)}
    few = row(false_alarm_table({"probe": strong}, absent, PATIENTS, None, {}))
    assert (few["images_absent"], few["images_present"], few["area_present"]) == (4, 0, None)
    assert few["area_absent_reason"] == "not estimable: 4 patients, an interval needs 10"
    assert few["area_absent_low"] is None and few["area_difference"] is None and few["auroc_strength"] is None
    assert few["auroc_strength_reason"] == "undefined: no image with the finding"
    unknown = false_alarm_table({"probe": maps}, {"A": dict.fromkeys(SHOW, True)}, PATIENTS, None, {})
    assert unknown.height == 0 and dict(unknown.schema) == SCHEMA


def test_readers_settings_labels_and_depth() -> None:
    looked = {(image, "reader"): frozenset({"A"}) for image in (*LACK, "s3")}
    # without targets the readers alone say who shows it; s3 was drawn by one and examined by another
    regions = Annotations((*REGIONS.regions, Region("n0", "B", Box(0, 0, 9, 9), "reader")), "test", examined=looked)
    more = {**looked, ("s3", "second"): frozenset({"A"})}
    regions = Annotations(regions.regions, "test", examined=more)
    shape = (len(IMAGES), 2, 2, 2, 4, 4)
    grids = np.random.default_rng(0).random(shape).astype(np.float16)
    two = SaliencyMaps(IMAGES, ("A", "B"), ("flat", "grad-cam"), LAYERS, grids, has_depth=(False, True))
    targets: dict[str, dict[str, bool | None]] = {"B": {"n3": False, "n4": None}}
    table = false_alarm_table({"zero": two, "probe": two}, targets, PATIENTS, regions, GEOMETRIES)
    keys = [("flat", "-"), ("grad-cam", "-1"), ("grad-cam", "-3")]
    assert table.select("setting", "label", "method", "layer").rows() == [
        (setting, label, *key) for setting in ("zero", "probe") for label in ("A", "B") for key in keys
    ]
    a = row(table, "-", setting="probe", label="A")
    assert (a["images_absent"], a["images_present"], a["images_disputed"]) == (16, 13, 1)
    b = row(table, "-", setting="probe", label="B")
    assert (b["images_absent"], b["images_present"], b["images_disputed"]) == (1, 1, 0)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    maps = maps_of(planted(), strengths=np.random.default_rng(0).random((30, 1, 1, 2)).astype(np.float32))
    whole = false_alarm_table({"probe": maps}, PRESENT, PATIENTS, REGIONS, GEOMETRIES)
    monkeypatch.setattr("radlens.explain.false_alarms._IMAGES", 7)
    assert whole.equals(false_alarm_table({"probe": maps}, PRESENT, PATIENTS, REGIONS, GEOMETRIES))


def test_definitions_name_columns() -> None:
    assert {one["column"] for one in FALSE_ALARMS} <= set(SCHEMA)
    for one in (*FALSE_ALARMS, *MAP_SIMILARITY, *DEPTH_MATRIX):
        assert set(one) == {"column", "table", "text", "direction", "bounds", "source"} and one["text"]
