"""The table of similarities against figures put together map by map."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.stats import spearmanr

from radlens.core.patient_means import patient_means
from radlens.core.regions import SaliencyMaps
from radlens.explain.map_similarity import SCHEMA, map_similarity_table

IMAGES = tuple(f"i{k}" for k in range(24))
# two images a patient
PATIENTS = {image: f"p{k // 2}" for k, image in enumerate(IMAGES)}
LABELS, METHODS, LAYERS = ("A", "B"), ("grad-cam", "flat", "legrad"), ("-1", "-3", "-5")


def maps_of(seed: int, images: tuple[str, ...] = IMAGES, labels: tuple[str, ...] = LABELS, **more: Any) -> SaliencyMaps:
    """Random maps; `flat` has no depth."""
    shape = (len(images), len(labels), len(METHODS), len(LAYERS), 8, 8)
    raw = np.maximum(np.random.default_rng(seed).normal(size=shape), 0)
    raw[:, :, 1] = raw[:, :, 1, :1]
    grids = (raw / raw.max(axis=(-1, -2), keepdims=True)).astype(np.float16)
    return SaliencyMaps(images, labels, METHODS, LAYERS, grids, has_depth=(True, False, True), **more)


def row(table: pl.DataFrame, **wanted: str) -> dict[str, Any]:
    (found,) = table.filter(**wanted).rows(named=True)
    return found


def rho(one: Any, other: Any) -> float:
    return float(spearmanr(one.ravel(), other.ravel()).statistic)


def test_which_pairs_are_compared() -> None:
    table = map_similarity_table({"zero": maps_of(0), "probe": maps_of(1)}, PATIENTS)
    assert dict(table.schema) == SCHEMA
    assert table.unique(table.columns[:8]).height == table.height
    # a label, and all: 7 distinct maps between settings; 3 pairs of layers for 2 methods; per setting and layer
    # grad-cam against legrad, and each of both against the one map of `flat`
    assert dict(table.filter(label="A")["kind"].value_counts().iter_rows()) == {
        "settings": 7,
        "layers": 2 * 2 * 3,
        "methods": 2 * (3 + 3 + 3),
    }
    assert table["label"].value_counts()["count"].to_list() == [37, 37, 37]
    between = table.filter(kind="settings")
    assert (between["layer_a"] == between["layer_b"]).all() and (between["method_a"] == between["method_b"]).all()
    assert set(between.filter(method_a="flat")["layer_a"]) == {"-"}
    assert "flat" not in set(table.filter(kind="layers")["method_a"])
    mixed = table.filter((pl.col("method_a") == "flat") & (pl.col("method_b") == "legrad"))
    assert set(mixed["layer_a"]) == {"-"} and set(mixed["layer_b"]) == set(LAYERS)


def test_figures_intervals_and_the_level_between_patients() -> None:
    zero, probe = maps_of(0), maps_of(1)
    # the probe keeps half of the zero-shot's maps
    mixed = (zero.maps.astype(float) + probe.maps) / 2
    probe = SaliencyMaps(*(IMAGES, LABELS, METHODS, LAYERS), mixed.astype(np.float16), has_depth=probe.has_depth)
    table = map_similarity_table({"zero": zero, "probe": probe}, PATIENTS)
    own = np.array([[rho(zero.maps[n, k, 2, 1], probe.maps[n, k, 2, 1]) for k in range(2)] for n in range(24)])
    # the second image of a patient is passed over
    other = [(n // 2 * 2 + 2) % 24 for n in range(24)]
    strange = np.array(
        [[rho(zero.maps[n, k, 2, 1], probe.maps[other[n], k, 2, 1]) for k in range(2)] for n in range(24)]
    )
    wanted = {"kind": "settings", "method_a": "legrad", "layer_a": "-3"}
    who = [PATIENTS[image] for image in IMAGES]
    for label, values, others, owners in (
        ("A", own[:, 0], strange[:, 0], who),
        ("B", own[:, 1], strange[:, 1], who),
        ("all", own.ravel(), strange.ravel(), np.repeat(who, 2)),
    ):
        found = row(table, label=label, **wanted)
        expected = patient_means(values, owners)
        assert (found["images"], found["patients"], found["reason"]) == (24, 12, None)
        assert found["spearman"] == pytest.approx(values.mean(), abs=1e-6)
        assert found["spearman_low"] == pytest.approx(expected.low[0], abs=1e-6)
        assert found["spearman_high"] == pytest.approx(expected.high[0], abs=1e-6)
        assert found["spearman_other_patient"] == pytest.approx(others.mean(), abs=1e-6)
        assert found["spearman_low"] > 0.3 > abs(found["spearman_other_patient"])
        assert found["ssim_low"] < found["ssim"] < found["ssim_high"]
        assert found["ssim_low"] > abs(found["ssim_other_patient"])


def test_layers_and_methods_of_one_setting() -> None:
    maps = maps_of(2)
    table = map_similarity_table({"zero": maps}, PATIENTS)
    assert set(table["kind"]) == {"layers", "methods"}
    layers = row(table, kind="layers", method_a="grad-cam", layer_a="-1", layer_b="-5", label="B")
    expected = np.mean([rho(maps.maps[n, 1, 0, 0], maps.maps[n, 1, 0, 2]) for n in range(24)])
    assert layers["spearman"] == pytest.approx(expected, abs=1e-6)
    methods = row(table, kind="methods", method_a="flat", method_b="legrad", layer_b="-3", label="B")
    expected = np.mean([rho(maps.maps[n, 1, 1, 0], maps.maps[n, 1, 2, 1]) for n in range(24)])
    assert methods["spearman"] == pytest.approx(expected, abs=1e-6)


def test_constant_maps_are_left_aside_and_equal_ones_have_no_interval() -> None:
    maps = maps_of(3, flags={(n, 0, 0, 0): "constant" for n in range(5)} | {(5, 0, 0, 0): "label-invariant"})
    table = map_similarity_table({"zero": maps, "probe": maps}, PATIENTS)
    found = row(table, kind="settings", method_a="grad-cam", layer_a="-1", label="A")
    assert (found["images"], found["patients"], found["spearman"], found["ssim"]) == (19, 10, 1.0, 1.0)
    assert found["spearman_low"] is None and "the same value in every replicate" in found["reason"]
    assert row(table, kind="settings", method_a="grad-cam", layer_a="-1", label="all")["images"] == 24
    nothing = maps_of(3, flags={(n, 0, 0, 0): "constant" for n in range(24)})
    table = map_similarity_table({"zero": nothing}, PATIENTS)
    empty = row(table, kind="layers", method_a="grad-cam", layer_a="-1", layer_b="-3", label="A")
    assert (empty["images"], empty["spearman"], empty["reason"]) == (0, None, "undefined: no value")
    assert empty["ssim_other_patient"] is None


def test_only_what_both_settings_have() -> None:
    one = maps_of(4)
    few = maps_of(5, images=("i9", "i3", "x"), labels=("C", "B"))
    table = map_similarity_table({"zero": one, "probe": few}, PATIENTS | {"x": "x"}).filter(kind="settings")
    assert set(table["label"]) == {"B", "all"}
    found = row(table, label="B", method_a="grad-cam", layer_a="-1")
    expected = np.mean(
        [rho(one.maps[9, 1, 0, 0], few.maps[0, 1, 0, 0]), rho(one.maps[3, 1, 0, 0], few.maps[1, 1, 0, 0])]
    )
    assert found["spearman"] == pytest.approx(expected, abs=1e-6)
    assert found["reason"] == "not estimable: 2 patients, an interval needs 10"
    swapped = np.mean(
        [rho(one.maps[9, 1, 0, 0], few.maps[1, 1, 0, 0]), rho(one.maps[3, 1, 0, 0], few.maps[0, 1, 0, 0])]
    )
    assert found["spearman_other_patient"] == pytest.approx(swapped, abs=1e-6)


def test_one_patient_has_no_other_and_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    maps = maps_of(6)
    alone = map_similarity_table({"zero": maps}, dict.fromkeys(IMAGES, "p"))
    assert alone["spearman_other_patient"].is_null().all() and alone["spearman"].is_not_null().all()
    whole = map_similarity_table({"zero": maps, "probe": maps_of(7)}, PATIENTS)
    monkeypatch.setattr("radlens.explain.map_similarity._IMAGES", 5)
    parts = map_similarity_table({"zero": maps, "probe": maps_of(7)}, PATIENTS)
    for column in ("spearman", "ssim", "spearman_other_patient", "ssim_other_patient"):
        np.testing.assert_allclose(parts[column], whole[column], atol=2e-6)


def test_nothing_to_compare_is_an_empty_table() -> None:
    maps = SaliencyMaps(("i0",), ("A",), ("m",), ("-1",), np.ones((1, 1, 1, 1, 4, 4), np.float16))
    table = map_similarity_table({"zero": maps}, PATIENTS)
    assert table.height == 0 and dict(table.schema) == SCHEMA
