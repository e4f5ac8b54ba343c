"""Conformal risk control: the threshold by its definition, its promise by simulation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta

from radlens.core.errors import DataError, SpecError
from radlens.evaluate.conformal import (
    conformal_table,
    control_missed_labels,
    control_misses,
    least_patients,
    prediction_sets,
)


def patient_loss(scores: Any, positive: Any, groups: Any, threshold: float) -> list[float]:
    """The slow way: the share of positive images missed of every patient with one."""
    losses = []
    for patient in sorted(set(groups)):
        mine = [i for i in range(len(groups)) if groups[i] == patient and positive[i]]
        if mine:
            losses.append(sum(scores[i] < threshold for i in mine) / len(mine))
    return losses


@pytest.mark.parametrize(("alpha", "least"), [(0.1, 9), (0.05, 19), (0.2, 4), (0.3, 3), (0.5, 1), (0.01, 99)])
def test_least_patients(alpha: float, least: int) -> None:
    assert least_patients(alpha) == least
    for count in (least - 1, least):
        scores, groups = np.arange(count) / 100, [str(i) for i in range(count)]
        made = control_misses(scores, np.ones(count, np.float32), groups, alpha)
        assert np.isnan(made.threshold) == (count < least)
        if count < least:
            assert made.words == (
                f"no guarantee possible: {count} calibration patients with positives, alpha {alpha:g} needs at least "
                f"{least}"
            )


def test_images_of_few_patients_are_no_more_evidence() -> None:
    scores, targets = np.arange(40) / 100, np.ones(40, np.float32)
    made = control_misses(scores, targets, [f"p{i // 5}" for i in range(40)])
    assert np.isnan(made.threshold) and (made.patients, made.positives) == (8, 40)


@settings(max_examples=120, deadline=None)
@given(
    rows=st.lists(
        st.tuples(
            st.sampled_from([0.0, 0.1, 0.2, 0.5, 0.51, 0.9, 1.0]),
            st.sampled_from([1.0, 1.0, 0.0, float("nan")]),
            st.integers(0, 14),
        ),
        max_size=40,
    ),
    alpha=st.sampled_from([0.1, 0.2, 0.35, 0.5]),
)
def test_threshold_is_the_highest_that_keeps_the_bound(rows: Any, alpha: float) -> None:
    scores, targets = np.array([r[0] for r in rows]), np.array([r[1] for r in rows], np.float32)
    groups = [str(r[2]) for r in rows]
    made = control_misses(scores, targets, groups, alpha)
    positive = targets == 1
    patients = len({g for g, p in zip(groups, positive, strict=True) if p})
    assert (made.patients, made.positives) == (patients, int(positive.sum()))
    if np.isnan(made.threshold):
        assert patients < least_patients(alpha)
        return

    def bound(threshold: float) -> float:
        return (sum(patient_loss(scores, positive, groups, threshold)) + 1) / (patients + 1)

    assert bound(made.threshold) <= alpha + 1e-9
    assert all(bound(t) > alpha + 1e-12 for t in np.unique(scores[positive]) if t > made.threshold)
    assert made.calibration_miss_rate == pytest.approx(
        np.mean(patient_loss(scores, positive, groups, made.threshold)), abs=1e-12
    )


def test_one_image_a_patient_is_the_order_statistic_of_split_conformal() -> None:
    scores = np.random.default_rng(0).random(29)
    made = control_misses(scores, np.ones(29, np.float32), [str(i) for i in range(29)])
    assert made.threshold == np.sort(scores)[2], "floor(.1 x 30) - 1 = 2 may be missed"
    assert made.calibration_miss_rate == pytest.approx(2 / 29)
    assert (made.likely_low, made.likely_high) == pytest.approx(tuple(beta(3, 27).ppf([0.05, 0.95])))


def test_monotone_scores_decide_alike() -> None:
    random = np.random.default_rng(1)
    scores, targets = random.random(300), (random.random(300) < 0.3).astype(np.float32)
    groups = [str(i // 2) for i in range(300)]
    raw = control_misses(scores, targets, groups)
    bent = control_misses(scores**3, targets, groups)
    np.testing.assert_array_equal(scores >= raw.threshold, scores**3 >= bent.threshold)


def world(random: Any, patients: int, rate: float) -> tuple[Any, Any, Any]:
    """Patients of one to four images of one finding; scores of a patient's images are alike."""
    images = random.integers(1, 5, patients)
    groups = np.repeat(np.arange(patients), images)
    positive = (random.random(patients) < rate)[groups]
    scores = positive * 1.0 + random.normal(size=patients)[groups] + 0.5 * random.normal(size=len(groups))
    return scores, positive.astype(np.float32), groups


@pytest.mark.parametrize("positives", [9, 25])
def test_promise_holds_on_average(positives: int) -> None:
    """Mean share missed over 600 calibration splits, each on 200 new positive patients."""
    random, alpha = np.random.default_rng(positives), 0.1
    rates = []
    for _ in range(600):
        scores, targets, groups = world(random, positives, 1.1)
        made = control_misses(scores, targets, groups.astype(str), alpha)
        fresh, positive, of = world(random, 200, 1.1)
        missed = fresh < made.threshold
        rates.append((np.bincount(of, missed) / np.bincount(of, positive)).mean())
    error = np.std(rates) / np.sqrt(len(rates))
    assert np.mean(rates) <= alpha + 3 * error
    assert np.mean(rates) >= alpha - 1 / (positives + 1) - 3 * error, "and it gives away no more than 1 / (n + 1)"


def test_a_plain_quantile_would_break_the_promise() -> None:
    """That the simulation can fail: thresholds at the plain 10% quantile of the images miss more than 10%."""
    random = np.random.default_rng(0)
    rates = []
    for _ in range(600):
        scores, _, _ = world(random, 9, 1.1)
        fresh, _, _ = world(random, 200, 1.1)
        rates.append((fresh < np.quantile(scores, 0.1)).mean())
    assert np.mean(rates) > 0.1 + 3 * np.std(rates) / np.sqrt(600)


def test_label_sets() -> None:
    random = np.random.default_rng(2)
    targets = (random.random((400, 3)) < [0.3, 0.1, 0.005]).astype(np.float32)
    targets[:5, 2] = [1, 0, 0, 0, np.nan]
    scores = np.clip(0.3 * random.random((400, 3)) + 0.4 * np.nan_to_num(targets), 0, 1)
    groups = [str(i) for i in range(400)]
    table = conformal_table(["a", "b", "c"], (scores, targets, groups), (scores, targets, groups))
    assert table["test_miss_rate"].to_list()[:2] == pytest.approx(table["calibration_miss_rate"].to_list()[:2])
    assert (table["test_miss_rate"] <= 0.1).to_list()[:2] == [True, True]
    assert table["words"][2].startswith("no guarantee possible")
    sets = prediction_sets(scores, table["threshold"].to_numpy())
    assert set(np.unique(sets[:, 2])) == {-1}
    np.testing.assert_array_equal(sets[:, 0], scores[:, 0] >= table["threshold"][0])
    negative = targets[:, 0] == 0
    assert table["test_specificity"][0] == pytest.approx((sets[negative, 0] == 0).mean())
    joint = control_missed_labels(scores, targets, groups)
    some = (targets == 1).any(axis=1)
    missed = ((targets == 1) & (scores < joint.threshold)).sum(axis=1)[some] / (targets == 1).sum(axis=1)[some]
    assert joint.patients == some.sum()
    assert joint.calibration_miss_rate == pytest.approx(missed.mean())
    assert (missed.sum() + 1) / (some.sum() + 1) <= 0.1


def test_bad_input_is_named() -> None:
    with pytest.raises(SpecError, match="between 0 and 1, but found 1"):
        control_misses(np.ones(3), np.ones(3, np.float32), ["a", "b", "c"], 1)
    with pytest.raises(DataError, match="found 1 of 3 that are not"):
        control_misses(np.array([0.1, np.nan, 0.2]), np.ones(3, np.float32), ["a", "b", "c"], 0.5)
    empty = control_misses(np.zeros(0), np.zeros(0, np.float32), [])
    assert empty.patients == 0 and empty.words.startswith("no guarantee possible: 0")
