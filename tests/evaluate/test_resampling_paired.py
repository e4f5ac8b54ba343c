"""Differences: their interval, the permutation test against a loop that swaps, and Holm against the definition."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from radlens.core.errors import DataError, SpecError
from radlens.core.parts import MetricInput
from radlens.core.patient_weights import swap_weights
from radlens.core.vocabulary import Label, Vocabulary
from radlens.evaluate.resampling import SettingScores, bootstrap, holm, paired_differences
from radlens.evaluate.resampling.setting_scores import Patients
from radlens.evaluate.resampling.swaps import permutation_p, swapped_differences
from radlens.evaluate.resampling.weighted_metrics import quantities_of

WORDS = Vocabulary("v", tuple(Label(name, domain, (), ()) for name, domain in (("a", "d"), ("b", "d"), ("c", None))))
IMAGES = 90
GROUPS = [f"p{i // 2:03d}" for i in range(IMAGES)]
TARGETS = (np.random.default_rng(9).random((IMAGES, 3)) < [0.5, 0.3, 0.4]).astype(np.float32)
TARGETS[:5, 0] = np.nan


def setting(name: str, seed: int, shift: float = 1.0, scale: float = 1.0) -> SettingScores:
    raw = np.random.default_rng(seed).normal(shift * np.nan_to_num(TARGETS), 1).round(1)
    scores = 1 / (1 + np.exp(-raw * scale))
    return SettingScores(name, MetricInput(scores, TARGETS, (raw > 0.6).astype(np.int8)), GROUPS)


def swapped(
    a: npt.NDArray[np.float64], b: npt.NDArray[np.float64], swap: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    return np.where(swap, b, a), np.where(swap, a, b)


def test_swaps_are_those_of_a_plain_loop() -> None:
    a, b = setting("a", 1), setting("b", 2, 0.5)
    index = np.unique(GROUPS, return_inverse=True)[1]
    patients = Patients(index, int(index.max()) + 1)
    found = swapped_differences(a.inputs, b.inputs, WORDS, patients, 25, seed=4)
    at = {(q.scope, q.name, q.metric): m for m, q in enumerate(quantities_of(WORDS))}
    swaps = np.concatenate(list(swap_weights(patients.count, 25, 4, 10)), axis=1)[index].astype(bool)
    for label, name in enumerate(WORDS.names):
        known = ~np.isnan(TARGETS[:, label])
        y = TARGETS[known, label]
        ranks = [stats.rankdata(x.inputs.scores[known, label]) for x in (a, b)]
        decisions = [x.inputs.decisions[known, label].astype(float) for x in (a, b)]
        for row, swap in zip(found, swaps[known].T, strict=True):
            first, second = swapped(*ranks, swap)
            area = roc_auc_score(y, first) - roc_auc_score(y, second)
            precision = average_precision_score(y, first) - average_precision_score(y, second)
            one, two = swapped(*decisions, swap)
            assert row[at["label", name, "auroc"]] == pytest.approx(area, abs=1e-12)
            assert row[at["label", name, "average_precision"]] == pytest.approx(precision, abs=1e-12)
            assert row[at["label", name, "f1"]] == pytest.approx(f1_score(y, one) - f1_score(y, two), abs=1e-12)
    macro = np.mean([found[:, at["label", name, "auroc"]] for name in WORDS.names], axis=0)
    np.testing.assert_allclose(found[:, at["overall", "overall", "macro_auroc"]], macro, atol=1e-12)


def test_p_counts_the_observed_arrangement() -> None:
    permuted = np.array([[0.1, 0.0], [-0.3, 0.0], [0.2, np.nan], [0.05, np.nan]])
    np.testing.assert_allclose(permutation_p(np.array([0.2, 0.1]), permuted), [3 / 5, np.nan])


def test_under_the_null_p_is_uniform_and_a_true_difference_is_found() -> None:
    null = [
        paired_differences([setting("a", 2 * s), setting("b", 2 * s + 1)], WORDS, replicates=20, permutations=1000)
        for s in range(20)
    ]
    p = pl.concat(null).filter((pl.col.scope == "label") & pl.col.metric.is_in(["auroc", "f1"]))["p"].to_numpy()
    assert stats.kstest(p, "uniform").pvalue > 0.001
    found = paired_differences([setting("a", 1, 2.5), setting("b", 2, 0.0)], WORDS, replicates=200)
    line = found.filter((pl.col.scope == "overall") & (pl.col.metric == "macro_auroc")).row(0, named=True)
    assert line["p"] < 0.01 and 0 < line["low"] < line["difference"] < line["high"]


def test_another_scale_alone_is_no_difference() -> None:
    a, b = setting("a", 1), setting("b", 1, scale=0.01)
    table = paired_differences([a, b], WORDS, replicates=50)
    ranked = table.filter(pl.col.metric.is_in(["auroc", "average_precision"]) & (pl.col.scope == "label"))
    assert ranked["difference"].abs().max() < 1e-12 and (ranked["p"] == 1).all()


def test_the_interval_is_that_of_the_difference_on_shared_resamples() -> None:
    a, b = setting("a", 1), setting("b", 2, 0.5)
    known = bootstrap([a, b], WORDS, replicates=300, seed=5, method="percentile")
    table = paired_differences([a, b], WORDS, known=known)
    assert table.columns == [
        *("a", "b", "scope", "name", "metric", "difference", "low", "high", "p", "p_holm", "reason")
    ]
    m = next(m for m, q in enumerate(known.quantities) if (q.scope, q.name, q.metric) == ("label", "b", "f1"))
    line = table.filter((pl.col.scope == "label") & (pl.col.name == "b") & (pl.col.metric == "f1")).row(0, named=True)
    expected = np.quantile(known.replicates["a"][:, m] - known.replicates["b"][:, m], [0.025, 0.975])
    assert (line["low"], line["high"]) == pytest.approx(tuple(expected), abs=1e-12)
    assert line["difference"] == pytest.approx(known.values["a"][m] - known.values["b"][m])
    assert table.equals(paired_differences([a, b], WORDS, known=known)), "deterministic"
    again = paired_differences([a, b], WORDS, replicates=300, seed=5)
    assert again.filter(pl.col.reason.is_null()).select((pl.col.low < pl.col.high).all()).item()
    assert not {"prevalence", "f1_oracle", "f1_always_positive"} & set(table["metric"])


def test_holm_is_over_the_labels_of_one_pair_and_metric() -> None:
    table = paired_differences([setting("a", 1), setting("b", 2, 0.5), setting("c", 3)], WORDS, replicates=50)
    assert table.select("a", "b").unique().height == 3
    for _, part in table.group_by("a", "b", "scope", "metric"):
        np.testing.assert_allclose(part["p_holm"], slow_holm(part["p"].to_list()), atol=1e-12)


def slow_holm(p: list[float]) -> list[float]:
    """By the definition: the least level at which the step-down procedure rejects each."""
    tested = [value for value in p if not np.isnan(value)]
    levels = sorted({0.0, *(min(k * value, 1.0) for value in tested for k in range(1, len(tested) + 1)), 1.0})

    def rejected(level: float) -> float:
        cut = -1.0
        for step, value in enumerate(sorted(tested)):
            if value * (len(tested) - step) > level + 1e-15:
                break
            cut = value
        return cut

    return [float("nan") if np.isnan(value) else next((x for x in levels if value <= rejected(x)), 1.0) for value in p]


@given(p=st.lists(st.sampled_from([0.001, 0.01, 0.02, 0.04, 0.3, 0.9, 1.0, float("nan")]), max_size=7))
def test_holm_is_the_step_down_procedure(p: list[float]) -> None:
    np.testing.assert_allclose(holm(np.array(p, np.float64)), slow_holm(p), atol=1e-12)


def test_labels_with_few_positives_are_not_tested_and_do_not_count() -> None:
    settings = []
    for one in (setting("a", 1), setting("b", 2, 0.2)):
        targets = TARGETS.copy()
        targets[np.flatnonzero(targets[:, 2] == 1)[6:], 2] = np.nan
        settings.append(
            SettingScores(one.setting, MetricInput(one.inputs.scores, targets, one.inputs.decisions), GROUPS)
        )
    table = paired_differences(settings, WORDS, replicates=50)
    labels = table.filter((pl.col.scope == "label") & (pl.col.metric == "auroc"))
    few = labels.filter(pl.col.name == "c").row(0, named=True)
    assert np.isnan(few["p"]) and np.isnan(few["p_holm"]) and "6 positives" in few["reason"]
    assert np.isfinite(few["difference"])
    np.testing.assert_allclose(labels["p_holm"].to_numpy()[:2], slow_holm(labels["p"].to_list()[:2]))


def test_subgroups_are_compared_without_permutations() -> None:
    one = setting("all", 1)
    halves = []
    for name, keep in (("left", slice(0, 45)), ("right", slice(45, None))):
        targets = np.full_like(TARGETS, np.nan)
        targets[keep] = TARGETS[keep]
        halves.append(SettingScores(name, MetricInput(one.inputs.scores, targets, one.inputs.decisions), GROUPS))
    with pytest.raises(DataError, match="0 permutations"):
        paired_differences(halves, WORDS)
    gaps = paired_differences(halves, WORDS, replicates=100, permutations=0)
    line = gaps.filter((pl.col.scope == "label") & (pl.col.name == "c") & (pl.col.metric == "auroc")).row(0, named=True)
    values = [roc_auc_score(TARGETS[x, 2], one.inputs.scores[x, 2]) for x in (slice(0, 45), slice(45, None))]
    assert line["difference"] == pytest.approx(values[0] - values[1])
    assert line["low"] < line["difference"] < line["high"] and np.isnan(line["p"]) and np.isnan(line["p_holm"])
    assert "prevalence" in set(gaps["metric"])


def test_odd_requests() -> None:
    assert paired_differences([setting("a", 1)], WORDS, replicates=5).height == 0
    with pytest.raises(SpecError, match="1000 permutations"):
        paired_differences([setting("a", 1)], WORDS, permutations=99)
    with pytest.raises(DataError, match="intervals of setting 'b'"):
        paired_differences(
            [setting("a", 1), setting("b", 2)], WORDS, known=bootstrap([setting("a", 1)], WORDS, replicates=5)
        )
