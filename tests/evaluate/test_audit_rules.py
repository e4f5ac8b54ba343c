"""Each rule on a table made to break it, and the bounds against brute force."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog
from sklearn import metrics

from radlens.evaluate.audit.reading import read_published
from radlens.evaluate.audit.rules import audit, without_rule
from radlens.evaluate.audit.rules.chance import always_positive, implied_prevalence
from radlens.evaluate.audit.rules.multilabel import least_lrap, most_lrap
from radlens.evaluate.audit.rules.sample_size import f1_error

HEAD = "table,kind,name,setting,metric,value,n,prevalence"


def _found(folder: Path, *rows: str) -> list[tuple[str, str, str]]:
    path = folder / "tables.csv"
    path.write_text("\n".join([HEAD, *(row + "," * (7 - row.count(",")) for row in rows)]), encoding="utf-8")
    return [(finding.rank, finding.rule, finding.text) for finding in audit(read_published(path))]


@pytest.mark.parametrize(
    ("rows", "rule", "text"),
    [
        (["T,overall,,a,lrap,14.3"], "range", "cannot exceed 1 (a percentage without its sign?)"),
        (["T,overall,,a,lrap,-0.143"], "range", "cannot be below 0"),
        (["T,overall,,a,coverage_error,3.1", "T,label,x,a,f1,0.5", "text,data,,,labels,3"], "range", "cannot exceed 3"),
        (["T,overall,,a,lrap,0.50", "text,overall,,a,lrap,52%"], "two values", "0.50 in T, 52% in text"),
        (["T,overall,,a,exact_match,0.143,100"], "whole numbers", "no whole number of 100 images"),
        (["T,label,x,a,recall,0.40,100,0.04"], "whole numbers", "no whole number of 4 positives"),
        (["T,label,x,a,f1,0.990,100,0.04"], "whole numbers", "no whole number of hits among 4 positives"),
        (["T,label,x,a,f1,0.7", "T,label,x,a,precision,0.5", "T,label,x,a,recall,0.5"], "from its parts", "give 0.500"),
        (
            ["T,label,x,a,accuracy,0.9,,0.5", "T,label,x,a,recall,0.5", "T,label,x,a,specificity,0.5"],
            "from its parts",
            "recall 0.5, specificity 0.5, prevalence 0.5 give 0.500",
        ),
        (
            ["T,overall,,a,macro_f1,0.60", "T,overall,,a,macro_precision,0.90", "T,overall,,a,macro_recall,0.20"],
            "macro F1 possible",
            "allow at most 0.34",
        ),
        (
            [
                "T,overall,,a,separability_ratio,1.5",
                "T,overall,,a,inter_class_distance,3.00",
                "T,overall,,a,intra_class_distance,1.00",
            ],
            "ratio",
            "3.00 / 1.00 is 3.0000",
        ),
        (["T,overall,,a,macro_auroc,0.9", "T,label,x,a,auroc,0.7", "T,label,y,a,auroc,0.8"], "macro mean", "0.750"),
        (["T,overall,,a,micro_f1,0.90", "T,label,x,a,f1,0.7", "T,label,y,a,f1,0.8"], "between labels", "lie between"),
        (
            ["T,overall,,a,weighted_f1,0.65", "T,label,x,a,f1,0.60,,0.10", "T,label,y,a,f1,0.80,,0.90"],
            "weighted mean",
            "give 0.780",
        ),
        (
            ["T,overall,,a,hamming_loss,0.5", "T,label,x,a,accuracy,0.7", "T,label,y,a,accuracy,0.8"],
            "hamming loss",
            "0.250",
        ),
        (["T,overall,,a,exact_match,0.9", "T,label,x,a,accuracy,0.7"], "exact match", "wrong in at least 0.25"),
        (["T,overall,,a,exact_match,0.95", "T,label,x,a,f1,0.00,,0.20"], "exact match", "x with F1 0.00"),
        (
            ["T,domain,D,a,f1,0.30", "T,label,x,a,f1,0.90", "T,label,y,a,f1,0.90", "text,domain,D,,members,x; y"],
            "least domain F1",
            "cannot be below 0.8",
        ),
        (
            [
                "T,domain,D,a,f1,0.5,,0.10",
                "T,label,x,a,f1,0.5,,0.20",
                "T,label,y,a,f1,0.5,,0.30",
                "text,domain,D,,members,x; y",
            ],
            "domain prevalence",
            "allow 0.295 to 0.510",
        ),
        (["T,overall,,a,coverage_error,5.00", "T,overall,,a,lrap,0.100"], "LRAP", "allow 0.167 to 1.000"),
    ],
)
def test_a_broken_table_is_a_contradiction(rows: list[str], rule: str, text: str, tmp_path: Path) -> None:
    found = _found(tmp_path, *rows)
    assert any(rank == "contradiction" and r == rule and text in said for rank, r, said in found), found


def test_coverage_error_below_the_positives_of_an_image(tmp_path: Path) -> None:
    labels = ["T,label,x,a,f1,0.5,,0.90", "T,label,y,a,f1,0.5,,0.80"]
    rules = {
        coverage: _found(tmp_path, *labels, f"T,overall,,a,coverage_error,{coverage}") for coverage in ("0.30", "1.0")
    }
    assert [rank for rank, rule, _ in rules["0.30"] if rule == "coverage error"] == ["contradiction"]
    assert [rank for rank, rule, _ in rules["1.0"] if rule == "coverage error"] == ["suspicious"]


def test_another_reading_of_the_mean_is_only_suspicious(tmp_path: Path) -> None:
    rows = ["T,label,x,a,f1,0.60", "T,label,y,a,f1,0.40", "T,label,z,a,f1,0.00", "T,overall,,a,macro_f1,0.50"]
    (found,) = [finding for finding in _found(tmp_path, *rows) if finding[1] == "macro mean"]
    assert found[0] == "suspicious"
    assert found[2].endswith("it is the mean of the labels that are not 0.")


def test_blank_labels_may_be_left_out_or_counted(tmp_path: Path) -> None:
    rows = ["T,label,x,a,f1,0.60", "T,label,y,a,f1,—"]
    for macro, wrong in (("0.60", False), ("0.30", False), ("0.20", True)):
        found = _found(tmp_path, *rows, f"T,overall,,a,macro_f1,{macro}")
        assert any(rule == "macro mean" for _, rule, _ in found) == wrong


def test_values_over_runs_are_not_put_through_formulas(tmp_path: Path) -> None:
    rows = ["T,label,x,a,f1,0.7 ± 0.1", "T,label,x,a,precision,0.5", "T,label,x,a,recall,0.5"]
    assert _found(tmp_path, *rows) == []


def test_claims(tmp_path: Path) -> None:
    rows = ["T,overall,,a,lrap,0.50", "T,overall,,b,lrap,0.60", "T,overall,,c,lrap,0.60"]
    for setting, claim in (("a", "best"), ("a", "> b"), ("a", "= b"), ("a", "~ b"), ("b", "< a")):
        found = _found(tmp_path, *rows, f"text,overall,,{setting},lrap,{claim}")
        assert [rule for _, rule, _ in found] == ["text against table"], claim
    for setting, claim in (("a", "< b"), ("b", "best"), ("b", "> a"), ("b", "= c"), ("b", "~ c"), ("b", "> c")):
        assert _found(tmp_path, *rows, f"text,overall,,{setting},lrap,{claim}") == []
    rows = ["T,overall,,a,coverage_error,3", "T,overall,,b,coverage_error,5"]
    assert _found(tmp_path, *rows, "T,overall,,a,coverage_error,best") == []
    assert _found(tmp_path, *rows, "T,overall,,b,coverage_error,best") != []


def test_metrics_without_a_rule_are_named(tmp_path: Path) -> None:
    path = tmp_path / "tables.csv"
    path.write_text(f"{HEAD}\nT,overall,,a,f1,0.5,,\nT,label,x,a,bleu,0.5,,\n", encoding="utf-8")
    assert without_rule(read_published(path)) == ["overall f1", "bleu"]


@given(st.floats(0.001, 1))
def test_implied_prevalence_undoes_always_positive(prevalence: float) -> None:
    assert implied_prevalence(always_positive(prevalence)) == pytest.approx(prevalence)


@given(st.integers(0, 10**6))
def test_lrap_lies_within_its_bounds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels, n = int(rng.integers(2, 9)), int(rng.integers(1, 12))
    truth = (rng.random((n, labels)) < rng.uniform(0, 1)).astype(int)
    # few distinct scores: ties
    scores = rng.integers(0, rng.integers(2, 30), size=(n, labels)) + rng.uniform(-3, 3) * truth
    lrap = metrics.label_ranking_average_precision_score(truth, scores)
    coverage, cardinality = metrics.coverage_error(truth, scores), truth.sum(axis=1).mean()
    assert least_lrap(coverage) <= lrap + 1e-9
    assert lrap <= most_lrap((coverage, coverage), (cardinality, cardinality), labels) + 1e-9


def test_bounds_of_lrap_are_reached() -> None:
    assert least_lrap(3) == pytest.approx(1 / 3)
    assert least_lrap(1) == pytest.approx(0.75)
    # the exact optimum over all mixtures of images with k positives and coverage c
    pairs = [(0, 0)] + [(k, c) for k in range(1, 15) for c in range(k, 15)]
    worth = [1.0 if k == 0 else 1 - 1 / k + 1 / c for k, c in pairs]
    for coverage, cardinality in ((2.75, 1.0), (7.7, 1.26), (12.0, 1.0), (3.0, 2.5)):
        limits = np.array([[1.0, k, c] for k, c in pairs]).T
        exact = -linprog(-np.array(worth), A_eq=limits, b_eq=[1, cardinality, coverage]).fun
        bound = most_lrap((coverage, coverage), (cardinality, cardinality), 14)
        assert exact - 1e-9 <= bound <= exact + 0.03


def test_standard_error_of_f1_is_a_lower_bound_near_the_truth() -> None:
    rng = np.random.default_rng(0)
    n, prevalence, recall, false = 2000, 0.1, 0.95, 0.05
    missed, alarms = prevalence * (1 - recall), (1 - prevalence) * false
    cells = rng.multinomial(n, [prevalence * recall, missed, alarms, 1 - prevalence * recall - missed - alarms], 20_000)
    hits, rest = cells[:, 0], cells[:, 1] + cells[:, 2]
    f1 = 2 * hits / (2 * hits + rest)
    told = f1_error(float(f1.mean()), n * prevalence)
    assert 0.8 * f1.std() < told <= 1.02 * f1.std()
    assert f1_error(0.0, 4) == 0.0
    assert math.isclose(f1_error(0.5, 4), 0.5 * math.sqrt(0.5 * 1.5 / 8))
