"""Weighted metrics against scikit-learn with weights, and the registered metrics on the resample written out."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics as reference

from radlens.core.parts import MetricInput
from radlens.core.patient_weights import bootstrap_weights, jackknife_weights, swap_weights
from radlens.core.vocabulary import Label, Vocabulary
from radlens.evaluate.domains import domain_inputs
from radlens.evaluate.resampling.ranked_label import rank_label, ranked_metrics
from radlens.evaluate.resampling.setting_scores import Patients
from radlens.evaluate.resampling.weighted_metrics import (
    LABEL_METRICS,
    OVERALL_METRICS,
    PreparedSetting,
    prepare,
    weighted_metrics,
)
from radlens.evaluate.scoring import score
from radlens.evaluate.thresholds import prevalence

Case = tuple[MetricInput, Patients, npt.NDArray[np.float32]]


def vocabulary(labels: int) -> Vocabulary:
    """The first two labels make one domain, the third another, the rest none."""
    domains = ["heart", "heart", "lung", None, None]
    return Vocabulary("v", tuple(Label(f"l{i}", domains[i], (), ()) for i in range(labels)))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Up to 12 images of up to 5 patients, up to 5 labels, ties and nulls abound; four weightings of 0 to 3."""
    shape = (draw(st.integers(1, 12)), draw(st.integers(1, 5)))
    targets = draw(hnp.arrays(np.float32, shape, elements=st.sampled_from([0.0, 1.0, np.float32(np.nan)])))
    scores = draw(hnp.arrays(np.float64, shape, elements=st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0])))
    count = draw(st.integers(1, 5))
    index = draw(hnp.arrays(np.intp, shape[0], elements=st.integers(0, count - 1)))
    weights = draw(hnp.arrays(np.float32, (count, 4), elements=st.integers(0, 3).map(np.float32)))
    return MetricInput(scores, targets, (scores >= 0.5).astype(np.int8)), Patients(index, count), weights


def written_out(inputs: MetricInput, times: npt.NDArray[np.float32]) -> MetricInput:
    rows = np.repeat(np.arange(len(inputs.scores)), times.astype(int))
    return MetricInput(inputs.scores[rows], inputs.targets[rows], inputs.decisions[rows])


def by_name(setting: PreparedSetting, row: npt.NDArray[np.float64], scope: str, metric: str) -> list[float]:
    return [row[m] for m, q in enumerate(setting.quantities) if (q.scope, q.metric) == (scope, metric)]


@settings(max_examples=50, deadline=None)
@given(case=cases())
def test_every_metric_is_the_registered_one_on_the_resample_written_out(case: Case) -> None:
    inputs, patients, weights = case
    words = vocabulary(inputs.targets.shape[1])
    setting = prepare(inputs, words, patients)
    for column, row in enumerate(weighted_metrics(setting, weights)):
        copies = written_out(inputs, weights[patients.index, column])
        overall, labels = score(copies, "overall"), score(copies, "label") | {"prevalence": prevalence(copies.targets)}
        domains = domain_inputs(copies, words)
        of_domains = score(domains, "label") | {"prevalence": prevalence(domains.targets)}
        for metric in OVERALL_METRICS:
            assert by_name(setting, row, "overall", metric) == pytest.approx([overall[metric]], abs=1e-9, nan_ok=True)
        for metric in LABEL_METRICS:
            for scope, expected in (("label", labels[metric]), ("domain", of_domains[metric])):
                found = by_name(setting, row, scope, metric)
                np.testing.assert_allclose(found, expected, atol=1e-9, equal_nan=True, err_msg=f"{scope} {metric}")


@settings(max_examples=100, deadline=None)
@given(case=cases())
def test_label_metrics_are_scikit_learns_with_sample_weight(case: Case) -> None:
    inputs, patients, weights = case
    inputs = MetricInput(inputs.scores[:, :1], inputs.targets[:, :1], inputs.decisions[:, :1])
    setting = prepare(inputs, vocabulary(1), patients)
    known = ~np.isnan(inputs.targets[:, 0])
    y, s, d = (x[known, 0] for x in (inputs.targets, inputs.scores, inputs.decisions))
    for column, row in enumerate(weighted_metrics(setting, weights)):
        w = weights[patients.index, column][known].astype(np.float64)
        positives, negatives = w[y == 1].sum(), w[y == 0].sum()
        found = {metric: by_name(setting, row, "label", metric)[0] for metric in LABEL_METRICS}
        if positives == 0:
            undefined = ("recall", "f1", "f1_always_positive", "f1_oracle", "auroc", "average_precision")
            assert all(np.isnan(found[metric]) for metric in undefined)
            continue
        expected: dict[str, Any] = {
            "recall": reference.recall_score(y, d, sample_weight=w, zero_division=0),
            "f1": reference.f1_score(y, d, sample_weight=w, zero_division=0),
            "average_precision": reference.average_precision_score(y, s, sample_weight=w),
            "brier": np.average((y - s) ** 2, weights=w),
            "log_loss": reference.log_loss(y, s, sample_weight=w, labels=[0, 1]),
        }
        if negatives:
            expected["auroc"] = reference.roc_auc_score(y, s, sample_weight=w)
            expected["specificity"] = reference.recall_score(1 - y, 1 - d, sample_weight=w, zero_division=0)
        else:
            assert np.isnan(found["auroc"]) and np.isnan(found["specificity"])
        if w[d == 1].sum():
            expected["precision"] = reference.precision_score(y, d, sample_weight=w, zero_division=0)
        assert {metric: found[metric] for metric in expected} == pytest.approx(expected, abs=1e-6)


def test_many_cuts_in_several_chunks_are_exact() -> None:
    random = np.random.default_rng(0)
    count, replicates = 30_000, 9
    scores = random.integers(0, 25_000, count) / 25_000
    targets = (random.random(count) < 0.5).astype(np.float32)
    patients = Patients(random.integers(0, 20_000, count), 20_000)
    (weights,) = bootstrap_weights(20_000, replicates, 1, replicates)
    images = weights[patients.index].astype(np.float64)
    sums = rank_label(scores, targets, patients).sums(weights)
    assert len(sums.gained) * replicates > 100_000, "else there is but one chunk"
    found = ranked_metrics(sums, images[targets == 1].sum(axis=0), images[targets == 0].sum(axis=0))
    for column in range(replicates):
        area = reference.roc_auc_score(targets, scores, sample_weight=images[:, column])
        precision = reference.average_precision_score(targets, scores, sample_weight=images[:, column])
        assert found[0][column] == pytest.approx(area, abs=1e-12)
        assert found[1][column] == pytest.approx(precision, abs=1e-12)


def test_scores_beyond_0_and_1_leave_only_the_probability_metrics_undefined() -> None:
    random = np.random.default_rng(0)
    targets = (random.random((30, 1)) < 0.5).astype(np.float32)
    scores = random.normal(size=(30, 1)) * 3
    inputs = MetricInput(scores, targets, (scores > 0).astype(np.int8))
    setting = prepare(inputs, vocabulary(1), Patients(np.arange(30), 30))
    row = weighted_metrics(setting, np.ones((30, 1), np.float32))[0]
    undefined = {q.metric for q, value in zip(setting.quantities, row, strict=True) if np.isnan(value)}
    assert undefined == {"brier", "brier_skill", "log_loss", "macro_brier", "macro_log_loss"}


def test_weights_do_not_depend_on_the_block_and_draw_as_many_patients_as_there_are() -> None:
    for make in (bootstrap_weights, swap_weights):
        whole = np.concatenate(list(make(41, 30, 7, 30)), axis=1)
        parts = np.concatenate(list(make(41, 30, 7, 4)), axis=1)
        np.testing.assert_array_equal(whole, parts)
        assert not np.array_equal(whole, np.concatenate(list(make(41, 30, 8, 30)), axis=1))
    drawn = np.concatenate(list(bootstrap_weights(40, 500, 7, 64)), axis=1)
    assert (drawn.sum(axis=0) == 40).all()
    assert drawn.mean(axis=1) == pytest.approx(np.ones(40), abs=0.25)


def test_the_jackknife_leaves_out_each_patient_once() -> None:
    few = np.concatenate(list(jackknife_weights(12, 0, 5)), axis=1)
    assert few.shape == (12, 12) and (few.sum(axis=0) == 11).all() and (few.sum(axis=1) == 11).all()
    many = np.concatenate(list(jackknife_weights(2510, 0, 30)), axis=1)
    assert many.shape == (2510, 200)
    assert (many.sum(axis=1) == 199).all()
    assert set((2510 - many.sum(axis=0)).tolist()) == {12.0, 13.0}
