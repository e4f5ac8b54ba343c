"""Slope and biases against a general-purpose optimiser, and where the data leave them open."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from radlens.adapt.calibration import GREATEST_SLOPE, LEAST_SLOPE, calibrate

Floats = npt.NDArray[np.float32]


def drawn(seed: int, slope: float, images: int = 400, null: float = 0.2) -> tuple[Floats, Floats]:
    generator = np.random.default_rng(seed)
    z = (generator.normal(size=(images, 3)) * 3 + [5, -20, 0]).astype(np.float32)
    truth = slope * (z - [5, -20, 0]) + [-2, 0, 1]
    y = (truth + generator.logistic(size=z.shape) > 0).astype(np.float32)
    y[generator.random(y.shape) < null] = np.nan
    return z, y


def bce(logits: npt.NDArray[np.float64], y: Floats) -> float:
    known = ~np.isnan(y)
    return float(np.mean(np.logaddexp(0, logits[known]) - y[known] * logits[known]))


@pytest.mark.parametrize("slope", [0.2, 1.0, 3.0])
def test_is_the_least_cross_entropy_that_a_general_optimiser_finds(slope: float) -> None:
    z, y = drawn(1, slope)
    found = calibrate(z, y)
    start = np.array([1.0, *(-z.mean(axis=0))])
    best = minimize(lambda v: bce(v[0] * z + v[1:], y), start, method="BFGS", options={"gtol": 1e-8})
    assert found.bce == pytest.approx(best.fun, rel=1e-4)
    assert found.slope == pytest.approx(best.x[0], rel=1e-2) == pytest.approx(slope, rel=0.2)
    np.testing.assert_allclose(found.bias, best.x[1:], rtol=1e-2, atol=0.02)
    assert found.bce == pytest.approx(bce(found.slope * z.astype(float) + found.bias, y), rel=1e-9)


@pytest.mark.parametrize(("slope", "bound"), [(-1.0, LEAST_SLOPE), (1e4, GREATEST_SLOPE)])
def test_an_order_is_never_reversed_and_separable_labels_stay_finite(slope: float, bound: float) -> None:
    z, y = drawn(2, slope)
    # small logits: what separates them would otherwise be steep without end
    found = calibrate(z / 1000 if slope > 0 else z, y)
    assert found.slope == pytest.approx(bound)
    assert np.isfinite(found.bias).all()


def test_null_logits_have_no_say_and_one_sided_labels_stay_finite() -> None:
    z, y = drawn(3, 1.0)
    y[:, 1], y[:, 2] = 0, np.nan
    wild = z.copy()
    wild[np.isnan(y)] = 1e6
    found, again = calibrate(z, y), calibrate(wild, y)
    assert (found.slope, found.bce) == (again.slope, again.bce)
    np.testing.assert_array_equal(found.bias, again.bias)
    p = 1 / (1 + np.exp(-(found.slope * z[:, 1] + found.bias[1])))
    assert 0 < p.mean() < 1 / 100
    assert found.bias[2] == pytest.approx(0, abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.sampled_from([0.0, 1e-4, 1.0, 100.0]))
def test_odd_cases_are_finite_and_no_worse_than_the_prevalence(seed: int, images: int, size: float) -> None:
    generator = np.random.default_rng(seed)
    z = (generator.normal(size=(images, 2)) * size).astype(np.float32)
    y = generator.integers(0, 2, z.shape).astype(np.float32)
    y[generator.random(y.shape) < 0.3] = np.nan
    y[0, 0] = 1
    found = calibrate(z, y)
    assert LEAST_SLOPE * 0.999 <= found.slope <= GREATEST_SLOPE * 1.001
    assert np.isfinite(found.bias).all() and np.isfinite(found.bce)
    if size <= 1:  # a steep logit may not be flattened below the least slope
        assert found.bce <= 0.9
