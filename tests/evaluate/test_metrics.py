"""Every metric against scikit-learn, with nulls, ties, missing classes and empty splits."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics as reference

from radlens.core import registry
from radlens.core.parts import MetricInput
from radlens.evaluate.scoring import registered_metrics


@st.composite
def inputs(draw: st.DrawFn, nulls: bool = True) -> MetricInput:
    """Up to 12 images and 5 labels; scores from five values, so that ties abound."""
    shape = (draw(st.integers(0, 12)), draw(st.integers(1, 5)))
    values = [0.0, 1.0, np.nan] if nulls else [0.0, 1.0]
    targets = draw(hnp.arrays(np.float32, shape, elements=st.sampled_from(np.float32(values).tolist())))
    scores = draw(hnp.arrays(np.float64, shape, elements=st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0])))
    return MetricInput(scores, targets, (scores >= 0.5).astype(np.int8))


def metric(name: str) -> Any:
    return registry.get("metrics", name)


def of_label(inputs: MetricInput, label: int) -> tuple[Any, Any, Any]:
    known = ~np.isnan(inputs.targets[:, label])
    return inputs.targets[known, label].astype(int), inputs.scores[known, label], inputs.decisions[known, label]


def label_reference(name: str, y: Any, s: Any, d: Any) -> float:
    """The slow way for one label: scikit-learn where it is defined, NaN elsewhere."""
    positives, negatives, called = (y == 1).sum(), (y == 0).sum(), (d == 1).sum()
    needs = {"precision": called, "specificity": negatives, "auroc": min(positives, negatives)}
    if len(y) == 0 or needs.get(name, positives) == 0:
        return float("nan")
    match name:
        case "precision":
            return float(reference.precision_score(y, d, zero_division=0))
        case "recall":
            return float(reference.recall_score(y, d, zero_division=0))
        case "specificity":
            return float(reference.recall_score(1 - y, 1 - d, zero_division=0))
        case "f1":
            return float(reference.f1_score(y, d, zero_division=0))
        case "f1-always-positive":
            return float(reference.f1_score(y, np.ones_like(y)))
        case "f1-oracle":
            return max(float(reference.f1_score(y, s >= t, zero_division=0)) for t in np.unique(s))
        case "auroc":
            return float(reference.roc_auc_score(y, s))
        case "average-precision":
            return float(reference.average_precision_score(y, s))
    raise AssertionError(name)


LABEL = ["precision", "recall", "specificity", "f1", "f1-always-positive", "f1-oracle", "auroc", "average-precision"]


@pytest.mark.parametrize("name", LABEL)
@settings(max_examples=60, deadline=None)
@given(x=inputs())
def test_label_metric_is_scikit_learns(name: str, x: MetricInput) -> None:
    expected = [label_reference(name, *of_label(x, i)) for i in range(x.targets.shape[1])]
    np.testing.assert_allclose(metric(name)(x), expected, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize(
    "name", ["macro-f1", "macro-f1-always-positive", "macro-f1-oracle", "macro-auroc", "macro-average-precision"]
)
@settings(max_examples=40, deadline=None)
@given(x=inputs())
def test_macro_is_the_mean_over_defined_labels(name: str, x: MetricInput) -> None:
    each = [label_reference(name.removeprefix("macro-"), *of_label(x, i)) for i in range(x.targets.shape[1])]
    defined = [value for value in each if not np.isnan(value)]
    expected = sum(defined) / len(defined) if defined else float("nan")
    assert metric(name)(x) == pytest.approx(expected, abs=1e-12, nan_ok=True)


RANKING = {
    "lrap": reference.label_ranking_average_precision_score,
    "coverage-error": reference.coverage_error,
    "ranking-loss": reference.label_ranking_loss,
}


@pytest.mark.parametrize("name", RANKING)
@settings(max_examples=80, deadline=None)
@given(x=inputs())
def test_ranking_metric_is_scikit_learns_on_the_assessed_labels_of_each_image(name: str, x: MetricInput) -> None:
    values = []
    for scores, targets in zip(x.scores, x.targets, strict=True):
        known = ~np.isnan(targets)
        if known.sum() == 1:
            # scikit-learn refuses a single column: one label alone is never misranked
            trivial = {"lrap": 1.0, "coverage-error": float(targets[known][0]), "ranking-loss": 0.0}
            values.append(trivial[name])
        elif known.any():
            values.append(RANKING[name](targets[known][None].astype(int), scores[known][None]))
    expected = np.mean(values) if values else float("nan")
    assert metric(name)(x) == pytest.approx(expected, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("name", RANKING)
def test_ranking_metric_on_a_whole_matrix(name: str) -> None:
    random = np.random.default_rng(3)
    targets, scores = (random.random((500, 14)) < 0.15).astype(np.float32), random.integers(0, 20, (500, 14)) / 20
    x = MetricInput(scores, targets, np.zeros((500, 14), np.int8))
    assert metric(name)(x) == pytest.approx(RANKING[name](targets.astype(int), scores), abs=1e-12)


def test_constant_scores_rank_everything_wrongly() -> None:
    targets = np.array([[1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]], np.float32)
    x = MetricInput(np.full((3, 4), 0.3), targets, np.zeros((3, 4), np.int8))
    assert metric("ranking-loss")(x) == pytest.approx(2 / 3)
    assert metric("coverage-error")(x) == pytest.approx(8 / 3)
    assert metric("lrap")(x) == pytest.approx((1 / 4 + 1 / 2 + 1) / 3)
    np.testing.assert_array_equal(metric("auroc")(x), [0.5, 0.5, 0.5, np.nan])


@settings(max_examples=60, deadline=None)
@given(x=inputs())
def test_exact_match(x: MetricInput) -> None:
    right = [
        bool((t[~np.isnan(t)] == d[~np.isnan(t)]).all())
        for t, d in zip(x.targets, x.decisions, strict=True)
        if not np.isnan(t).all()
    ]
    expected = sum(right) / len(right) if right else float("nan")
    assert metric("exact-match")(x) == pytest.approx(expected, nan_ok=True)


@settings(max_examples=30, deadline=None)
@given(x=inputs(nulls=False))
def test_exact_match_without_nulls_is_subset_accuracy(x: MetricInput) -> None:
    if len(x.targets):
        assert metric("exact-match")(x) == pytest.approx(reference.accuracy_score(x.targets == 1, x.decisions == 1))


def test_nothing_called_positive() -> None:
    x = MetricInput(np.zeros((2, 1)), np.array([[1], [0]], np.float32), np.zeros((2, 1), np.int8))
    assert np.isnan(metric("precision")(x)[0])
    assert metric("f1")(x)[0] == 0.0


@settings(max_examples=60, deadline=None)
@given(x=inputs())
def test_every_registered_metric_stays_within_its_bounds_and_sees_no_unassessed_image(x: MetricInput) -> None:
    null = np.isnan(x.targets)
    elsewhere = MetricInput(
        np.where(null, 1 - x.scores, x.scores), x.targets, np.where(null, 1 - x.decisions, x.decisions)
    )
    for scope in ("overall", "label"):
        for column, found in registered_metrics(scope).items():  # type: ignore[arg-type]
            value = np.asarray(found(x))
            low, high = found.definition.bounds
            assert ((value >= low - 1e-12) & (value <= high + 1e-12) | np.isnan(value)).all(), column
            np.testing.assert_array_equal(value, np.asarray(found(elsewhere)), err_msg=column)


def test_an_empty_split_is_undefined_without_a_warning() -> None:
    x = MetricInput(np.zeros((0, 3)), np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert all(np.isnan(found(x)) for found in registered_metrics("overall").values())
        assert all(np.isnan(found(x)).all() for found in registered_metrics("label").values())
