"""Where a value stands in its null."""

from __future__ import annotations

import numpy as np
import pytest

from radlens.evaluate.permutation import null_position


def test_position_is_counted() -> None:
    replicates = np.array([[1.0, 1.0, 2.0], [2.0, np.nan, 2.0], [3.0, 3.0, 2.0], [4.0, np.nan, 2.0]])
    found = null_position(np.array([3.0, 9.0, 2.0]), replicates)
    np.testing.assert_allclose(found.mean, [2.5, 2.0, 2.0])
    np.testing.assert_allclose(found.p, [3 / 5, 1 / 3, np.nan])
    np.testing.assert_allclose(found.z[:2], [0.5 / np.std([1, 2, 3, 4], ddof=1), 7 / np.sqrt(2)])
    assert np.isnan(found.z[2]), "replicates that never vary are no null"


@pytest.mark.parametrize("replicates", [np.zeros((0, 1)), np.full((5, 1), np.nan), np.array([[1.0]])])
def test_without_replicates_there_is_no_position(replicates: np.ndarray) -> None:
    found = null_position(np.array([1.0]), replicates)
    assert np.isnan(found.z[0]) and np.isnan(found.p[0])


def test_an_undefined_value_has_no_position() -> None:
    found = null_position(np.array([np.nan]), np.array([[1.0], [2.0]]))
    assert np.isnan(found.z[0]) and np.isnan(found.p[0]) and found.mean[0] == 1.5
