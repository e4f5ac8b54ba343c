"""The other threshold policies: fixed recall, prevalence, half of the best F1, the paper's rule."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import recall_score

from radlens.core.errors import SpecError
from radlens.evaluate.threshold_cuts import best_expected_f1, recall_threshold
from radlens.evaluate.thresholds import choose_thresholds, decide

GRID = [0.0, 0.2, 0.5, 0.50000001, 0.8, 1.0]
YES, NO = np.array([True]), np.array([False])


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(st.tuples(st.sampled_from(GRID), st.sampled_from([0.0, 1.0, float("nan")])), min_size=1),
    least=st.sampled_from([0.1, 0.5, 0.9, 1.0]),
)
def test_recall_threshold_is_the_highest_that_reaches_the_recall(rows: list[tuple[float, float]], least: float) -> None:
    scores, targets = np.array([r[0] for r in rows]), np.array([r[1] for r in rows], np.float32)
    found, called = recall_threshold(scores, targets, least)
    if not (targets == 1).any():
        assert np.isnan(found) and called == 0
        return
    known = ~np.isnan(targets)
    y, s = targets[known].astype(int), scores[known]
    assert called == (s[y == 1] >= found).sum()
    assert recall_score(y, s >= found) >= least - 1e-12
    higher = [t for t in np.unique(s) if t > found and (s >= t).sum() < (s >= found).sum()]
    assert all(recall_score(y, s >= t) < least - 1e-12 for t in higher)


def test_recall_of_nine_tenths_allows_one_miss_in_ten() -> None:
    scores = np.arange(1, 21) / 21
    targets = np.array([0.0] * 10 + [1.0] * 10, np.float32)
    found, called = recall_threshold(scores, targets, 0.9)
    assert (found, called) == (pytest.approx(11.5 / 21), 9)
    chosen = choose_thresholds(scores[:, None], targets[:, None], np.array([0.2]), "recall")
    assert chosen.values[0] == found
    assert chosen.rule[0] == "recall at least 0.9 on validation: 9 of 10 positives called"
    whole = choose_thresholds(scores[:, None], targets[:, None], np.array([0.2]), "recall", value=1.0)
    assert "10 of 10" in whole.rule[0]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0.001, 0.999), min_size=1, max_size=9))
def test_half_of_the_best_expected_f1_is_the_cut_that_reaches_it(values: list[float]) -> None:
    """Lipton's theorem on the plug-in F1, by trying every cut."""
    p = np.array(values)
    tried = [2 * p[p >= t].sum() / ((p >= t).sum() + p.sum()) for t in p]
    best = best_expected_f1(p)
    assert best == pytest.approx(max(tried))
    called = p >= best / 2 - 1e-12
    assert 2 * p[called].sum() / (called.sum() + p.sum()) == pytest.approx(best)


def test_half_f1_delivers_the_best_f1_on_calibrated_probabilities() -> None:
    random = np.random.default_rng(1)
    p = random.beta(0.4, 4, 40_000)
    y = (random.random(len(p)) < p).astype(np.float32)
    chosen = choose_thresholds(p[:, None], y[:, None], np.array([0.1]), "half-f1", calibrated=YES)

    def f1(threshold: float) -> float:
        called = p >= threshold
        return float(2 * (called & (y == 1)).sum() / (called.sum() + y.sum()))

    best = max(f1(t) for t in np.linspace(0.02, 0.9, 89))
    assert f1(float(chosen.values[0])) > best - 0.004
    assert chosen.values[0] == pytest.approx(best / 2, abs=0.01)


def test_half_f1_falls_back_where_a_label_is_not_calibrated() -> None:
    scores, targets = np.array([[0.1], [0.4], [0.6]]), np.array([[0], [0], [1]], np.float32)
    share = np.array([0.3])
    plain = choose_thresholds(scores, targets, share)
    chosen = choose_thresholds(scores, targets, share, "half-f1", calibrated=NO)
    assert chosen.values[0] == plain.values[0]
    assert chosen.rule[0].startswith(plain.rule[0]) and "needs a calibrated label" in chosen.rule[0]
    with pytest.raises(SpecError, match="needs calibrated probabilities"):
        choose_thresholds(scores, targets, share, "half-f1")
    nothing = choose_thresholds(np.zeros((3, 1)), targets, share, "half-f1", calibrated=YES)
    assert not decide(np.zeros((3, 1)), nothing.values).any()


def test_simple_policies_say_what_they_did() -> None:
    scores, targets = np.tile(np.arange(1, 21)[:, None] / 21, (1, 3)), np.zeros((20, 3), np.float32)
    targets[:, 1] = np.nan
    share = np.array([0.1, 0.1, np.nan])

    def chosen(policy: Any, value: float | None = None) -> tuple[list[float], tuple[str, ...]]:
        found = choose_thresholds(scores, targets, share, policy, value=value)
        return found.values.tolist(), found.rule

    assert chosen("paper")[0] == chosen("fixed")[0] == [0.5] * 3
    assert "paper's rule" in chosen("paper")[1][0]
    assert chosen("fixed", 0.2) == ([0.2] * 3, ("fixed at 0.2",) * 3)
    values, rules = chosen("prevalence")
    assert values == [pytest.approx(18.5 / 21), 0.5, 0.5]
    assert rules == (
        "matched to training prevalence 0.1",
        "0.5: not assessed on validation",
        "0.5: no training prevalence",
    )
    values, rules = chosen("recall")
    assert values[0] == pytest.approx(18.5 / 21)
    assert "no validation positives" in rules[0]
    assert rules[2] == "0.5: neither validation positives nor a training prevalence"
    with pytest.raises(SpecError, match=r"above 0 and at most 1, but found 1\.5"):
        chosen("recall", 1.5)


@settings(max_examples=100, deadline=None)
@given(
    rows=st.lists(st.tuples(st.sampled_from([*GRID, 1e-300]), st.sampled_from([0, 1, float("nan")])), max_size=20),
    share=st.sampled_from([0.0, 0.01, 0.5, 1.0, float("nan")]),
    policy=st.sampled_from(["recall", "prevalence", "half-f1", "paper"]),
)
def test_every_policy_gives_a_probability(rows: list[tuple[float, float]], share: float, policy: Any) -> None:
    scores = np.array([r[0] for r in rows], np.float64).reshape(-1, 1)
    targets = np.array([r[1] for r in rows], np.float32).reshape(-1, 1)
    chosen = choose_thresholds(scores, targets, np.array([share]), policy, calibrated=YES)
    assert 0 <= chosen.values[0] <= 1
    assert chosen.rule[0]
