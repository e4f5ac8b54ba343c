"""Similarity of embedding spaces against Gram matrices, a leave-out loop and scipy's Procrustes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.linalg import orthogonal_procrustes

from radlens.core.errors import DataError
from radlens.core.predictions import Predictions
from radlens.evaluate import similarity as module
from radlens.evaluate.similarity import compare_spaces


def predictions(setting: str, embeddings: np.ndarray, targets: np.ndarray | None = None) -> Predictions:
    n = len(embeddings)
    targets = (np.random.default_rng(9).random((n, 2)) < 0.3).astype(np.float32) if targets is None else targets
    ids = tuple(f"i{i}" for i in range(n))
    groups = tuple(f"p{i // 2}" for i in range(n))
    return Predictions(
        setting, "test", ("x", "y"), ids, groups, np.full((n, 2), 0.5), targets, embeddings.astype(np.float32)
    )


def slow_cka(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Plain and debiased, from Gram matrices as in the papers."""
    n = len(a)
    k, l = a @ a.T, b @ b.T  # noqa: E741
    h = np.eye(n) - 1 / n
    plain = np.trace(k @ h @ l @ h) / np.sqrt(np.trace(k @ h @ k @ h) * np.trace(l @ h @ l @ h))

    def unbiased(k: np.ndarray, l: np.ndarray) -> float:  # noqa: E741
        k, l = k - np.diag(np.diag(k)), l - np.diag(np.diag(l))  # noqa: E741
        one = np.ones(n)
        return (
            np.trace(k @ l)
            + (one @ k @ one) * (one @ l @ one) / ((n - 1) * (n - 2))
            - 2 / (n - 2) * (one @ k @ l @ one)
        ) / (n * (n - 3))

    return plain, unbiased(k, l) / np.sqrt(unbiased(k, k) * unbiased(l, l))


def two_spaces(n: int = 80) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    a = random.normal(size=(n, 6)) + 20
    b = a @ random.normal(size=(6, 5)) + 3 * random.normal(size=(n, 5))
    return a.astype(np.float32).astype(np.float64), b.astype(np.float32).astype(np.float64)


def test_cka_and_its_interval_equal_gram_matrices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ROWS", 7)
    a, b = two_spaces()
    row = compare_spaces([predictions("a", a), predictions("b", b)]).row(0, named=True)
    plain, debiased = slow_cka(a, b)
    assert (row["a"], row["b"], row["name"], row["images"]) == ("a", "b", "overall", 80)
    assert row["linear_cka"] == pytest.approx(plain, rel=1e-9)
    assert row["linear_cka_debiased"] == pytest.approx(debiased, rel=1e-9)
    # forty patients: each is a set of its own, and the jackknife is the usual one
    left_out = [
        slow_cka(np.delete(a, [2 * p, 2 * p + 1], 0), np.delete(b, [2 * p, 2 * p + 1], 0))[1] for p in range(40)
    ]
    error = np.sqrt(39 * np.var(left_out))
    assert row["linear_cka_debiased_low"] == pytest.approx(debiased - 2.0227 * error, rel=1e-3)
    assert row["linear_cka_debiased_high"] == pytest.approx(min(debiased + 2.0227 * error, 1), rel=1e-3)


def test_unrelated_spaces_are_not_alike_once_debiased() -> None:
    random = np.random.default_rng(0)
    spaces = [predictions(name, random.normal(size=(200, 100))) for name in "ab"]
    row = compare_spaces(spaces).row(0, named=True)
    assert row["linear_cka"] > 0.25 and abs(row["linear_cka_debiased"]) < 0.05
    assert row["linear_cka_debiased_low"] < 0 < row["linear_cka_debiased_high"]


def test_drift_is_in_units_of_the_spread_and_aligned_by_procrustes() -> None:
    random = np.random.default_rng(1)
    a = random.normal(size=(60, 4))
    b = a + 0.1 * random.normal(size=(60, 4))
    one, other = predictions("a", a), predictions("b", b)
    a, b = one.embeddings.astype(np.float64), other.embeddings.astype(np.float64)
    rows = compare_spaces([one, other])
    rotation, _ = orthogonal_procrustes(b - b.mean(0), a - a.mean(0))
    turned = (b - b.mean(0)) @ rotation + a.mean(0)
    drifts = []
    for k, name in enumerate("xy"):
        own = one.targets[:, k] == 1
        spread = np.linalg.norm(a[own] - a[own].mean(0), axis=1).mean()
        row = rows.filter(name=name).row(0, named=True)
        drifts.append(np.linalg.norm(a[own].mean(0) - b[own].mean(0)) / spread)
        assert row["centroid_drift"] == pytest.approx(drifts[-1])
        aligned = np.linalg.norm(a[own].mean(0) - turned[own].mean(0)) / spread
        assert row["centroid_drift_aligned"] == pytest.approx(aligned)
        assert row["images"] == own.sum()
    assert rows["centroid_drift"][0] == pytest.approx(np.mean(drifts))


def test_a_rotation_is_no_difference() -> None:
    random = np.random.default_rng(2)
    a = random.normal(size=(100, 8)) + 1
    turn, _ = np.linalg.qr(random.normal(size=(8, 8)))
    table = compare_spaces([predictions("a", a), predictions("same", a), predictions("turned", a @ turn + 7)])
    assert list(zip(table["a"], table["b"], strict=True))[::3] == [("a", "same"), ("a", "turned"), ("same", "turned")]
    same, turned = (table.filter(a="a", b=b, name="overall").row(0, named=True) for b in ("same", "turned"))
    assert same["linear_cka"] == pytest.approx(1) and same["centroid_drift"] == 0
    assert turned["linear_cka_debiased"] == pytest.approx(1, abs=1e-6) and turned["centroid_drift"] > 1
    assert turned["centroid_drift_aligned"] == pytest.approx(0, abs=1e-5)


def test_undefined_has_its_reason() -> None:
    a, b = two_spaces(40)
    targets = np.zeros((40, 2), np.float32)
    targets[:1, 0], targets[:9, 1] = 1, 1
    table = compare_spaces([predictions("a", a, targets), predictions("b", b, targets)])
    _, x, y = table.iter_rows(named=True)
    assert np.isnan(x["centroid_drift_aligned"]) and x["reason"] == "1 images with the label"
    assert np.isnan(y["centroid_drift"]) and y["reason"] == "no raw drift between 6 and 5 dimensions"
    assert y["centroid_drift_aligned"] >= 0
    few = compare_spaces([predictions("a", a[:10]), predictions("b", b[:10])]).row(0, named=True)
    assert np.isnan(few["linear_cka_debiased_low"]) and few["reason"] == "no interval: 5 patients, at least 10 needed"
    flat = compare_spaces([predictions("a", a), predictions("flat", np.ones((40, 5)))]).row(0, named=True)
    assert np.isnan(flat["linear_cka"]) and np.isnan(flat["linear_cka_debiased"]) and flat["reason"]
    assert compare_spaces([predictions("a", a)]).is_empty()


def test_other_images_and_bad_embeddings_are_refused() -> None:
    a, b = two_spaces(20)
    one, other = predictions("a", a), predictions("b", b)
    renamed = dataclasses.replace(other, image_ids=(*other.image_ids[:-1], "elsewhere"))
    with pytest.raises(DataError, match=r"a and b must have .* the same images .* 2 images are in one only"):
        compare_spaces([one, renamed])
    with pytest.raises(DataError, match="their order differs"):
        compare_spaces([one, dataclasses.replace(other, image_ids=other.image_ids[::-1])])
    other.embeddings[3, 2] = np.inf
    with pytest.raises(DataError, match="setting b: the embedding of image i3"):
        compare_spaces([one, other])
    with pytest.raises(DataError, match="no images"):
        compare_spaces([predictions("a", a[:0]), predictions("b", b[:0])])
