"""Silhouette against scikit-learn, nearest-neighbour purity against a slow loop."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import silhouette_samples, silhouette_score

from radlens.core.patient_means import patient_means
from radlens.core.vocabulary import Label, Vocabulary
from radlens.evaluate import distances
from radlens.evaluate import neighbourhood as module
from radlens.evaluate.neighbourhood import neighbourhood

VOCABULARY = Vocabulary("three", tuple(Label(name, None, (), ()) for name in "abc"))


def cohort(n: int = 90, nulls: float = 0.0) -> tuple[np.ndarray, np.ndarray, list[str]]:
    random = np.random.default_rng(0)
    targets = (random.random((n, 3)) < [0.5, 0.3, 0.1]).astype(np.float32)
    embeddings = (random.normal(size=(n, 6)) + targets @ random.normal(size=(3, 6)) + 5).astype(np.float32)
    targets[random.random((n, 3)) < nulls] = np.nan
    return embeddings, targets, [f"p{i}" for i in random.integers(0, n // 2, n)]


@pytest.mark.parametrize("block", [13, 1024])
@pytest.mark.parametrize("nulls", [0.0, 0.2])
def test_rows_equal_scikit_learn_and_the_slow_loop(block: int, nulls: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distances, "BLOCK", block)
    embeddings, targets, groups = cohort(nulls=nulls)
    table = neighbourhood(embeddings, targets, groups, VOCABULARY, seed=0, neighbours=4)
    for normalised in (False, True):
        x = embeddings.astype(np.float64)
        x = x / np.linalg.norm(x, axis=1, keepdims=True) if normalised else x
        means = []
        for k, name in enumerate("abc"):
            known = ~np.isnan(targets[:, k])
            label = targets[known, k]
            row = table.filter(name=name, normalised=normalised).row(0, named=True)
            assert row["silhouette"] == pytest.approx(silhouette_score(x[known], label), abs=1e-6)
            positives = silhouette_samples(x[known], label)[label == 1].mean()
            assert row["silhouette_positives"] == pytest.approx(positives, abs=1e-6)
            shares, baselines = [], []
            for i in np.flatnonzero(targets[:, k] == 1):
                others = [j for j in range(len(x)) if groups[j] != groups[i]]
                nearest = sorted(others, key=lambda j, i=i: np.linalg.norm(x[i] - x[j]))[:4]
                assessed = [targets[j, k] for j in nearest if known[j]]
                shares += [np.mean(assessed)] if assessed else []
                baselines.append(np.mean([targets[j, k] for j in others if known[j]]))
            assert row["knn_purity"] == pytest.approx(np.mean(shares))
            assert row["knn_purity_baseline"] == pytest.approx(np.mean(baselines))
            assert (row["positives"], row["negatives"]) == ((label == 1).sum(), (label == 0).sum())
            means.append(row["silhouette"])
        assert table.filter(name="overall", normalised=normalised)["silhouette"][0] == pytest.approx(np.mean(means))


def test_other_views_of_a_patient_are_no_neighbours() -> None:
    random = np.random.default_rng(0)
    embeddings = np.repeat(random.normal(size=(200, 5)), 3, axis=0).astype(np.float32)
    targets = np.repeat((random.random((200, 3)) < 0.3), 3, axis=0).astype(np.float32)
    table = neighbourhood(embeddings, targets, [f"p{i // 3}" for i in range(600)], VOCABULARY, 0, 2)
    row = table.filter(name="overall", normalised=False).row(0, named=True)
    assert row["knn_purity"] == pytest.approx(row["knn_purity_baseline"], abs=0.08), "noise, once copies are left out"
    alone = neighbourhood(embeddings, targets, [str(i) for i in range(600)], VOCABULARY, 0, 2).row(0, named=True)
    assert alone["knn_purity"] == 1.0


def test_undefined_is_nan() -> None:
    embeddings, targets, groups = cohort()
    targets[:, 0], targets[:, 1] = 0, np.nan
    targets[0, 0] = 1
    a, b, c = neighbourhood(embeddings, targets, groups, VOCABULARY, 0).head(3).iter_rows(named=True)
    assert np.isnan(a["silhouette"]) and a["knn_purity"] == 0.0 and a["knn_purity_baseline"] == 0.0
    assert all(np.isnan(b[column]) for column in ("silhouette", "knn_purity", "knn_purity_baseline"))
    assert -1 <= c["silhouette"] <= 1
    one = neighbourhood(embeddings, targets, ["p"] * 90, VOCABULARY, 0)
    assert one["knn_purity"].is_nan().all(), "one patient has no neighbours"
    same = neighbourhood(np.ones_like(embeddings), targets, groups, VOCABULARY, 0).filter(name="c", normalised=False)
    assert same["silhouette"][0] == 0.0
    assert neighbourhood(embeddings[:0], targets[:0], [], VOCABULARY, 0)["silhouette"].is_nan().all()


def test_large_cohorts_are_drawn_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IMAGES", 40)
    table = neighbourhood(*cohort(), VOCABULARY, seed=0)
    assert table["images"].unique().item() <= 40
    assert table.equals(neighbourhood(*cohort(), VOCABULARY, seed=0))


def test_intervals_are_of_the_images_own_values_over_patients() -> None:
    embeddings, targets, groups = cohort()
    table = neighbourhood(embeddings, targets, groups, VOCABULARY, seed=5, neighbours=4, replicates=400)
    row = table.filter(name="a", normalised=False).row(0, named=True)
    x = embeddings.astype(np.float64)
    values = np.where(targets[:, 0] == 1, silhouette_samples(x, targets[:, 0]), np.nan)
    expected = patient_means(values, groups, seed=5, replicates=400)
    assert row["silhouette_positives_low"] == pytest.approx(expected.low[0], abs=1e-6)
    assert row["silhouette_positives_high"] == pytest.approx(expected.high[0], abs=1e-6)
    assert row["knn_purity_low"] < row["knn_purity"] < row["knn_purity_high"] and row["reason"] is None
    overall = table.filter(name="overall", normalised=False).row(0, named=True)
    assert overall["knn_purity_low"] < overall["knn_purity"] < overall["knn_purity_high"]


def test_few_patients_give_a_reason_and_no_interval() -> None:
    embeddings, targets, _ = cohort()
    groups = [f"p{i % 9}" for i in range(90)]
    table = neighbourhood(embeddings, targets, groups, VOCABULARY, 0, replicates=200)
    label, overall = table.row(0, named=True), table.filter(name="overall").row(0, named=True)
    assert label["reason"].startswith("not estimable") and np.isnan(label["knn_purity_low"])
    assert overall["reason"] == "not estimable: no label has enough patients" and np.isnan(overall["silhouette_high"])
