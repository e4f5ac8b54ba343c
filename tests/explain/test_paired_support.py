"""Sign flips against scipy and a full enumeration, Holm against a loop, and what is supported."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import permutation_test

from radlens.core.holm import holm
from radlens.explain.paired_support import sign_flip_p, support


def slow_holm(p: list[float]) -> list[float]:
    tested = sorted((value, at) for at, value in enumerate(p) if not np.isnan(value))
    adjusted, least = [float("nan")] * len(p), 0.0
    for rank, (value, at) in enumerate(tested):
        least = max(least, min(1.0, value * (len(tested) - rank)))
        adjusted[at] = least
    return adjusted


def exact_p(differences: np.ndarray, patients: list[str]) -> float:
    sums = np.array([np.nansum(differences[np.array(patients) == name]) for name in dict.fromkeys(patients)])
    flips = np.array(list(product((-1, 1), repeat=len(sums)))) @ sums
    return float((np.abs(flips) >= abs(sums.sum()) - 1e-12).mean())


@given(st.lists(st.one_of(st.just(float("nan")), st.sampled_from([0.0, 0.01, 0.02, 0.5, 1.0])), max_size=8))
def test_holm(p: list[float]) -> None:
    np.testing.assert_allclose(holm(np.array(p, float)), slow_holm(p))


def test_sign_flips_are_those_of_patients() -> None:
    random = np.random.default_rng(0)
    differences = random.normal(0.4, 1, (24, 3))
    differences[random.random((24, 3)) < 0.2] = np.nan
    patients = [f"p{k % 11}" for k in range(24)]
    found = sign_flip_p(differences, np.array(patients), permutations=20_000)
    for m in range(3):
        assert found[m] == pytest.approx(exact_p(differences[:, m], patients), abs=0.012)
    np.testing.assert_array_equal(found, sign_flip_p(differences, np.array(patients), permutations=20_000))
    other = sign_flip_p(differences, np.array(patients), permutations=20_000, seed=1)
    assert (other != found).any() and other == pytest.approx(found, abs=0.015)


def test_one_image_a_patient_is_scipys_test() -> None:
    differences = np.random.default_rng(2).normal(0.5, 1, 12)
    expected = permutation_test((differences,), np.mean, permutation_type="samples", n_resamples=np.inf)
    found = sign_flip_p(differences[:, None], np.arange(12).astype(str))
    assert found[0] == pytest.approx(expected.pvalue, abs=0.012)


def test_ends_of_p() -> None:
    differences = np.stack([np.zeros(20), np.ones(20), np.full(20, np.nan)], axis=1)
    patients = np.arange(20).astype(str)
    found = sign_flip_p(differences, patients, permutations=999)
    assert found[0] == 1 and found[1] == pytest.approx(1 / 1000) and np.isnan(found[2])
    # one patient with many images is one patient
    assert sign_flip_p(differences, np.full(20, "one"), permutations=999)[1] == 1


def test_support_needs_interval_and_family() -> None:
    random = np.random.default_rng(3)
    noise = random.normal(size=(40, 4))
    differences = noise - noise.mean(axis=0) + [2.0, 0.02, 0.4, 2.0]
    differences[8:, 3] = np.nan
    patients = np.arange(40).astype(str)
    # alone, 0.4 is supported; beside a hundred of noise it is not
    found = support(differences, patients, ["x", "x", "x", "x"])
    assert found.supported == (True, False, True, None)
    assert np.isnan(found.p[3]) and np.isnan(found.p_holm[3]) and "8 patients" in str(found.means.reason[3])
    np.testing.assert_allclose(found.p_holm, slow_holm(list(found.p)))
    many = support(np.hstack([differences, random.normal(size=(40, 200))]), patients, ["x"] * 204)
    assert many.p[2] == found.p[2] and many.means.low[2] > 0 and many.supported[2] is False
    apart = support(np.hstack([differences, random.normal(size=(40, 200))]), patients, ["x"] * 4 + ["y"] * 200)
    assert apart.supported[:4] == found.supported and not any(apart.supported[4:])
