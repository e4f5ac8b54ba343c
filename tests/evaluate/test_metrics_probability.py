"""Brier score, log-loss, pooled F1, Hamming loss and frequency bands against scikit-learn and slow loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics as reference

from radlens.core import registry
from radlens.core.errors import SpecError
from radlens.core.parts import MetricInput
from radlens.evaluate.metrics.by_frequency import by_frequency
from radlens.evaluate.scoring import score


@st.composite
def inputs(draw: st.DrawFn) -> MetricInput:
    """Up to 12 images and 5 labels with nulls; scores from five values, so that ties abound."""
    shape = (draw(st.integers(0, 12)), draw(st.integers(1, 5)))
    elements = st.sampled_from(np.float32([0.0, 1.0, np.nan]).tolist())
    targets = draw(hnp.arrays(np.float32, shape, elements=elements))
    scores = draw(hnp.arrays(np.float64, shape, elements=st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0])))
    return MetricInput(scores, targets, (scores >= 0.5).astype(np.int8))


def metric(name: str) -> Any:
    return registry.get("metrics", name)


def label_reference(name: str, y: Any, s: Any) -> float:
    positives, negatives = int((y == 1).sum()), int((y == 0).sum())
    if not len(y) or (name == "brier-skill" and min(positives, negatives) == 0):
        return float("nan")
    match name:
        case "brier":
            return float(reference.brier_score_loss(y, s, pos_label=1))
        case "brier-skill":
            always = np.full(len(y), positives / len(y))
            return float(1 - reference.brier_score_loss(y, s) / reference.brier_score_loss(y, always))
        case "log-loss":
            return float(reference.log_loss(y, s, labels=[0, 1]))
        case "average-precision-baseline":
            return positives / len(y) if positives else float("nan")
    raise AssertionError(name)


def of_label(x: MetricInput, label: int) -> tuple[Any, Any]:
    known = ~np.isnan(x.targets[:, label])
    return x.targets[known, label].astype(int), x.scores[known, label]


@pytest.mark.parametrize("name", ["brier", "brier-skill", "log-loss"])
@settings(max_examples=60, deadline=None)
@given(x=inputs())
def test_label_metric_is_scikit_learns(name: str, x: MetricInput) -> None:
    expected = [label_reference(name, *of_label(x, i)) for i in range(x.targets.shape[1])]
    np.testing.assert_allclose(metric(name)(x), expected, atol=1e-9, equal_nan=True)


@pytest.mark.parametrize("name", ["macro-brier", "macro-log-loss", "macro-average-precision-baseline"])
@settings(max_examples=40, deadline=None)
@given(x=inputs())
def test_macro_is_the_mean_over_defined_labels(name: str, x: MetricInput) -> None:
    each = [label_reference(name.removeprefix("macro-"), *of_label(x, i)) for i in range(x.targets.shape[1])]
    defined = [value for value in each if not np.isnan(value)]
    expected = sum(defined) / len(defined) if defined else float("nan")
    assert metric(name)(x) == pytest.approx(expected, abs=1e-9, nan_ok=True)


@settings(max_examples=80, deadline=None)
@given(x=inputs())
def test_pooled_metrics_are_scikit_learns(x: MetricInput) -> None:
    known = ~np.isnan(x.targets)
    y, d = x.targets[known].astype(int), x.decisions[known]
    some = bool((y == 1).any())
    micro = reference.f1_score(y, d) if some else float("nan")
    assert metric("micro-f1")(x) == pytest.approx(micro, nan_ok=True)
    wrong = reference.hamming_loss(y, d) if len(y) else float("nan")
    assert metric("hamming-loss")(x) == pytest.approx(wrong, nan_ok=True)
    parts = [(of_label(x, i)[0], x.decisions[known[:, i], i]) for i in range(x.targets.shape[1])]
    sums = [(int(t.sum()), reference.f1_score(t, c, zero_division=0)) for t, c in parts if t.any()]
    weighted = sum(n * f for n, f in sums) / sum(n for n, _ in sums) if some else float("nan")
    assert metric("weighted-f1")(x) == pytest.approx(weighted, nan_ok=True)


def test_pooled_metrics_on_a_whole_matrix() -> None:
    random = np.random.default_rng(3)
    targets, scores = (random.random((500, 14)) < 0.15).astype(np.float32), random.random((500, 14))
    x = MetricInput(scores, targets, (scores > 0.7).astype(np.int8))
    y = targets.astype(int)
    assert metric("micro-f1")(x) == pytest.approx(reference.f1_score(y, x.decisions, average="micro"))
    assert metric("weighted-f1")(x) == pytest.approx(reference.f1_score(y, x.decisions, average="weighted"))
    assert metric("hamming-loss")(x) == pytest.approx(reference.hamming_loss(y, x.decisions))


def test_saying_the_prevalence_has_no_skill() -> None:
    targets = np.array([[1], [0], [0], [0]], np.float32)
    x = MetricInput(np.full((4, 1), 0.25), targets, np.zeros((4, 1), np.int8))
    assert metric("brier-skill")(x)[0] == pytest.approx(0, abs=1e-12)
    assert metric("brier")(x)[0] == pytest.approx(0.1875)


def test_bands_by_training_positives() -> None:
    values = {"f1": np.array([0.1, 0.3, np.nan, 0.5, 0.9]), "auroc": np.array([0.5, 0.6, 0.7, 0.8, 0.9])}
    table = by_frequency(values, np.array([0, 19, 20, 100, 101]))
    assert table["band"].to_list() == ["tail", "medium", "head"]
    assert table["train_positives"].to_list() == ["< 20", "20-100", "> 100"]
    assert table["labels"].to_list() == [2, 2, 1]
    assert table["f1"].to_list() == pytest.approx([0.2, 0.5, 0.9])
    assert table["f1_labels_counted"].to_list() == [2, 1, 1]
    assert table["auroc"].to_list() == pytest.approx([0.55, 0.75, 0.9])


def test_bands_of_other_cuts() -> None:
    values, counts = {"f1": np.array([0.1, 0.2, 0.3, 0.4, 0.5])}, np.array([4, 5, 19, 20, 101])
    four = by_frequency(values, counts, (5, 20, 100))
    assert four["band"].to_list() == ["< 5", "5-19", "20-100", "> 100"]
    assert four["labels"].to_list() == [1, 2, 1, 1]
    two = by_frequency(values, counts, (20,))
    assert two["train_positives"].to_list() == ["<= 20", "> 20"]
    assert two["labels"].to_list() == [4, 1]
    empty = by_frequency(values, np.full(5, 50))
    assert np.isnan(empty["f1"][0]) and empty["f1_labels_counted"][0] == 0
    with pytest.raises(SpecError, match="ascending"):
        by_frequency(values, counts, (100, 20))


@settings(max_examples=40, deadline=None)
@given(x=inputs(), counts=st.lists(st.integers(0, 200), min_size=5, max_size=5))
def test_bands_hold_every_label_once(x: MetricInput, counts: list[int]) -> None:
    labels = x.targets.shape[1]
    values = {column: value for column, value in score(x, "label").items() if column in ("f1", "auroc")}
    table = by_frequency(values, np.array(counts[:labels]))
    assert table["labels"].sum() == labels
    for column, value in values.items():
        assert table[f"{column}_labels_counted"].sum() == (~np.isnan(value)).sum()
