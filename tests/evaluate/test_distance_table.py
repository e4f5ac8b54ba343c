"""The table of distances: shift found where there is one, errors told, against scikit-learn and slow loops."""

from __future__ import annotations

import numpy as np
import pytest

from radlens.core.predictions import Predictions
from radlens.evaluate import distance_table as module
from radlens.evaluate.distance_table import distance_table, train_distances

THRESHOLDS = np.array([0.5, 0.5])


def predictions(count: int, moved: float, seed: int, hard: bool = False) -> Predictions:
    random = np.random.default_rng(seed)
    embeddings = random.normal(size=(count, 8)).astype(np.float32)
    far = random.random(count) < moved
    embeddings[far, 0] += 12
    targets = (random.random((count, 2)) < 0.4).astype(np.float32)
    right = random.random((count, 2)) < (np.where(far, 0.2, 0.9)[:, None] if hard else 0.8)
    probabilities = np.where(right, targets, 1 - targets) * 0.8 + 0.1
    ids = tuple(f"i{i}" for i in range(count))
    groups = tuple(f"p{seed}-{i // 2}" for i in range(count))
    return Predictions("s", "x", ("a", "b"), ids, groups, probabilities.astype(np.float64), targets, embeddings)


TRAIN = np.random.default_rng(9).normal(size=(300, 8)).astype(np.float32)


def test_images_of_another_kind_are_found_and_their_errors_told() -> None:
    val, test = predictions(200, 0.0, 1), predictions(240, 0.3, 2, hard=True)
    table = distance_table("s", train_distances(TRAIN, val, test, 0), val, test, THRESHOLDS, 0)
    assert table["method"].to_list() == ["mahalanobis", "knn"]
    row = table.row(0, named=True)
    assert row["val_p95"] == pytest.approx(np.quantile(train_distances(TRAIN, val, test, 0)[0].val, 0.95))
    assert 0.25 < row["beyond_low"] < row["beyond"] < row["beyond_high"] < 0.5 and row["reason"] is None
    assert 0.5 < row["farther_low"] < row["farther"] < row["farther_high"]
    assert row["error_auroc_low"] > 0.6 and row["error_reason"] is None
    assert row["wrong"] + row["right"] == 480 and row["test_patients"] == 120


def test_images_of_the_same_kind_are_not() -> None:
    val, test = predictions(400, 0.0, 3), predictions(400, 0.0, 4)
    for row in distance_table("s", train_distances(TRAIN, val, test, 0), val, test, THRESHOLDS, 0).iter_rows(
        named=True
    ):
        assert row["farther_low"] < 0.5 < row["farther_high"] and row["beyond_low"] < 0.07
        assert row["error_auroc_low"] < 0.5 < row["error_auroc_high"]


def test_an_unmeasured_label_is_no_decision() -> None:
    val, test = predictions(40, 0.0, 1), predictions(40, 0.0, 2)
    test.targets[:, 1] = np.nan
    row = distance_table("s", train_distances(TRAIN, val, test, 0), val, test, THRESHOLDS, 0).row(0, named=True)
    assert row["wrong"] + row["right"] == 40
    test.targets[:] = np.nan
    row = distance_table("s", train_distances(TRAIN, val, test, 0), val, test, THRESHOLDS, 0).row(0, named=True)
    assert np.isnan(row["error_auroc"]) and row["error_reason"] == "undefined: no wrong decisions"


def test_few_patients_few_validation_images_and_a_flat_space_have_reasons() -> None:
    val, test = predictions(18, 0.0, 1), predictions(16, 0.0, 2)
    row = distance_table("s", train_distances(TRAIN, val, test, 0), val, test, THRESHOLDS, 0).row(0, named=True)
    assert np.isnan(row["beyond"]) and row["reason"].endswith("; undefined: 18 validation images, 20 needed")
    assert np.isnan(row["farther_low"]) and row["farther"] >= 0
    assert "an interval needs 10 of each" in row["error_reason"] and 0 <= row["error_auroc"] <= 1
    flat = distance_table("s", train_distances(np.ones((9, 8), np.float32), val, test, 0), val, test, THRESHOLDS, 0)
    assert "all are equal" in flat["reason"][0] and flat["farther"].is_nan()[0] and not flat["farther"].is_nan()[1]
    none = distance_table("s", train_distances(TRAIN[:0], val, test, 0), val, test, THRESHOLDS, 0)
    assert none["reason"].str.contains("found none|found 0").all() and none["error_auroc"].is_nan().all()


def test_more_images_than_are_looked_at_are_drawn_by_patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IMAGES", 50)
    monkeypatch.setattr(module, "TRAIN_IMAGES", 100)
    val, test = predictions(200, 0.0, 1), predictions(240, 0.0, 2)
    mahalanobis, knn = train_distances(TRAIN, val, test, 0)
    assert (mahalanobis.train_images, knn.train_images) == (300, 100)
    assert len(knn.val) == 50 and len({test.groups[row] for row in knn.test_rows}) == 25
    row = distance_table("s", (knn,), val, test, THRESHOLDS, 0).row(0, named=True)
    assert row["test_images"] == 50 and row["wrong"] + row["right"] == 100
