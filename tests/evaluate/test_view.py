"""The flat view against scikit-learn's PCA."""

from __future__ import annotations

import numpy as np
from sklearn.decomposition import PCA

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
