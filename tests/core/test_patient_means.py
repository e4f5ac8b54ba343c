"""Means over images with intervals over patients."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap

from radlens.core.patient_means import LEAST, patient_means


def test_ends_agree_with_scipy_where_each_patient_has_one_image() -> None:
    values = np.random.default_rng(0).lognormal(size=60)
    found = patient_means(values, [f"p{i}" for i in range(60)], replicates=20000)
    expected = bootstrap((values,), np.mean, n_resamples=20000, method="BCa", rng=np.random.default_rng(1))
    interval = expected.confidence_interval
    width = interval.high - interval.low
    assert found.value[0] == pytest.approx(values.mean())
    assert found.low[0] == pytest.approx(interval.low, abs=0.04 * width)
    assert found.high[0] == pytest.approx(interval.high, abs=0.04 * width)


def test_images_of_one_patient_do_not_count_as_independent() -> None:
    random = np.random.default_rng(0)
    values = np.repeat(random.normal(size=30), 8)
    patients = np.repeat([f"p{i}" for i in range(30)], 8)
    together = patient_means(values, patients)
    apart = patient_means(values, [f"i{i}" for i in range(240)])
    assert together.patients[0] == 30
    assert together.images[0] == 240
    assert together.high[0] - together.low[0] > 2 * (apart.high[0] - apart.low[0])


def test_a_replicate_is_the_mean_of_the_drawn_images() -> None:
    values = np.array([[1.0, np.nan], [2.0, 5.0], [4.0, np.nan], [8.0, 1.0]])
    patients = ["b", "a", "b", "c"]
    found = patient_means(values, patients, replicates=50, seed=3)
    random = np.random.default_rng(3)
    members = {"a": [1], "b": [0, 2], "c": [3]}
    for replicate in found.replicates:
        drawn = [row for place in random.integers(0, 3, 3) for row in members["abc"[place]]]
        for column in (0, 1):
            known = [values[row, column] for row in drawn if not np.isnan(values[row, column])]
            expected = np.mean(known) if known else np.nan
            assert replicate[column] == pytest.approx(expected, nan_ok=True)


def test_undefined_and_thin_evidence_have_a_reason_and_no_interval() -> None:
    count = LEAST + 2
    values = np.full((count, 4), np.nan)
    values[:, 0] = np.arange(count)
    values[: LEAST - 1, 1] = np.arange(LEAST - 1)
    values[:, 3] = 2.0
    found = patient_means(values, [str(i) for i in range(count)])
    assert found.reason[0] is None
    assert found.low[0] < found.value[0] < found.high[0]
    assert found.reason[1] == "not estimable: 9 patients, an interval needs 10"
    assert found.reason[2] == "undefined: no value"
    assert found.reason[3] is not None and "same value" in found.reason[3]
    assert np.isnan(found.low[1:]).all() and np.isnan(found.high[1:]).all()
    assert found.value[1] == pytest.approx(4.0) and np.isnan(found.value[2])


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 20), st.floats(-5, 5) | st.just(float("nan"))), min_size=1, max_size=60),
    st.integers(0, 5),
)
def test_value_lies_between_least_and_greatest(rows: list[tuple[int, float]], seed: int) -> None:
    values = np.array([value for _, value in rows])
    found = patient_means(values, [str(patient) for patient, _ in rows], seed=seed, replicates=100)
    known = values[~np.isnan(values)]
    if len(known):
        assert known.min() - 1e-9 <= found.value[0] <= known.max() + 1e-9
        assert found.reason[0] is not None or found.low[0] <= found.high[0]
    else:
        assert np.isnan(found.value[0])
