"""Distances to training embeddings against scikit-learn, in blocks, with flat memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from radlens.core.errors import DataError
from radlens.evaluate import distance_to_train
from radlens.evaluate.distance_to_train import fit_mahalanobis, nearest_distances, share_nearer

RANDOM = np.random.default_rng(0)
TRAIN = (RANDOM.normal(size=(700, 20)) @ RANDOM.normal(size=(20, 20)) + 5).astype(np.float32)
NEW = (RANDOM.normal(size=(150, 20)) * 2 + 5).astype(np.float32)


@pytest.mark.parametrize("rows", [700, 12])
def test_mahalanobis_is_scikit_learns_ledoit_wolf(rows: int) -> None:
    train = TRAIN[:rows]
    found, reference = fit_mahalanobis(train), LedoitWolf().fit(train.astype(np.float64))
    assert found.shrinkage == pytest.approx(reference.shrinkage_, rel=1e-6)
    np.testing.assert_allclose(found.distance(NEW) ** 2, reference.mahalanobis(NEW.astype(np.float64)), rtol=1e-5)


@pytest.mark.parametrize("normalised", [True, False])
def test_nearest_is_scikit_learns(normalised: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distance_to_train, "_BLOCK", 64)
    monkeypatch.setattr(distance_to_train, "_TRAIN_BLOCK", 100)
    train, new = TRAIN.astype(np.float64), np.vstack([NEW, TRAIN[:5]]).astype(np.float64)
    if normalised:
        train /= np.linalg.norm(train, axis=1, keepdims=True)
        new /= np.linalg.norm(new, axis=1, keepdims=True)
    for k in (1, 7):
        expected = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(train).kneighbors(new)[0][:, -1]
        expected[expected < 1e-6] = 0
        found = nearest_distances(np.vstack([NEW, TRAIN[:5]]), TRAIN, k, normalised=normalised)
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)


def test_far_from_the_origin_neighbours_are_still_found() -> None:
    far = (RANDOM.normal(size=(500, 8)) * 0.01 + 1000).astype(np.float32)
    found = nearest_distances(far[:50] + np.float32(0.001), far, 3, normalised=False)
    wide, shifted = far.astype(np.float64), (far[:50] + np.float32(0.001)).astype(np.float64)
    expected = np.sort(np.linalg.norm(shifted[:, None] - wide, axis=2), axis=1)[:, 2]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_strange_images_score_higher() -> None:
    strange = np.r_[np.zeros(150), np.ones(150)]
    alike = (RANDOM.normal(size=(150, 20)) @ np.linalg.cholesky(np.cov(TRAIN.T)).T + TRAIN.mean(axis=0)).astype("f4")
    both = np.vstack([alike, NEW + 8])
    assert roc_auc_score(strange, fit_mahalanobis(TRAIN).distance(both)) > 0.95
    assert roc_auc_score(strange, nearest_distances(both, TRAIN, normalised=False)) > 0.9


def test_share_nearer() -> None:
    reference = np.array([1.0, 2.0, 2.0, 3.0])
    assert share_nearer(np.array([0.0, 2.0, 2.5, 9.0]), reference).tolist() == [0, 0.5, 0.75, 1]
    assert np.isnan(share_nearer(np.ones(2), np.zeros(0))).all()


def test_few_neighbours_and_odd_input() -> None:
    one = nearest_distances(NEW[:3], TRAIN[:1], 10, normalised=False)
    wide = NEW[:3].astype(np.float64) - TRAIN[:1].astype(np.float64)
    np.testing.assert_allclose(one, np.linalg.norm(wide, axis=1))
    assert nearest_distances(NEW[:0], TRAIN).shape == (0,)
    zero = nearest_distances(np.zeros((2, 20), np.float32), np.zeros((3, 20), np.float32), 2)
    assert zero.tolist() == [0, 0]
    with pytest.raises(DataError, match="found none"):
        nearest_distances(NEW, TRAIN[:0])
    with pytest.raises(DataError, match="found 1"):
        fit_mahalanobis(TRAIN[:1])
    with pytest.raises(DataError, match="all are equal"):
        fit_mahalanobis(np.ones((5, 3), np.float32))


def test_memory_does_not_grow_with_the_number_of_images() -> None:
    def peak(rows: int) -> int:
        train, new = np.ones((rows, 16), np.float32), np.ones((64, 16), np.float32)
        train[:, 0] = np.arange(rows)
        tracemalloc.start()
        fit_mahalanobis(train).distance(new)
        nearest_distances(new, train, 3, normalised=False)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    assert peak(80_000) < 1.2 * peak(20_000)
