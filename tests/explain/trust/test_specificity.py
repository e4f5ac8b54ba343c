"""A label's own map against the maps of other labels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from radlens.core.regions import Annotations, Box, Geometry, Region, SaliencyMaps
from radlens.explain.localization import energy_in_region
from radlens.explain.trust.specificity import class_specificity, energy_on_grid, region_grids

LABELS = ("A", "B", "C")
IDS = tuple(f"i{at}" for at in range(14))
PATIENTS = {image: f"p{at}" for at, image in enumerate(IDS)}


def drawn(seed: int = 0) -> SaliencyMaps:
    maps = np.random.default_rng(seed).uniform(0, 1, (len(IDS), 3, 2, 2, 4, 4)).astype(np.float16)
    return SaliencyMaps(IDS, LABELS, ("m", "n"), ("-1", "-2"), maps)


def regions_of(seed: int = 1) -> dict[tuple[str, str], np.ndarray]:
    random = np.random.default_rng(seed)
    found = {}
    for image in IDS:
        for label in ("A", "B"):
            if label == "A" or random.random() < 0.5:
                grid = np.zeros((4, 4), np.float32)
                grid[random.integers(4), random.integers(4)] = random.uniform(0.3, 1)
                found[image, label] = grid
    return found


def test_figures_by_slow_loops() -> None:
    maps, regions = drawn(), regions_of()
    table = class_specificity({"s": maps}, regions, PATIENTS)
    assert set(table["label"]) == {"A", "B", "all"} and len(table) == 3 * 4
    for label in ("A", "B", "all"):
        own, others = [], []
        for (image, of), region in regions.items():
            if label in (of, "all"):
                at = IDS.index(image)
                grids = maps.maps[at, :, 1, 0].astype(float)
                energy = [float((grid * region).sum() / grid.sum()) for grid in grids]
                own.append(energy[LABELS.index(of)])
                others.append(np.mean([energy[c] for c, name in enumerate(LABELS) if (image, name) not in regions]))
        row = table.filter(label=label, method="n", layer="-1").row(0, named=True)
        assert row["value"] == pytest.approx(np.mean(own)) and row["rival"] == pytest.approx(np.mean(others))
        assert row["difference"] == pytest.approx(np.mean(own) - np.mean(others))
        assert row["images"] == len(own)
        expected = True if row["low"] > 0 else False if row["high"] <= 0 else None
        assert row["passed"] is expected


def test_own_maps_pass_same_maps_fail_and_few_patients_get_no_answer() -> None:
    regions = {(image, label): grid for (image, label), grid in regions_of().items() if label == "A"}
    maps = drawn()
    good = maps.maps.copy()
    for image, label in regions:
        good[IDS.index(image), LABELS.index(label)] += 9 * regions[image, label].astype(np.float16)
    row = class_specificity({"s": replace(maps, maps=good)}, regions, PATIENTS).row(0, named=True)
    assert row["passed"] is True and row["low"] > 0.2 and "of the maps of the other labels" in row["reason"]
    same = np.repeat(maps.maps[:, :1], 3, axis=1)
    invariant = class_specificity({"s": replace(maps, maps=same)}, regions, PATIENTS)
    assert invariant["passed"].to_list() == [False] * 8 and invariant["difference"].abs().max() == 0
    few = {key: grid for key, grid in regions.items() if key[0] in IDS[:9]}
    assert class_specificity({"s": replace(maps, maps=good)}, few, PATIENTS)["passed"].to_list() == [None] * 8
    alone = SaliencyMaps(IDS, ("A",), ("m",), ("-1",), good[:, :1, :1, :1])
    (reason,) = class_specificity({"s": alone}, regions, PATIENTS)["reason"].unique().to_list()
    assert "no other label" in reason


def test_energy_is_that_of_maps_of_flat_patches() -> None:
    maps = drawn().maps[0, 0]
    region = np.zeros((40, 40), bool)
    region[7:23, 15:36] = True
    shares = region.reshape(4, 10, 4, 10).mean(axis=(1, 3)).astype(np.float32)
    for method in range(2):
        flat = np.kron(maps[method, 0].astype(np.float32), np.ones((10, 10), np.float32))
        expected = energy_in_region(flat, region)
        assert energy_on_grid(maps, shares)[method, 0] == pytest.approx(expected, rel=1e-5)
    assert energy_on_grid(np.zeros((4, 4)), shares) == pytest.approx(region.mean())


def test_region_grids_leave_out_what_the_model_cannot_see() -> None:
    boxes = [
        ("a", "A", Box(100, 0, 50, 50)),
        ("a", "B", Box(0, 0, 20, 100)),
        ("a", "unknown", Box(100, 0, 50, 50)),
        ("b", "A", Box(0, 0, 50, 50)),
        ("b", "A", Box(50, 50, 50, 50)),
    ]
    annotations = Annotations(tuple(Region(*box) for box in boxes), "test")
    # the crop takes 50 pixels off either side of image a
    geometries = {"a": Geometry(200, 100, 64), "b": Geometry(100, 100, 64)}
    found = region_grids(annotations, ("a", "b", "c"), LABELS, geometries | {"c": geometries["b"]}, (4, 4))
    assert set(found) == {("a", "A"), ("b", "A")}
    expected = np.zeros((4, 4))
    expected[:2, 2:] = 1
    np.testing.assert_allclose(found["a", "A"], expected)
    np.testing.assert_allclose(found["b", "A"], np.kron(np.eye(2), np.ones((2, 2))))
