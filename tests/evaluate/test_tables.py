"""The tables: their columns are a contract, their numbers those of scikit-learn, and a new metric is a new column."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from radlens.core import registry
from radlens.core.errors import SpecError
from radlens.core.predictions import Predictions
from radlens.core.vocabulary import Vocabulary, load_vocabulary
from radlens.evaluate import tables
from radlens.evaluate.domains import domain_targets
from radlens.evaluate.scoring import metric_definitions
from radlens.evaluate.tables import (
    SettingResult,
    overall_table,
    per_domain_table,
    per_label_table,
    separabilities,
    separability_table,
)
from radlens.evaluate.thresholds import choose_thresholds, prevalence

VOCABULARY = load_vocabulary("chexpert-14")


def predictions(split: str, n: int, seed: int) -> Predictions:
    random = np.random.default_rng(seed)
    targets = (random.random((n, 14)) < 0.2).astype(np.float32)
    targets[:, 3] = 0  # a label without positives
    targets[: n // 3, 1] = np.nan
    scores = 1 / (1 + np.exp(-(random.normal(size=(n, 14)) + np.nan_to_num(targets) - 1)))
    ids = tuple(f"{split}{i}" for i in range(n))
    groups = tuple(f"p{i // 2}" for i in range(n))
    embeddings = random.normal(size=(n, 6)).astype(np.float32)
    return Predictions("s", split, VOCABULARY.names, ids, groups, scores, targets, embeddings)


TRAIN = predictions("train", 50, 2).targets


def result(setting: str = "zero-shot", key: str = "k", seconds: float | None = None) -> SettingResult:
    test, val = predictions("test", 90, 0), predictions("val", 40, 1)
    chosen = choose_thresholds(val.probabilities, val.targets, prevalence(TRAIN))
    return SettingResult(setting, test, val, chosen.values, chosen.rule, seconds, None, key)


def test_overall_columns_and_numbers() -> None:
    table = overall_table([result(), result("linear-probe", seconds=2.5)], seed=0)
    assert table.columns == [
        *("setting", "inter_class_distance", "intra_class_distance", "separability_ratio", "macro_f1", "exact_match"),
        *("lrap", "coverage_error", "ranking_loss", "macro_auroc", "macro_average_precision", "train_seconds"),
        *("separability_definition", "separability_ratio_null", "separability_z", "separability_p"),
        *("labels_counted", "macro_auroc_labels_counted"),
        *("macro_f1_always_positive", "macro_f1_oracle", "test_images", "test_patients", "trainable_parameters"),
        *("hamming_loss", "macro_average_precision_baseline", "macro_brier", "macro_log_loss"),
        *("micro_f1", "weighted_f1"),
    ]
    row = table.row(0, named=True)
    assert (row["test_images"], row["test_patients"], row["labels_counted"]) == (90, 45, 13)
    assert row["macro_auroc_labels_counted"] == 13
    assert table["train_seconds"].to_list() == [None, 2.5]
    test = result().test
    with_positives = [i for i in range(14) if i != 3]
    known = ~np.isnan(test.targets)
    areas = [roc_auc_score(test.targets[known[:, i], i], test.probabilities[known[:, i], i]) for i in with_positives]
    assert row["macro_auroc"] == pytest.approx(np.mean(areas))
    assert row["macro_f1_oracle"] >= row["macro_f1"]


def test_per_label_columns_and_numbers() -> None:
    one = result()
    table = per_label_table([one], VOCABULARY, TRAIN)
    assert table.columns == [
        *("setting", "label", "domain", "train_positives", "val_positives", "test_positives", "test_assessed"),
        *("prevalence", "precision", "recall", "f1", "f1_always_positive", "auroc", "average_precision", "threshold"),
        *("threshold_rule", "f1_oracle", "specificity", "brier", "brier_skill", "log_loss"),
    ]
    assert table["label"].to_list() == list(VOCABULARY.names)
    first, second, *_ = table.iter_rows(named=True)
    assert first["domain"] is None
    called = one.test.probabilities[:, 0] >= one.thresholds[0]
    assert first["f1"] == pytest.approx(f1_score(one.test.targets[:, 0], called))
    assert (second["test_assessed"], first["test_assessed"]) == (60, 90)
    assert first["train_positives"] == int((TRAIN[:, 0] == 1).sum())
    empty = table.row(3, named=True)
    assert np.isnan(empty["f1"]) and np.isnan(empty["auroc"]) and empty["test_positives"] == 0


def test_per_domain_is_the_or_and_the_maximum() -> None:
    one = result()
    table = per_domain_table([one], VOCABULARY, TRAIN, seed=0)
    assert table.columns[:3] == ["setting", "domain", "labels"]
    assert {"f1", "inter_class_distance", "intra_class_distance", "separability_ratio"} < set(table.columns)
    row = table.filter(pl.col("domain") == "Cardiovascular").row(0, named=True)
    assert row["labels"] == "Enlarged Cardiomediastinum; Cardiomegaly"
    truth, called, score = [], [], []
    for t, p in zip(one.test.targets[:, 1:3], one.test.probabilities[:, 1:3], strict=True):
        known = [j for j in range(2) if not np.isnan(t[j])]
        truth.append(any(t[j] == 1 for j in known))
        called.append(any(p[j] >= one.thresholds[1 + j] for j in known))
        score.append(max(p[j] for j in known))
    assert row["f1"] == pytest.approx(f1_score(truth, called))
    assert row["auroc"] == pytest.approx(roc_auc_score(truth, score))
    assert row["test_positives"] == sum(truth)


def test_a_domain_of_one_label_is_that_label() -> None:
    one = result()
    label = per_label_table([one], VOCABULARY, TRAIN).filter(pl.col("label") == "Support Devices").row(0, named=True)
    domain = per_domain_table([one], VOCABULARY, TRAIN, 0).filter(pl.col("domain") == "Device").row(0, named=True)
    assert all(domain[c] == label[c] for c in ("f1", "auroc", "average_precision", "precision", "recall", "prevalence"))


def test_domain_targets_never_make_a_null_a_zero() -> None:
    nan = np.nan
    targets = np.full((4, 14), nan, np.float32)
    targets[:3, 1:3] = [[1, nan], [0, nan], [0, 0]]
    np.testing.assert_array_equal(domain_targets(targets, VOCABULARY)[:, 0], [1, 0, 0, nan])


def test_a_vocabulary_without_domains() -> None:
    bare = Vocabulary("bare", tuple(type(x)(x.name, None, x.positive, x.negative) for x in VOCABULARY.labels))
    assert per_domain_table([result()], bare, TRAIN, 0).height == 0


def test_separability_is_computed_once_for_each_embedding(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    real = tables.separability
    monkeypatch.setattr(tables, "separability", lambda *a: calls.append(1) or real(*a))
    results = [result("a"), result("b"), result("c", key="other")]
    known = separabilities(results, VOCABULARY, 0)
    overall = overall_table(results, 0, known)
    domains = per_domain_table(results, VOCABULARY, TRAIN, 0, known)
    table = separability_table(results, VOCABULARY, 0, known)
    assert len(calls) == 2
    assert table.columns[:5] == ["setting", "scope", "name", "definition", "normalised"]
    assert table.columns[5:] == [
        *("inter", "intra", "ratio", "ratio_null", "ratio_z", "ratio_p", "null_images", "members")
    ]
    assert table.height == 3 * 6 * (1 + 14 + len(VOCABULARY.domains))
    raw = (pl.col("definition") == "pairwise") & ~pl.col("normalised")
    assert (
        overall["separability_ratio"].to_list() == table.filter(raw & (pl.col("scope") == "overall"))["ratio"].to_list()
    )
    assert (
        domains["separability_ratio"].to_list() == table.filter(raw & (pl.col("scope") == "domain"))["ratio"].to_list()
    )
    assert overall_table(results, 0).equals(overall), "alone or with what is known, the same table"


METRIC = '''
import numpy as np
from radlens.core.parts import defined
@defined("{scope}", "higher", (0.0, 1.0), "Share of yes.", "a test")
def share(inputs):
    """Share of images called positive."""
    return {value}
'''


def outside(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str, text: str) -> None:
    (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, name, raising=False)
    point = EntryPoint("yes-share", f"{name}:share", "radlens.metrics")
    monkeypatch.setattr(registry, "entry_points", lambda group: [point] if group == "radlens.metrics" else [])


def test_a_new_label_metric_is_a_new_column(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    outside(monkeypatch, tmp_path, "outside_label", METRIC.format(scope="label", value="inputs.decisions.mean(axis=0)"))
    one = result()
    table = per_label_table([one], VOCABULARY, TRAIN)
    assert table.columns[-1] == "yes_share"
    expected = (one.test.probabilities >= one.thresholds).mean(axis=0)
    np.testing.assert_allclose(table["yes_share"], expected)
    assert "yes_share" in per_domain_table([one], VOCABULARY, TRAIN, 0).columns
    assert "yes_share" in [entry["column"] for entry in metric_definitions()]


def test_a_new_overall_metric_is_a_new_column(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    outside(monkeypatch, tmp_path, "outside_overall", METRIC.format(scope="overall", value="inputs.decisions.mean()"))
    assert overall_table([result()], 0).columns[-1] == "yes_share"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (METRIC.format(scope="overall", value="inputs.decisions.mean(axis=0)"), "must return shape"),
        ("def share(inputs): return 0.0", "has no definition"),
    ],
)
def test_a_metric_that_breaks_its_contract_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, message: str
) -> None:
    outside(monkeypatch, tmp_path, "outside_broken", text)
    with pytest.raises(SpecError, match=message):
        overall_table([result()], 0)


def test_a_metric_file_in_the_folder_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import radlens.evaluate.metrics as package

    text = METRIC.format(scope="overall", value="float(inputs.decisions.mean())")
    text = text.replace(
        "@defined", 'from radlens.core.registry import register\n@register("metrics", "yes-share")\n@defined'
    )
    (tmp_path / "dropped_in.py").write_text(text)
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    monkeypatch.setattr(package.__spec__, "submodule_search_locations", list(package.__path__))
    registry._scan.cache_clear()
    try:
        assert overall_table([result()], 0).columns[-1] == "yes_share"
    finally:
        registry._scan.cache_clear()
        sys.modules.pop("radlens.evaluate.metrics.dropped_in", None)


def test_definitions_cover_every_number_of_the_overall_table() -> None:
    entries = metric_definitions()
    columns = [entry["column"] for entry in entries]
    assert len(columns) == len(set(columns))
    counts = {"setting", "separability_definition", "test_images", "test_patients", "trainable_parameters"}
    assert set(overall_table([result()], 0).columns) - counts <= set(columns)
    assert all(set(e) == {"column", "scope", "text", "direction", "bounds", "source"} and e["text"] for e in entries)


def test_labels_in_another_order_are_refused() -> None:
    turned = Vocabulary("turned", VOCABULARY.labels[::-1])
    with pytest.raises(ValueError, match="are not"):
        per_label_table([result()], turned, TRAIN)
