"""Where a value stands in its null, and whole patients drawn at random."""

from __future__ import annotations

import numpy as np
import pytest

from radlens.evaluate.permutation import null_position, some_patients


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


def test_some_patients_are_whole_and_at_most_so_many_images() -> None:
    groups = [f"p{i % 37}" for i in range(200)]
    kept = some_patients(groups, 60, seed=1)
    assert 50 < len(kept) <= 60 and list(kept) == sorted(set(kept))
    chosen = {groups[i] for i in kept}
    assert len(kept) == sum(group in chosen for group in groups)
    np.testing.assert_array_equal(kept, some_patients(groups, 60, seed=1))
    assert list(kept) != list(some_patients(groups, 60, seed=2))
    np.testing.assert_array_equal(some_patients(groups, 200, seed=1), np.arange(200))
