"""Bootstrap, Clopper-Pearson and power: against slow loops, scipy and simulation; what may have no interval."""

from __future__ import annotations

import re

import numpy as np
import polars as pl
import pytest
from scipy import stats

from radlens.core.errors import DataError, SpecError
from radlens.core.interval_ends import bca_ends, percentile_ends
from radlens.core.parts import MetricInput
from radlens.core.vocabulary import Label, Vocabulary
from radlens.evaluate.resampling import (
    Intervals,
    SettingScores,
    band_intervals,
    bootstrap,
    clopper_pearson,
    exact_intervals,
    power_of_f1,
    power_statement,
)
from radlens.evaluate.resampling.label_bands import bands_of
from radlens.evaluate.scoring import score

WORDS = Vocabulary("v", tuple(Label(name, domain, (), ()) for name, domain in (("a", "d"), ("b", "d"), ("c", None))))


def setting(name: str = "s", images: int = 120, seed: int = 0, shift: float = 1.0, each: int = 2) -> SettingScores:
    targets = (np.random.default_rng(99).random((images, 3)) < [0.4, 0.3, 0.2]).astype(np.float32)
    targets[:7, 1] = np.nan
    scores = 1 / (1 + np.exp(-np.random.default_rng(seed).normal(shift * np.nan_to_num(targets), 1)))
    groups = [f"p{i // each}" for i in range(images)]
    return SettingScores(
        name, MetricInput(scores, targets, (scores > 0.6).astype(np.int8)), groups, [f"i{i}" for i in range(images)]
    )


def masked(one: SettingScores, label: int, positives: int) -> SettingScores:
    """The same with no more than so many positives of a label: the others are null."""
    targets = one.inputs.targets.copy()
    targets[np.flatnonzero(targets[:, label] == 1)[positives:], label] = np.nan
    return SettingScores(
        one.setting, MetricInput(one.inputs.scores, targets, one.inputs.decisions), one.groups, one.image_ids
    )


def row(found: Intervals, scope: str, name: str, metric: str, setting: str = "s") -> dict[str, object]:
    of = {"setting": setting, "scope": scope, "name": name, "metric": metric}
    return found.table.filter(*(pl.col(k) == v for k, v in of.items())).row(0, named=True)


def test_the_interval_is_that_of_a_plain_loop_over_resampled_patients() -> None:
    one = setting()
    found = bootstrap([one], WORDS, replicates=200, seed=3, method="percentile")
    random = np.random.default_rng(3)
    patients = sorted(set(one.groups))
    f1, macro = [], []
    for _ in range(200):
        drawn = [patients[i] for i in random.integers(0, len(patients), len(patients))]
        rows = [i for patient in drawn for i, group in enumerate(one.groups) if group == patient]
        x = MetricInput(one.inputs.scores[rows], one.inputs.targets[rows], one.inputs.decisions[rows])
        f1.append(score(x, "label")["f1"][1])
        macro.append(score(x, "overall")["macro_auroc"])
    for values, at in ((f1, ("label", "b", "f1")), (macro, ("overall", "overall", "macro_auroc"))):
        line = row(found, *at)
        assert (line["low"], line["high"]) == pytest.approx(np.quantile(values, [0.025, 0.975]), abs=1e-9)
        assert line["reason"] is None


def test_the_table_has_its_columns_values_and_a_reason_wherever_there_is_no_interval() -> None:
    one = setting()
    table = bootstrap([one, setting("t", seed=5)], WORDS, replicates=100).table
    assert table.columns == [
        *("setting", "scope", "name", "metric", "value", "low", "high"),
        *("n_positives", "n_negatives", "undefined", "reason"),
    ]
    values = score(one.inputs, "label")["auroc"]
    mine = table.filter((pl.col.setting == "s") & (pl.col.scope == "label") & (pl.col.metric == "auroc"))
    np.testing.assert_allclose(mine["value"], values, atol=1e-12)
    assert mine["n_positives"].to_list() == (one.inputs.targets == 1).sum(axis=0).tolist()
    assert (table["low"].is_nan() == table["reason"].is_not_null()).all()
    whole = table.filter(pl.col.reason.is_null())
    assert (whole["low"] <= whole["high"]).all() and whole.height > 50


def test_the_same_seed_gives_the_same_and_settings_share_their_resamples() -> None:
    one, twin = setting("s"), setting("t")
    found = bootstrap([one, twin], WORDS, replicates=50, seed=1)
    np.testing.assert_array_equal(found.replicates["s"], found.replicates["t"])
    np.testing.assert_array_equal(found.replicates["s"], bootstrap([one], WORDS, replicates=50, seed=1).replicates["s"])
    assert not np.array_equal(
        found.replicates["s"], bootstrap([one], WORDS, replicates=50, seed=2).replicates["s"], equal_nan=True
    )


def test_the_order_of_images_within_the_table_does_not_matter() -> None:
    one = setting()
    order = np.random.default_rng(0).permutation(len(one.groups))
    turned = SettingScores(
        "s",
        MetricInput(one.inputs.scores[order], one.inputs.targets[order], one.inputs.decisions[order]),
        [one.groups[i] for i in order],
    )
    a, b = (bootstrap([x], WORDS, replicates=50).replicates["s"] for x in (one, turned))
    np.testing.assert_allclose(a, b, atol=1e-12)


def test_below_ten_positives_the_value_stands_without_an_interval() -> None:
    line = row(bootstrap([masked(setting(each=1), 0, 9)], WORDS, replicates=50), "label", "a", "f1")
    assert np.isfinite(line["value"]) and np.isnan(line["low"]) and np.isnan(line["high"])
    assert line["reason"] == "not estimable: 9 positives, an interval needs 10" and line["n_positives"] == 9
    line = row(bootstrap([masked(setting(each=1), 0, 10)], WORDS, replicates=50), "label", "a", "f1")
    assert line["reason"] is None


def test_ten_positives_of_fewer_patients_are_not_ten() -> None:
    line = row(bootstrap([masked(setting(each=4), 0, 11)], WORDS, replicates=50), "label", "a", "auroc")
    assert re.fullmatch(
        r"not estimable: the 11 positives are of \d patients, an interval needs 10", str(line["reason"])
    )


def test_auroc_needs_ten_negatives_too_and_precision_ten_calls() -> None:
    one = setting(each=1)
    targets, decisions = one.inputs.targets.copy(), one.inputs.decisions.copy()
    targets[np.flatnonzero(targets[:, 2] == 0)[9:], 2] = np.nan
    decisions[:, 0] = 0
    decisions[:9, 0] = 1
    odd = SettingScores("s", MetricInput(one.inputs.scores, targets, decisions), one.groups)
    found = bootstrap([odd], WORDS, replicates=50)
    assert row(found, "label", "c", "auroc")["reason"] == "not estimable: 9 negatives, an interval needs 10"
    assert row(found, "label", "c", "f1")["reason"] is None
    assert row(found, "label", "a", "precision")["reason"] == "not estimable: 9 called positive, an interval needs 10"


def test_an_undefined_number_and_a_constant_one_have_no_interval() -> None:
    one = setting(each=1)
    targets, decisions = one.inputs.targets.copy(), one.inputs.decisions.copy()
    targets[:, 0] = np.nan
    decisions[:, 2] = 0
    odd = SettingScores("s", MetricInput(one.inputs.scores, targets, decisions), one.groups)
    found = bootstrap([odd], WORDS, replicates=50)
    line = row(found, "label", "a", "brier")
    assert np.isnan(line["value"]) and str(line["reason"]).startswith("undefined: 0 positives, 0 negatives")
    never = row(found, "label", "c", "f1")
    assert never["value"] == 0 and "same value in every replicate" in str(never["reason"])


def test_replicates_without_a_class_are_counted_and_too_many_forbid_the_interval() -> None:
    images = 40
    targets = np.zeros((images, 3), np.float32)
    targets[:, 0] = 1
    # ten negatives and thirty positives of a, but all negatives of c lie with ten patients of many images
    targets[:10, 0] = 0
    targets[20:32, 2] = 1
    scores = np.random.default_rng(0).random((images, 3))
    decisions = np.zeros((images, 3), np.int8)
    decisions[20:, 0] = 1
    one = SettingScores("s", MetricInput(scores, targets, decisions), [f"p{i}" for i in range(images)])
    found = bootstrap([one], WORDS, replicates=400)
    assert row(found, "label", "b", "f1")["undefined"] == 1.0
    assert row(found, "label", "a", "auroc")["undefined"] == 0.0
    twenty = SettingScores("s", one.inputs, [f"p{min(i, 10)}" for i in range(images)])
    lonely = bootstrap([twenty], WORDS, replicates=400)
    share = row(lonely, "label", "a", "recall")["undefined"]
    # the positives are all of one patient in eleven: missed with the chance (10/11)^11
    assert share == pytest.approx((10 / 11) ** 11, abs=0.08)


def test_one_patient_alone_has_no_interval_anywhere() -> None:
    one = setting()
    alone = SettingScores("s", one.inputs, ["p"] * len(one.groups))
    for method in ("percentile", "bca"):
        table = bootstrap([alone], WORDS, replicates=20, method=method).table  # type: ignore[arg-type]
        assert table["low"].is_nan().all() and table["reason"].is_not_null().all()


def test_bca_is_scipys() -> None:
    sample = np.random.default_rng(4).exponential(size=40)
    reference = stats.bootstrap(
        (sample,), np.mean, n_resamples=2000, method="BCa", vectorized=True, rng=np.random.default_rng(0)
    )
    left_out = np.array([np.delete(sample, i).mean() for i in range(40)])
    low, high = bca_ends(np.array([sample.mean()]), reference.bootstrap_distribution[:, None], left_out[:, None])
    assert (low[0], high[0]) == pytest.approx(tuple(reference.confidence_interval), abs=1e-6)
    plain = percentile_ends(reference.bootstrap_distribution[:, None])
    assert abs(plain[1][0] - high[0]) > 1e-3, "the sample must be skew enough to tell them apart"


def test_the_method_is_one_that_exists() -> None:
    with pytest.raises(SpecError, match="'percentile'"):
        bootstrap([setting()], WORDS, method="percentil")  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="at least 1"):
        bootstrap([setting()], WORDS, replicates=0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_score_that_is_not_finite_is_named(value: float) -> None:
    one = setting()
    scores = one.inputs.scores.copy()
    scores[5, 1] = value
    with pytest.raises(DataError, match=r"image i5, label 'b' \(1 in all\)"):
        bootstrap(
            [
                SettingScores(
                    "s", MetricInput(scores, one.inputs.targets, one.inputs.decisions), one.groups, one.image_ids
                )
            ],
            WORDS,
        )


def test_settings_with_other_images_patients_or_shapes_are_refused() -> None:
    one, other = setting(), setting("t")
    with pytest.raises(DataError, match="2 images that only one of them has"):
        bootstrap([one, SettingScores("t", other.inputs, other.groups, ["x", *other.image_ids[1:]])], WORDS)
    with pytest.raises(DataError, match="another order"):
        bootstrap([one, SettingScores("t", other.inputs, other.groups, other.image_ids[::-1])], WORDS)
    with pytest.raises(DataError, match="same patients"):
        bootstrap([one, SettingScores("t", other.inputs, ["x", *other.groups[1:]])], WORDS)
    with pytest.raises(DataError, match="found shape"):
        bootstrap([SettingScores("t", other.inputs, other.groups[1:])], WORDS)
    with pytest.raises(DataError, match="stands twice"):
        bootstrap([one, one], WORDS)
    with pytest.raises(DataError, match="found none"):
        bootstrap([], WORDS)


def test_clopper_pearson_is_scipys_and_one_of_none_is_undefined() -> None:
    for trials in (1, 4, 30, 5000):
        for successes in {0, 1, trials // 3, trials}:
            low, high = clopper_pearson(successes, trials)
            expected = stats.binomtest(successes, trials).proportion_ci(0.95, "exact")
            assert (float(low), float(high)) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert np.isnan(clopper_pearson(0, 0)).all()


def test_exact_intervals_say_their_unit() -> None:
    table = exact_intervals([setting()], WORDS)
    assert table.filter((pl.col.name == "a") & (pl.col.metric == "recall"))["unit"].item() == "images"
    assert set(exact_intervals([setting(each=1)], WORDS)["unit"]) == {"patients"}
    one = setting().inputs
    line = table.filter((pl.col.name == "a") & (pl.col.metric == "specificity")).row(0, named=True)
    right = int(((one.targets[:, 0] == 0) & (one.decisions[:, 0] == 0)).sum())
    assert (line["successes"], line["trials"]) == (right, int((one.targets[:, 0] == 0).sum()))
    assert line["low"] < line["value"] < line["high"]
    none = exact_intervals([masked(setting(), 0, 0)], WORDS).filter((pl.col.name == "a") & (pl.col.metric == "recall"))
    assert none["reason"].item() == "undefined: no positives" and none["low"].is_nan().item()


def test_power_is_what_simulation_gives() -> None:
    found = power_of_f1(30, 300, recall=0.6, false_positive_rate=0.05)
    assert found is not None
    random = np.random.default_rng(0)

    def draw(recall: float, rate: float) -> np.ndarray:
        true, false = random.binomial(30, recall, 40_000), random.binomial(300, rate, 40_000)
        return 2 * true / (true + false + 30)

    own = draw(0.6, 0.05)
    assert found.f1 == pytest.approx(own.mean(), abs=0.003)
    assert (found.low, found.high) == pytest.approx(np.quantile(own, [0.025, 0.975]), abs=0.02)
    critical = np.quantile(np.abs(own - draw(0.6, 0.05)), 0.95)
    ways = [
        min(
            abs(other.mean() - own.mean())
            for share in np.linspace(0.02, 1, 50)
            if (
                np.abs((other := draw(0.6 + share * (to - 0.6), 0.05 + share * (rate - 0.05))) - own) >= critical
            ).mean()
            >= 0.8
        )
        for to, rate in ((1.0, 0.0), (0.0, 0.05))
    ]
    assert found.difference == pytest.approx(min(ways), abs=0.03)


def test_power_statements() -> None:
    assert power_statement(0, 9) == "0 test positives: nothing can be said of F1"
    sentence = r"10 test positives: F1 interval \.\d\d to \.\d\d; a difference below \.\d\d could not be seen"
    assert re.fullmatch(sentence, power_statement(10, 1000))
    assert power_statement(1, 3) == "1 test positive: F1 interval .00 to 1.00; no difference could be seen"
    figures = [power_of_f1(n, 20 * n) for n in (10, 40, 160, 640)]
    differences = [x.difference for x in figures if x is not None]
    assert differences == sorted(differences, reverse=True) and len(differences) == 4
    with pytest.raises(SpecError, match="recall"):
        power_statement(4, 9, recall=1.2)
    with pytest.raises(SpecError, match="counts"):
        power_statement(-1, 9)


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_a_band_of_all_labels_is_the_macro_mean(method: str) -> None:
    found = bootstrap([setting(), setting("t", seed=3)], WORDS, replicates=100, method=method)  # type: ignore[arg-type]
    table = band_intervals(found, {"all": WORDS.names, "one": ["b"], "none": []}, ["f1", "auroc"])
    assert table.height == 2 * 3 * 2
    for metric in ("f1", "auroc"):
        for band, at in (("all", ("overall", "overall", f"macro_{metric}")), ("one", ("label", "b", metric))):
            line = table.filter(pl.col.setting == "t", pl.col.name == band, pl.col.metric == metric).row(0, named=True)
            expected = row(found, *at, "t")
            assert [line[x] for x in ("value", "low", "high")] == pytest.approx(
                [expected[x] for x in ("value", "low", "high")]
            )
    empty = table.filter(pl.col.name == "none")
    assert empty["low"].is_nan().all() and empty["reason"].str.starts_with("undefined: 0 positives").all()
    with pytest.raises(SpecError, match="unknown label 'z'"):
        band_intervals(found, {"x": ["z"]})
    with pytest.raises(SpecError, match="unknown label metric 'f2'"):
        band_intervals(found, {"x": ["a"]}, ["f2"])


def test_progress_counts_replicates() -> None:
    told: list[tuple[int, int]] = []
    bootstrap([setting()], WORDS, replicates=1200, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (1200, 1200) and len(told) == 2


def test_bands_hold_the_labels_that_the_table_of_bands_counts() -> None:
    positives = np.array([0, 19, 20, 100, 101])
    assert bands_of("abcde", positives) == {"tail": ("a", "b"), "medium": ("c", "d"), "head": ("e",)}
    assert bands_of("ab", np.array([50, 60])) == {"medium": ("a", "b")}
