"""The mean of several seeds beside the single ones: figures by hand, gains paired, doubt that tells errors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, roc_auc_score

from radlens.core.predictions import Predictions
from radlens.core.vocabulary import Label, Vocabulary
from radlens.evaluate.resampling.bootstrap import bootstrap
from radlens.evaluate.resampling.setting_scores import SettingScores
from radlens.evaluate.seed_ensemble import seed_ensemble
from radlens.evaluate.seed_ensemble_table import SeedGroup, seed_ensemble_table
from radlens.evaluate.tables import SettingResult

VOCABULARY = Vocabulary("two", tuple(Label(name, None, (), ()) for name in "ab"))


def group(noise: float, n: int = 160) -> SeedGroup:
    """Members that see one hidden score each with noise of its own: where that is large they disagree and err."""
    random = np.random.default_rng(0)
    targets = (random.random((n, 2)) < 0.4).astype(np.float32)
    targets[:5, 0] = np.nan
    hidden = 1.2 * (2 * np.nan_to_num(targets) - 1) + random.normal(size=(n, 2))
    loud = noise * (random.random((n, 1)) < 0.3)
    ids, groups = tuple(map(str, range(n))), tuple(f"p{i // 2}" for i in range(n))
    members = []
    for seed in range(3):
        seen = hidden + loud * np.random.default_rng(seed + 1).normal(size=(n, 2)) * 3
        test = Predictions("s", "test", ("a", "b"), ids, groups, 1 / (1 + np.exp(-seen)), targets, np.zeros((n, 1)))
        rules, thresholds = ("fixed", "fixed"), np.array([0.5, 0.5])
        members.append(SettingResult(f"s.seed-{seed}", test, test, thresholds, rules, None, None, "k"))
    ensemble = seed_ensemble([one.test.probabilities for one in members])
    return SeedGroup("s", tuple(members), ensemble, np.array([0.5, 0.5]))


def table(given: SeedGroup):  # type: ignore[no-untyped-def]
    singles = [SettingScores(one.setting, one.inputs(), one.test.groups) for one in given.members]
    known = bootstrap([*singles, *given.scores()], VOCABULARY, replicates=300, seed=0)
    found = seed_ensemble_table(given, known, seed=0)
    return {row["metric"]: row for row in found.iter_rows(named=True)}


def test_figures_of_the_mean_stand_beside_those_of_the_seeds() -> None:
    given = group(noise=1.0)
    rows = table(given)
    mean, targets = given.ensemble.mean, given.members[0].test.targets

    def brier(probabilities: np.ndarray) -> float:
        known = ~np.isnan(targets)
        return float(np.mean([brier_score_loss(targets[k, i], probabilities[k, i]) for i, k in enumerate(known.T)]))

    row = rows["macro_brier"]
    singles = [brier(one.test.probabilities) for one in given.members]
    assert row["ensemble"] == pytest.approx(brier(mean)) and row["single_mean"] == pytest.approx(np.mean(singles))
    assert (row["single_least"], row["single_greatest"]) == (pytest.approx(min(singles)), pytest.approx(max(singles)))
    assert row["gain"] == pytest.approx(brier(mean) - np.mean(singles)) and row["members"] == 3
    # the squared error of a mean is never above the mean of the squared errors
    assert row["gain_low"] <= row["gain"] <= row["gain_high"] < 0
    assert row["low"] < row["ensemble"] < row["high"] and row["reason"] is None
    assert "macro_f1_always_positive" not in rows and "macro_f1_oracle" not in rows


def test_disagreement_tells_errors_only_where_seeds_disagree_about_them() -> None:
    given = group(noise=1.0)
    rows = table(given)
    mean, targets = given.ensemble.mean, given.members[0].test.targets
    areas = []
    for k in range(2):
        known = ~np.isnan(targets[:, k])
        wrong = (mean[known, k] >= 0.5) != (targets[known, k] == 1)
        areas.append(roc_auc_score(wrong, given.ensemble.mutual_information[known, k]))
    row = rows["disagreement_error_auroc"]
    assert row["ensemble"] == pytest.approx(np.mean(areas)) and row["low"] > 0.5
    assert row["gain"] == pytest.approx(row["ensemble"] - rows["margin_error_auroc"]["ensemble"])
    spread = np.where(np.isnan(targets), np.nan, given.ensemble.spread)
    assert rows["disagreement"]["ensemble"] == pytest.approx(np.nanmean(np.nanmean(spread, axis=1)))


def test_seeds_that_agree_gain_nothing_and_say_so() -> None:
    rows = table(group(noise=0.0))
    assert rows["macro_auroc"]["gain"] == pytest.approx(0, abs=1e-12) and np.isnan(rows["macro_auroc"]["gain_low"])
    assert rows["macro_auroc"]["reason"] == "the gain is the same in every replicate and has no interval"
    assert rows["macro_auroc"]["low"] < rows["macro_auroc"]["high"], "the figure itself has one"
    doubt = rows["disagreement_error_auroc"]
    assert doubt["ensemble"] == 0.5 and np.isnan(doubt["low"]) and doubt["reason"].startswith("not estimable")


def test_few_errors_have_a_reason_in_the_words_of_errors() -> None:
    given = group(noise=0.0)
    sure = np.nan_to_num(given.members[0].test.targets) * 0.98 + 0.01
    sure[-1] = 1 - sure[-1]
    right = tuple(replace(one, test=replace(one.test, probabilities=sure)) for one in given.members)
    rows = table(SeedGroup("s", right, seed_ensemble([sure] * 3), np.array([0.5, 0.5])))
    assert rows["margin_error_auroc"]["reason"] == "not estimable: 2 wrong decisions, an interval needs 10"
