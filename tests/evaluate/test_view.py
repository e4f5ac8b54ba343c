"""The flat view against scikit-learn's PCA."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.decomposition import PCA

from radlens.core.errors import SpecError
from radlens.evaluate import view
from radlens.evaluate.view import embedding_view


def test_view_is_the_principal_plane() -> None:
    random = np.random.default_rng(0)
    train = (random.normal(size=(80, 10)) * np.arange(1, 11) + 5).astype(np.float32)
    test = (random.normal(size=(30, 10)) * np.arange(1, 11) + 5).astype(np.float32)
    reference = PCA(2, svd_solver="full").fit(train.astype(np.float64))
    positions, shares = embedding_view(test, fit=train)
    np.testing.assert_allclose(np.abs(positions), np.abs(reference.transform(test.astype(np.float64))), rtol=1e-6)
    np.testing.assert_allclose(shares, reference.explained_variance_ratio_, rtol=1e-9)


def test_sign_is_fixed_and_odd_cases_are_flat() -> None:
    random = np.random.default_rng(1)
    x = random.normal(size=(20, 4)).astype(np.float32)
    positions, _ = embedding_view(x)
    again, _ = embedding_view(x[::-1])
    np.testing.assert_allclose(positions, again[::-1], atol=1e-10)
    flat, shares = embedding_view(np.ones((3, 4), np.float32))
    assert np.all(flat == 0) and np.isnan(shares).all()
    line, shares = embedding_view(np.arange(4, dtype=np.float32)[:, None])
    np.testing.assert_allclose(line, [[-1.5, 0], [-0.5, 0], [0.5, 0], [1.5, 0]])
    np.testing.assert_allclose(shares, [1, 0])
    assert embedding_view(np.zeros((0, 3), np.float32))[0].shape == (0, 2)


def clusters(n: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    kind = np.arange(n) % 3
    return (random.normal(size=(n, 20)) + 8 * np.eye(3, 20)[kind]).astype(np.float32), kind


def test_t_sne_keeps_neighbours_and_is_the_same_twice() -> None:
    embeddings, kind = clusters(150)
    positions, shares = embedding_view(embeddings, method="t-sne", seed=3)
    assert np.isnan(shares).all() and positions.shape == (150, 2)
    apart = np.linalg.norm(positions[:, None] - positions, axis=2) + np.diag(np.full(150, np.inf))
    assert (kind[apart.argmin(axis=1)] == kind).all()
    np.testing.assert_allclose(positions.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_array_equal(positions, embedding_view(embeddings, method="t-sne", seed=3)[0])


def test_t_sne_places_so_many_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view, "POINTS", 60)
    embeddings, _ = clusters(150)
    positions, _ = embedding_view(embeddings, method="t-sne")
    placed = np.flatnonzero(~np.isnan(positions).any(axis=1))
    np.testing.assert_array_equal(placed, view.shown_rows(150, 60))
    assert len(placed) == 60 and placed[0] == 0 and placed[-1] == 149


@pytest.mark.parametrize("n", [0, 1, 3, 4, 5])
def test_t_sne_of_next_to_nothing(n: int) -> None:
    embeddings, _ = clusters(5)
    assert np.isfinite(embedding_view(embeddings[:n], method="t-sne")[0]).all()
    assert (embedding_view(np.ones((n, 3), np.float32), method="t-sne")[0] == 0).all()


def test_methods_that_cannot_be_used_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings, _ = clusters(20)
    with pytest.raises(SpecError, match=r"unknown view 'tsne'\. Did you mean 't-sne'"):
        embedding_view(embeddings, method="tsne")  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="leave `fit` out"):
        embedding_view(embeddings, fit=embeddings, method="t-sne")
    monkeypatch.setattr(view.importlib.util, "find_spec", lambda name: None)
    assert view.view_methods() == ("pca", "t-sne")
    with pytest.raises(SpecError, match="needs the package umap-learn"):
        embedding_view(embeddings, method="umap")


def test_umap_is_handed_what_t_sne_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package is optional; where it is not installed a stand-in shows how it is called."""
    seen = {}

    class Stand:
        def __init__(self, **options: object) -> None:
            seen.update(options)

        def fit_transform(self, scores: np.ndarray) -> np.ndarray:
            seen["scores"] = scores
            return scores[:, :2] + 5

    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=Stand))
    monkeypatch.setattr(view.importlib.util, "find_spec", lambda name: object())
    embeddings, _ = clusters(12)
    positions, shares = embedding_view(embeddings, method="umap", seed=4)
    assert seen["random_state"] == 4 and seen["n_neighbors"] == 11 and np.isnan(shares).all()
    principal, _ = embedding_view(embeddings)
    np.testing.assert_allclose(positions, principal, atol=1e-4)
