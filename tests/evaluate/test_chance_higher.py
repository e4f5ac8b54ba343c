"""Chance of scoring higher against scikit-learn and slow loops, ties, and what its interval covers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from radlens.evaluate.chance_higher import chance_higher, share_beyond

NAMES = ("wrong decisions", "right decisions")


def drawn(seed: int, n: int = 80) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    random = np.random.default_rng(seed)
    score = random.integers(0, 6, n).astype(np.float64)
    counts = random.integers(0, 4, (2, n)).astype(np.float64)
    return score, counts[0], counts[1], [f"p{i // 2}" for i in range(n)]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_it_is_the_auroc_of_all_pairs_ties_half(seed: int) -> None:
    score, one, other, groups = drawn(seed)
    truth = np.concatenate([np.ones(int(one.sum())), np.zeros(int(other.sum()))])
    each = np.concatenate([np.repeat(score, one.astype(int)), np.repeat(score, other.astype(int))])
    found = chance_higher(score, one, other, groups, NAMES, seed=0, replicates=50)
    assert found.value == pytest.approx(roc_auc_score(truth, each))
    assert found.low < found.value < found.high and found.reason is None


def test_share_beyond_is_counted() -> None:
    score = np.concatenate([np.arange(100.0), [94.0, 94.5, 97.0, 200.0, 3.0]])
    test = np.repeat([0.0, 1.0], [100, 5])
    groups = [f"p{i}" for i in range(105)]
    found = share_beyond(score, test, 1 - test, groups, ("test images", "validation images"), seed=0)
    # 94 ties with one of the validation images: 94.5 of 100 lie below it
    assert found.value == pytest.approx(3 / 5)
    assert found.reason is not None and found.reason.startswith("not estimable: 5 patients with test images")


def test_intervals_hold_the_truth_where_both_kinds_are_drawn_alike() -> None:
    """Both kinds' patients are resampled, so that few patients of the second widen the interval too."""
    held = {"chance": 0, "share": 0}
    for seed in range(60):
        random = np.random.default_rng(seed)
        score = random.normal(size=400)
        one = np.repeat([1.0, 0.0], [340, 60])
        given_ = (score, one, 1 - one, [str(i) for i in range(400)], NAMES)
        chance = chance_higher(*given_, seed=0, replicates=200)
        share = share_beyond(*given_, seed=0, replicates=200)
        held["chance"] += chance.low <= 0.5 <= chance.high
        held["share"] += share.low <= 0.05 <= share.high
    assert held["chance"] >= 52 and held["share"] >= 46


def test_reasons() -> None:
    score, one, other, groups = drawn(1)
    none = np.zeros_like(one)
    assert chance_higher(score, none, other, groups, NAMES, seed=0).reason == "undefined: no wrong decisions"
    assert chance_higher(score, one, none, groups, NAMES, seed=0).reason == "undefined: no right decisions"
    assert chance_higher(score[:0], one[:0], other[:0], [], NAMES, seed=0).reason == "undefined: no wrong decisions"
    few = chance_higher(score, one, other, [f"p{i % 9}" for i in range(80)], NAMES, seed=0)
    assert np.isfinite(few.value) and np.isnan(few.low)
    assert few.reason == (
        "not estimable: 9 patients with wrong decisions and 9 patients with right decisions, "
        "an interval needs 10 of each"
    )
    flat = chance_higher(np.zeros(80), one, other, groups, NAMES, seed=0)
    assert flat.value == 0.5 and flat.reason == "not estimable: the same value in every replicate"
