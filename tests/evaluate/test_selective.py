"""Risk and coverage, abstention, seed ensembles: against slow loops and arithmetic."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radlens.core.errors import DataError, SpecError
from radlens.evaluate.seed_ensemble import seed_ensemble
from radlens.evaluate.selective import abstention_threshold, certainty, risk_coverage, selective_table

LEVELS = [0.0, 0.3, 0.30000001, 1.0, 5.0]
NAN = float("nan")


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(LEVELS), st.sampled_from([0.0, 1.0, 0.4, NAN])), max_size=25))
def test_curve_is_the_slow_loops(rows: list[tuple[float, float]]) -> None:
    c, loss = np.array([r[0] for r in rows], np.float64), np.array([r[1] for r in rows], np.float64)
    curve = risk_coverage(c, loss)
    known = ~np.isnan(loss)
    if not known.any():
        assert np.isnan(curve.area) and len(curve.coverage) == 0
        return
    c, loss = c[known], loss[known]
    levels = sorted(set(c.tolist()), reverse=True)
    np.testing.assert_allclose(curve.coverage, [(c >= level).mean() for level in levels])
    np.testing.assert_allclose(curve.risk, [loss[c >= level].mean() for level in levels], atol=1e-12)
    assert curve.overall == pytest.approx(loss.mean())
    assert curve.area_oracle <= curve.area + 1e-12


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0.1, 0.2]), st.sampled_from([0.0, 1.0])), min_size=1, max_size=6))
def test_area_is_the_mean_over_all_orders_of_ties(rows: list[tuple[float, float]]) -> None:
    c, loss = np.array([r[0] for r in rows]), np.array([r[1] for r in rows])
    areas = [
        (np.cumsum(loss[list(order)]) / np.arange(1, len(rows) + 1)).mean()
        for order in itertools.permutations(range(len(rows)))
        if (np.diff(c[list(order)]) <= 0).all()
    ]
    assert risk_coverage(c, loss).area == pytest.approx(np.mean(areas))


def test_known_areas() -> None:
    curve = risk_coverage(np.array([4.0, 3.0, 2.0, 1.0]), np.array([0.0, 0.0, 1.0, 1.0]))
    assert curve.area == curve.area_oracle == pytest.approx((0 + 0 + 1 / 3 + 1 / 2) / 4)
    constant = risk_coverage(np.zeros(4), np.array([0.0, 0.0, 1.0, 1.0]))
    assert constant.area == constant.overall == 0.5


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(LEVELS), min_size=1, max_size=30), st.sampled_from([0.1, 0.3, 0.5, 0.9, 1.0]))
def test_abstention_keeps_at_least_the_coverage_and_no_lower_than_needed(values: list[float], coverage: float) -> None:
    c = np.array(values)
    least = abstention_threshold(c, coverage)
    assert (c >= least).mean() >= coverage - 1e-9
    assert all((c >= other).mean() < coverage - 1e-12 for other in set(values) if other > least)


def test_abstention_table() -> None:
    random = np.random.default_rng(0)

    def split(n: int) -> tuple[Any, Any]:
        p = random.random((n, 2))
        y = (random.random((n, 2)) < p).astype(np.float32)
        y[:, 1] = 0
        p[:, 1] *= 0.4
        y[: n // 10, 0] = np.nan
        return p, y

    val, test = split(500), split(2000)
    table = selective_table(["a", "b"], val, test, np.array([0.5, 0.5]))
    a, b = table.filter(table["label"] == "a"), table.filter(table["label"] == "b")
    assert a["coverage"].to_list() == [1.0, 0.9, 0.8, 0.5]
    assert a["test_coverage"].to_list() == pytest.approx([1, 0.9, 0.8, 0.5], abs=0.05)
    assert a["test_risk"].is_sorted(descending=True)
    known = ~np.isnan(test[1][:, 0])
    p, y = test[0][known, 0], test[1][known, 0]
    wrong, sure = (p >= 0.5) != (y == 1), certainty(p[:, None], np.array([0.5]))[:, 0]
    kept = sure >= a["confidence"][3]
    row = a.row(3, named=True)
    assert row["test_risk"] == pytest.approx(wrong[kept].mean())
    assert row["sensitivity"] == pytest.approx((p[kept & (y == 1)] >= 0.5).mean())
    assert row["errors"] == wrong.sum() and row["overall_risk"] == pytest.approx(wrong.mean())
    assert row["aurc_oracle"] < row["aurc"] < row["overall_risk"]
    assert b["test_risk"].is_nan().all() and b["sensitivity"].is_nan().all()
    assert b["note"][0] == "not estimable: 0 errors, 10 are needed"


def test_bad_coverage_and_empty_splits() -> None:
    with pytest.raises(SpecError, match="at most 1, but found 0"):
        abstention_threshold(np.ones(3), 0)
    nothing = (np.zeros((0, 1)), np.zeros((0, 1), np.float32))
    table = selective_table(["a"], nothing, nothing, np.array([0.5]))
    assert table["test_coverage"].is_nan().all() and table["errors"].to_list() == [0] * 4


def test_ensemble_of_seeds() -> None:
    random = np.random.default_rng(0)
    members = [random.random((30, 4)) for _ in range(5)]
    members[0][0, 0], members[1][0, 0] = 0.0, 1.0
    found = seed_ensemble(members)
    stacked = np.stack(members)
    np.testing.assert_allclose(found.mean, stacked.mean(axis=0))
    np.testing.assert_allclose(found.spread, stacked.std(axis=0, ddof=1))
    with np.errstate(divide="ignore", invalid="ignore"):

        def entropy(p: Any) -> Any:
            return -np.nan_to_num(p * np.log(p)) - np.nan_to_num((1 - p) * np.log(1 - p))

        expected = entropy(stacked.mean(axis=0)) - entropy(stacked).mean(axis=0)
    np.testing.assert_allclose(found.mutual_information, expected, atol=1e-12)
    opposed = seed_ensemble([np.zeros((1, 1)), np.ones((1, 1))])
    assert opposed.mutual_information[0, 0] == pytest.approx(np.log(2))
    same = seed_ensemble([members[0]] * 3)
    assert same.spread.max() < 1e-12 and same.mutual_information.max() < 1e-12
    assert np.isnan(seed_ensemble(members[:1]).spread).all()


def test_ensemble_refuses_other_shapes() -> None:
    with pytest.raises(DataError, match=r"found shapes \[\(2, 1\), \(3, 1\)\]"):
        seed_ensemble([np.zeros((3, 1)), np.zeros((2, 1))])
    with pytest.raises(DataError, match="found none"):
        seed_ensemble([])
