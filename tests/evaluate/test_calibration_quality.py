"""Calibration judged: intercept and slope, reliability curve, expected error and its null."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.stats import binomtest

from radlens.evaluate.calibration.expected_error import calibration_error, calibration_error_table
from radlens.evaluate.calibration.recalibration import recalibration, recalibration_table
from radlens.evaluate.calibration.reliability import (
    effective_size,
    equal_mass_bins,
    reliability_curve,
    reliability_table,
    wilson,
)
from radlens.evaluate.log_odds import to_logits, to_probabilities


def drawn(n: int, seed: int, slope: float = 1.0, shift: float = 0.0) -> tuple[Any, Any]:
    """Probabilities (n,) and targets whose true logit is slope x logit + shift."""
    random = np.random.default_rng(seed)
    logits = random.normal(-1.5, 1.5, n)
    return to_probabilities(logits), (random.random(n) < to_probabilities(slope * logits + shift)).astype(np.float32)


def singles(n: int) -> list[str]:
    return [f"p{i}" for i in range(n)]


def test_intercept_and_slope_are_the_maximum_likelihood() -> None:
    p, y = drawn(800, 0, 0.6, 0.5)
    found = recalibration(p, y, singles(800))
    x = to_logits(p)

    def loss(line: Any) -> float:
        return float((np.logaddexp(0, line) - y * line).sum())

    assert found.intercept == pytest.approx(minimize(lambda v: loss(x + v), [0.0]).x[0], abs=1e-4)
    assert found.slope == pytest.approx(minimize(lambda v: loss(v[0] * x + v[1]), [1.0, 0.0]).x[0], abs=1e-4)
    assert found.slope_low < 0.6 < found.slope_high < 1


def test_interval_of_independent_images_is_about_that_of_the_information_matrix() -> None:
    p, y = drawn(5000, 1)
    found = recalibration(p, y, singles(5000))
    x = to_logits(p)
    design = np.column_stack([np.ones(5000), x])
    error = np.sqrt(np.linalg.inv(design.T @ (design * (p * (1 - p))[:, None]))[1, 1])
    assert found.slope_high - found.slope_low == pytest.approx(2 * 1.96 * error, rel=0.06)


def test_images_of_one_patient_counted_twice_do_not_narrow_the_interval() -> None:
    p, y = drawn(400, 2)
    once = recalibration(p, y, singles(400))
    twice = recalibration(np.repeat(p, 3), np.repeat(y, 3), np.repeat(singles(400), 3).tolist())
    for field in ("intercept", "intercept_low", "intercept_high", "slope", "slope_low", "slope_high"):
        assert getattr(twice, field) == pytest.approx(getattr(once, field), abs=1e-6), field
    assert (twice.patients, twice.assessed) == (400, 1200)


def test_recalibration_is_not_estimable_with_few_positives_or_separation() -> None:
    p, y = drawn(200, 3)
    y[np.flatnonzero(y == 1)[9:]] = 0
    found = recalibration(p, y, singles(200))
    assert np.isnan(found.slope) and np.isnan(found.intercept)
    assert found.note.startswith("not estimable: 9 positives, 191 negatives, 9 patients")
    same = recalibration(*drawn(200, 3), ["one"] * 200)
    assert same.note.startswith("not estimable")
    p = np.linspace(0.01, 0.99, 100)
    apart = recalibration(p, (p > 0.5).astype(np.float32), singles(100))
    assert np.isnan(apart.slope) and "separate" in apart.note and np.isfinite(apart.intercept)
    table = recalibration_table(["a", "b"], np.zeros((0, 2)), np.zeros((0, 2), np.float32), [])
    assert table["note"].str.starts_with("not estimable: 0 positives").all()


def test_slope_interval_covers_about_as_often_as_it_says() -> None:
    """About 40 positives in patients of two images with one target; 95% nominal, 150 trials: 3 sigma is .053."""
    covered = 0
    for seed in range(150):
        random = np.random.default_rng(seed)
        logits = random.normal(-2, 1, 150)
        y = (random.random(150) < to_probabilities(logits)).astype(np.float32)
        noisy = np.repeat(to_probabilities(logits), 2)
        found = recalibration(noisy, np.repeat(y, 2), np.repeat(singles(150), 2).tolist())
        covered += found.slope_low <= 1 <= found.slope_high
    assert covered / 150 >= 0.89


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from([0.0, 0.1, 0.1000001, 0.5, 0.9]), max_size=40), st.integers(1, 12))
def test_bins_keep_order_and_ties(values: list[float], bins: int) -> None:
    p = np.array(values)
    at = equal_mass_bins(p, bins)
    assert sorted(set(at.tolist())) == list(range(len(set(at.tolist()))))
    assert len(set(at.tolist())) <= bins
    for i in range(len(p)):
        assert (at[p == p[i]] == at[i]).all()
        assert (at[p < p[i]] <= at[i]).all()


def test_bins_without_ties_are_equal() -> None:
    assert np.bincount(equal_mass_bins(np.random.default_rng(0).random(100))).tolist() == [10] * 10


@pytest.mark.parametrize(("won", "size"), [(0, 10), (3, 10), (10, 10), (40, 100)])
def test_wilson_is_scipys(won: int, size: int) -> None:
    reference = binomtest(won, size).proportion_ci(method="wilson")
    assert wilson(won / size, size) == pytest.approx((reference.low, reference.high))
    assert np.isnan(wilson(0.5, 0)[0])


def test_effective_size() -> None:
    random = np.random.default_rng(0)
    y = (random.random(300) < 0.3).astype(float)
    assert effective_size(y, np.arange(300)) == 300
    assert effective_size(np.repeat(y, 2), np.repeat(np.arange(300), 2)) == pytest.approx(300, rel=0.01)
    alone = (random.random(600) < 0.3).astype(float)
    assert effective_size(alone, np.repeat(np.arange(300), 2)) > 500
    assert effective_size(np.zeros(600), np.repeat(np.arange(300), 2)) == 300


def test_reliability_curve_counts() -> None:
    p, y = drawn(205, 5)
    y[:5] = np.nan
    curve = reliability_curve("a", p, y, singles(205))
    assert curve["images"].to_list() == [20] * 10
    assert curve["positives"].sum() == (y == 1).sum()
    known = ~np.isnan(y)
    lowest = np.argsort(p[known])[:20]
    first = curve.row(0, named=True)
    assert first["mean_probability"] == pytest.approx(p[known][lowest].mean())
    assert first["observed"] == pytest.approx(y[known][lowest].mean())
    reference = binomtest(int(y[known][lowest].sum()), 20).proportion_ci(method="wilson")
    assert (first["low"], first["high"]) == pytest.approx((reference.low, reference.high))


def test_reliability_gives_no_interval_below_ten_positives() -> None:
    p = np.linspace(0, 1, 60)
    y = np.zeros(60, np.float32)
    y[-9:] = 1
    curve = reliability_curve("a", p, y, singles(60))
    assert curve["low"].is_nan().all() and curve["positives"].sum() == 9
    assert reliability_curve("a", p, np.full(60, np.nan, np.float32), singles(60)).is_empty()
    two = reliability_table(["a", "b"], np.column_stack([p, p]), np.column_stack([y, y]), singles(60))
    assert two["label"].unique(maintain_order=True).to_list() == ["a", "b"]
    assert reliability_table([], np.zeros((3, 0)), np.zeros((3, 0), np.float32), singles(3)).is_empty()


def slow_error(p: Any, y: Any) -> float:
    at, total = equal_mass_bins(p), 0.0
    for number in set(at.tolist()):
        total += (at == number).mean() * abs(p[at == number].mean() - y[at == number].mean())
    return total


def test_expected_error_is_the_slow_loops() -> None:
    p, y = drawn(400, 7, 0.4)
    p = np.round(p, 2)
    found = calibration_error(p, y, singles(400))
    assert found.error == pytest.approx(slow_error(p, y))
    assert found.p_value < 0.01 and found.error > found.null_high
    assert re.fullmatch(r"ECE \.\d+, a calibrated model of this n shows \.\d+ to \.\d+", found.words)
    again = calibration_error(p, y, singles(400))
    assert again == found


def test_null_covers_a_calibrated_model() -> None:
    """Calibrated by construction, patients of two images with one target: p values are about uniform."""
    values = []
    for seed in range(80):
        random = np.random.default_rng(seed)
        p = np.clip(random.beta(1, 4, 150), 0.01, 0.99)
        y = (random.random(150) < p).astype(np.float32)
        groups = np.repeat(singles(150), 2).tolist()
        values.append(calibration_error(np.repeat(p, 2), np.repeat(y, 2), groups, seed, draws=60).p_value)
    assert np.mean(np.array(values) <= 0.1) < 0.22, "at 10% with 80 trials, 3 sigma reach .20"
    assert 0.38 < np.mean(values) < 0.62


def test_images_treated_as_patients_would_make_the_null_too_narrow() -> None:
    p, y = drawn(300, 11)
    apart = calibration_error(np.repeat(p, 3), np.repeat(y, 3), singles(900))
    together = calibration_error(np.repeat(p, 3), np.repeat(y, 3), np.repeat(singles(300), 3).tolist())
    assert apart.clustering == 0
    assert together.clustering == pytest.approx(1, abs=0.1)
    assert together.null_high > 1.3 * apart.null_high


def test_a_miscalibrated_model_does_not_look_clustered() -> None:
    random = np.random.default_rng(4)
    y = (random.random(2000) < 0.3).astype(np.float32)
    p = np.clip(0.9 + 0.01 * random.normal(size=2000), 0, 1)
    assert calibration_error(p, y, np.repeat(singles(1000), 2).tolist(), draws=20).clustering < 0.1


def test_expected_error_is_not_estimable_with_few_positives() -> None:
    table = calibration_error_table(
        ["few", "none"],
        np.tile(np.linspace(0, 1, 30)[:, None], (1, 2)),
        np.column_stack([np.r_[np.ones(9), np.zeros(21)], np.full(30, np.nan)]).astype(np.float32),
        singles(30),
    )
    assert table["words"].to_list() == [
        "not estimable: 9 positives, 10 are needed",
        "not estimable: 0 positives, 10 are needed",
    ]
    assert table["error"].is_nan().all() and table.schema["error"] == pl.Float64
