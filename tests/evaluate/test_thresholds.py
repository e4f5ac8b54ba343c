"""Thresholds: where they lie, what they call positive, and what shrinking buys."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import f1_score

from radlens.core.errors import SpecError
from radlens.evaluate.threshold_cuts import best_f1_threshold, prevalence_matched_threshold
from radlens.evaluate.thresholds import choose_thresholds, decide, prevalence

GRID = [0.0, 0.2, 0.5, 0.50000001, 0.8, 1.0]


@settings(max_examples=150, deadline=None)
@given(rows=st.lists(st.tuples(st.sampled_from(GRID), st.sampled_from([0.0, 1.0, float("nan")])), min_size=1))
def test_best_f1_threshold_is_the_best_of_all(rows: list[tuple[float, float]]) -> None:
    scores, targets = np.array([r[0] for r in rows]), np.array([r[1] for r in rows], np.float32)
    found = best_f1_threshold(scores, targets)
    if not (targets == 1).any():
        assert np.isnan(found)
        return
    known = ~np.isnan(targets)
    y, s = targets[known].astype(int), scores[known]
    best = max(f1_score(y, s >= t, zero_division=0) for t in np.unique(s))
    assert f1_score(y, s >= found, zero_division=0) == pytest.approx(best)


def test_best_f1_threshold_lies_midway() -> None:
    scores, targets = np.array([0.1, 0.4, 0.6, 0.9]), np.array([0, 0, 1, 1], np.float32)
    assert best_f1_threshold(scores, targets) == pytest.approx(0.5)
    near = np.array([0.5, np.nextafter(0.5, 1)])
    assert decide(near[:, None], np.array([best_f1_threshold(near, np.array([0, 1], np.float32))])).tolist() == [
        [0],
        [1],
    ]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(GRID), min_size=1, max_size=30), st.floats(0.001, 1))
def test_prevalence_matched_share_is_the_nearest_that_ties_allow(values: list[float], share: float) -> None:
    scores = np.array(values)
    called = int((scores >= prevalence_matched_threshold(scores, share)).sum())
    possible = [int((scores >= t).sum()) for t in np.unique(scores)]
    assert called in possible
    assert abs(called - share * len(scores)) == pytest.approx(min(abs(c - share * len(scores)) for c in possible))


def test_rules() -> None:
    nan = np.float32("nan")
    scores = np.tile(np.arange(1, 21)[:, None] / 21, (1, 5))
    targets = np.zeros((20, 5), np.float32)
    targets[10:, 0] = 1  # ten positives: half and half
    targets[:, 2] = nan
    targets[:5, 3] = nan
    chosen = choose_thresholds(scores, targets, np.array([0.1, 0.1, 0.1, 0.2, 0.0]))
    tuned, matched = 10.5 / 21, 18.5 / 21
    half = (np.log(tuned / (1 - tuned)) + np.log(matched / (1 - matched))) / 2
    assert chosen.values[0] == pytest.approx(1 / (1 + np.exp(-half)))
    assert "10 validation positives, weight 0.50" in chosen.rule[0]
    assert chosen.values[1] == pytest.approx(matched)
    assert "no validation positives" in chosen.rule[1]
    assert chosen.values[2] == 0.5
    assert "not assessed" in chosen.rule[2]
    assert chosen.values[3] == pytest.approx(17.5 / 21), "three of the fifteen assessed images are a fifth"
    assert decide(scores, chosen.values)[:, 4].sum() == 0, "never seen in training: never called"
    fixed = choose_thresholds(scores, targets, np.full(5, 0.1), "fixed")
    assert fixed.values.tolist() == [0.5] * 5
    with pytest.raises(SpecError, match="Known: fixed, half-f1, paper, prevalence, recall, validation"):
        choose_thresholds(scores, targets, np.full(5, 0.1), "oracle")  # type: ignore[arg-type]


@settings(max_examples=100, deadline=None)
@given(
    rows=st.lists(st.tuples(st.sampled_from([0.0, 1.0, 1e-300, 0.5]), st.sampled_from([0, 1])), max_size=20),
    share=st.sampled_from([0.0, 0.01, 0.5, 1.0, float("nan")]),
)
def test_threshold_is_always_a_probability(rows: list[tuple[float, int]], share: float) -> None:
    scores, targets = np.array([[r[0]] for r in rows]).reshape(-1, 1), np.array([[r[1]] for r in rows], np.float32)
    chosen = choose_thresholds(scores, targets.reshape(-1, 1), np.array([share]))
    assert 0 <= chosen.values[0] <= 1
    assert chosen.rule[0]


def test_prevalence_counts_assessed_images_only() -> None:
    targets = np.array([[1, np.nan], [0, np.nan], [np.nan, np.nan]], np.float32)
    np.testing.assert_array_equal(prevalence(targets), [0.5, np.nan])


def test_shrinking_delivers_a_better_f1_than_tuning_on_two_positives() -> None:
    """Scores of a label of 2% prevalence, 100 validation images with two positives; expected F1 by the normal law."""
    random, rate, apart = np.random.default_rng(0), 0.02, 1.2

    def delivered(threshold: float) -> float:
        cut = float(np.log(threshold / (1 - threshold)))
        true, false = rate * norm.sf(cut - apart), (1 - rate) * norm.sf(cut)
        return float(2 * true / (true + false + rate))

    targets = np.zeros((100, 1), np.float32)
    targets[:2] = 1
    raw, shrunk, shown = [], [], []
    for _ in range(400):
        scores = 1 / (1 + np.exp(-(random.normal(size=(100, 1)) + apart * targets)))
        tuned = best_f1_threshold(scores[:, 0], targets[:, 0])
        raw.append(delivered(tuned))
        shrunk.append(delivered(float(choose_thresholds(scores, targets, np.array([rate])).values[0])))
        shown.append(f1_score(targets[:, 0], scores[:, 0] >= tuned))
    assert np.mean(shown) > 2 * np.mean(raw), "what tuning shows on validation is not what it delivers"
    gain = np.array(shrunk) - np.array(raw)
    assert gain.mean() > 3 * gain.std() / np.sqrt(len(gain))
