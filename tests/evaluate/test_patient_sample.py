"""Whole patients drawn at random, and their numbers."""

from __future__ import annotations

import numpy as np

from radlens.evaluate.patient_sample import patient_sample, some_patients


def test_some_patients_are_whole_and_at_most_so_many_images() -> None:
    groups = [f"p{i}" for i in np.random.default_rng(0).integers(0, 40, 200)]
    kept = some_patients(groups, 60, seed=1)
    inside = {groups[row] for row in kept}
    assert 40 < len(kept) <= 60 and (np.diff(kept) > 0).all()
    assert [row for row, name in enumerate(groups) if name in inside] == list(kept)
    np.testing.assert_array_equal(kept, some_patients(groups, 60, seed=1))
    assert list(kept) != list(some_patients(groups, 60, seed=2))
    np.testing.assert_array_equal(some_patients(groups, 200, seed=1), np.arange(200))


def test_a_sample_knows_its_patients_in_either_order() -> None:
    groups = ["b", "a", "b", "c", "a"]
    as_they_are = patient_sample(groups, 10, 0)
    assert as_they_are.rows.tolist() == [0, 1, 2, 3, 4] and as_they_are.patient.tolist() == [1, 0, 1, 2, 0]
    sorted_by = patient_sample(groups, 10, 0, by_patient=True)
    assert sorted_by.rows.tolist() == [1, 4, 0, 2, 3] and sorted_by.patient.tolist() == [0, 0, 1, 1, 2]
    assert sorted_by.names == ("a", "a", "b", "b", "c")
    few = patient_sample(groups, 2, 0)
    assert set(few.patient) == set(range(len(set(few.names)))) and len(few.rows) <= 2
    assert patient_sample([], 5, 0, by_patient=True).patient.shape == (0,)
