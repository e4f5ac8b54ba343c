"""Fitting a calibration: its optimum, its choice of a method, and that no patient is judged by itself."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from sklearn.calibration import _SigmoidCalibration
from sklearn.isotonic import IsotonicRegression

from radlens.core.errors import DataError, SpecError
from radlens.evaluate.calibration.fit import Calibration, fit_calibration
from radlens.evaluate.calibration.folds import patient_folds
from radlens.evaluate.calibration.logistic import LEAST_SLOPE, fit_line
from radlens.evaluate.log_odds import to_logits, to_probabilities

SLOPE, BIAS = 0.5, np.array([-1.0, -2.0, 0.5])


def drawn(n: int, seed: int = 0, slope: float = SLOPE) -> tuple[Any, Any, Any]:
    """Logits (n, 3), targets that follow them with another slope and bias, two images a patient."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 3, (n, 3))
    targets = (random.random((n, 3)) < to_probabilities(slope * logits + BIAS)).astype(np.float32)
    return logits, targets, [f"p{i // 2}" for i in range(n)]


def masked_loss(x: Any, t: Any) -> float:
    return float(np.nansum(np.logaddexp(0, x) - t * x))


def test_shared_slope_is_the_optimum_that_a_general_optimiser_finds() -> None:
    logits, targets, _ = drawn(600)
    targets[:100, 1] = np.nan
    line = fit_line(logits, targets.astype(float))
    found = minimize(lambda v: masked_loss(v[0] * logits + v[1:], targets), np.zeros(4), method="BFGS")
    np.testing.assert_allclose([line.slope, *line.intercepts], found.x, atol=2e-3)
    temperature = fit_line(logits, targets.astype(float), intercepts=False)
    found = minimize(lambda v: masked_loss(v[0] * logits, targets), np.ones(1), method="BFGS")
    assert temperature.slope == pytest.approx(found.x[0], abs=2e-3)
    fixed = fit_line(logits[:, :1], targets[:, :1].astype(float), slope=2.0)
    found = minimize(lambda v: masked_loss(2 * logits[:, :1] + v, targets[:, :1]), np.zeros(1), method="BFGS")
    assert fixed.intercepts[0] == pytest.approx(found.x[0], abs=1e-4)


def test_units_of_the_logits_do_not_matter() -> None:
    logits, targets, _ = drawn(400)
    plain = fit_line(logits, targets.astype(float))
    for scale, shift in ((1e-3, 0.0), (1e3, 0.0), (0.01, 5.0)):
        other = fit_line(logits * scale + shift, targets.astype(float))
        assert other.slope * scale == pytest.approx(plain.slope, rel=1e-5)


def test_platt_is_scikit_learns() -> None:
    logits, targets, groups = drawn(300)
    made = fit_calibration(logits, targets, groups, "platt")
    for label in range(3):
        reference = _SigmoidCalibration().fit(logits[:, label], targets[:, label])
        np.testing.assert_allclose(made.apply(logits)[:, label], reference.predict(logits[:, label]), atol=2e-4)


def test_isotonic_is_scikit_learns_and_never_certain() -> None:
    logits, targets, groups = drawn(300)
    made = fit_calibration(logits, targets, groups, "isotonic")
    found = made.apply(logits)
    reference = IsotonicRegression(y_min=0.5 / 301, y_max=1 - 0.5 / 301).fit(logits[:, 0], targets[:, 0])
    np.testing.assert_allclose(found[:, 0], reference.predict(logits[:, 0]))
    assert found.min() > 0 and found.max() < 1
    assert (np.diff(found[np.argsort(logits[:, 0]), 0]) >= 0).all()


def test_what_is_calibrated_follows_the_truth() -> None:
    logits, targets, groups = drawn(4000)
    fresh = np.random.default_rng(9).normal(0, 3, (500, 3))
    truth = to_probabilities(SLOPE * fresh + BIAS)
    for method in ("auto", "shared-slope", "isotonic"):
        error = np.abs(fit_calibration(logits, targets, groups, method).apply(fresh) - truth).mean()  # type: ignore[arg-type]
        assert error < 0.03, method
    table = fit_calibration(logits, targets, groups).table(["a", "b", "c"], logits, targets)
    assert (table["log_loss_cross_fitted"] < table["log_loss_raw"] - 0.05).all()
    assert table["method"].to_list() == ["platt"] * 3


def few_positives() -> tuple[Any, Any, Any]:
    logits, targets, groups = drawn(400)
    targets[:, 1] = 0
    targets[[0, 1, 40, 60], 1] = 1  # three patients
    targets[:, 2] = 0
    return logits, targets, groups


def test_auto_chooses_by_patients_and_says_so() -> None:
    logits, targets, groups = few_positives()
    made = fit_calibration(logits, targets, groups)
    assert made.ways == ("platt", "shared-slope", "identity")
    assert "3 validation patients with positives, below 20" in made.reasons[1]
    assert made.reasons[2] == "left as it is: no positives on validation"
    assert made.calibrated.tolist() == [True, True, False]
    np.testing.assert_allclose(made.apply(logits)[:, 2], to_probabilities(logits[:, 2]))
    # the intercept of its own makes a rare label's mean probability its share of positives
    assert made.apply(logits)[:, 1].mean() == pytest.approx(4 / 400, rel=1e-3)
    assert fit_calibration(logits, targets, groups, "platt").reasons[1].count("below 20 it is uncertain") == 1
    temperature = fit_calibration(logits, targets, groups, "temperature")
    assert len({curve.slope for curve in temperature.curves[:2]}) == 1  # type: ignore[union-attr]
    nulls = np.full_like(targets, np.nan)
    assert fit_calibration(logits, nulls, groups).ways == ("identity",) * 3
    assert fit_calibration(logits, targets, ["one"] * 400).reasons[0].startswith("left as it is: validation has fewer")


def test_cross_fitted_probabilities_do_not_see_the_own_patient() -> None:
    logits, targets, groups = few_positives()
    for method in ("auto", "isotonic", "temperature"):
        before = fit_calibration(logits, targets, groups, method, seed=3)  # type: ignore[arg-type]
        fold = patient_folds(groups, targets, 5, 3)
        assert all(len({fold[i] for i in range(len(fold)) if groups[i] == g}) == 1 for g in set(groups))
        mine = fold == fold[0]
        turned = targets.copy()
        # as many positives of the first label, at other images of the same fold: the folds stay as they are
        turned[mine, 0] = turned[mine, 0][::-1]
        after = fit_calibration(logits, turned, groups, method, seed=3)  # type: ignore[arg-type]
        if (patient_folds(groups, turned, 5, 3) == fold).all():
            np.testing.assert_array_equal(before.cross_fitted[mine], after.cross_fitted[mine])
        assert not np.array_equal(before.cross_fitted, before.apply(logits))
        assert np.isfinite(before.cross_fitted).all()


def test_folds_spread_the_positives_of_a_rare_label() -> None:
    targets = np.zeros((100, 2), np.float32)
    targets[:10, 0] = 1
    targets[5:60, 1] = 1
    fold = patient_folds([str(i) for i in range(100)], targets, 5, 0)
    assert np.bincount(fold[:10]).tolist() == [2] * 5
    assert np.bincount(fold).tolist() == [20] * 5


@pytest.mark.parametrize("method", ["auto", "temperature", "platt", "shared-slope", "isotonic"])
def test_raw_thresholds_decide_the_same(method: Any) -> None:
    logits, targets, groups = drawn(300)
    made = fit_calibration(logits, targets, groups, method)
    raw, calibrated = to_probabilities(logits), made.apply(logits)
    for threshold in (0.07, 0.31, 0.55, 0.93):
        at = np.full(3, threshold)
        np.testing.assert_array_equal(raw >= made.raw_thresholds(at), calibrated >= at)


def test_a_label_ranked_the_wrong_way_keeps_its_order() -> None:
    logits, targets, groups = drawn(300, slope=-0.5)
    made = fit_calibration(logits, targets, groups, "platt")
    assert "do not rank" in made.reasons[0]
    order = np.argsort(logits[:, 0])
    assert (np.diff(made.apply(logits)[order, 0]) > 0).all()
    slope = made.curves[0].slope  # type: ignore[union-attr]
    assert slope == pytest.approx(LEAST_SLOPE / logits[:, 0].std(), rel=1e-6)


def test_separated_classes_end_in_something_finite() -> None:
    logits = np.linspace(-5, 5, 100)[:, None]
    targets = (logits > 0).astype(np.float32)
    for method in ("platt", "shared-slope", "temperature", "isotonic"):
        made = fit_calibration(logits, targets, [str(i) for i in range(100)], method)  # type: ignore[arg-type]
        assert np.isfinite(made.apply(logits)).all()
        assert ((made.apply(logits) > 0.5) == (targets == 1)).all()


def test_bad_input_is_named() -> None:
    logits, targets, groups = drawn(10)
    logits[4, 2] = np.inf
    with pytest.raises(DataError, match="found inf in row 4 of label 2"):
        fit_calibration(logits, targets, groups)
    with pytest.raises(SpecError, match="Did you mean 'isotonic'"):
        fit_calibration(logits, targets, groups, "isotonik")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="do not fit"):
        fit_calibration(np.zeros((10, 2)), targets, groups)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.sampled_from([-40.0, -1.0, 0.0, 1.0, 700.0]), st.sampled_from([0.0, 1.0, float("nan")])),
        max_size=16,
    ),
    method=st.sampled_from(["auto", "temperature", "platt", "shared-slope", "isotonic"]),
)
def test_any_input_gives_monotone_probabilities(rows: list[tuple[float, float]], method: Any) -> None:
    logits = np.array([[r[0]] for r in rows]).reshape(-1, 1)
    targets = np.array([[r[1]] for r in rows], np.float32).reshape(-1, 1)
    made: Calibration = fit_calibration(logits, targets, [str(i // 2) for i in range(len(rows))], method)
    grid = made.apply(np.array([[-50.0], [-1.0], [0.0], [0.5], [900.0]]))[:, 0]
    assert ((grid >= 0) & (grid <= 1)).all() and (np.diff(grid) >= 0).all()
    assert ((made.cross_fitted >= 0) & (made.cross_fitted <= 1)).all()
    again = fit_calibration(logits, targets, [str(i // 2) for i in range(len(rows))], method)
    np.testing.assert_array_equal(made.cross_fitted, again.cross_fitted)


@settings(max_examples=60, deadline=None)
@given(st.floats(-690, 36))
def test_log_odds_turn_back(x: float) -> None:
    # near 1 a probability is known to 2^-53, which is much of its distance from 1
    known_to = math.exp(x) * 2.0**-53
    assert to_logits(to_probabilities(x)) == pytest.approx(x, rel=1e-9, abs=max(1e-6, 2 * known_to))
