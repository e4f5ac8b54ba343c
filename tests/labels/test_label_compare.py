"""Two label files side by side: kappa against scikit-learn, its interval against a slow derivative and a bootstrap."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from sklearn.metrics import cohen_kappa_score, f1_score

from radlens.core.errors import DataError
from radlens.core.reports import EVIDENCE, LabelledReports
from radlens.core.vocabulary import load_vocabulary
from radlens.labels.agreement import agreement
from radlens.labels.compare import LabelComparison, compare_labels
from radlens.labels.label_table import read_labels, write_labels

Rows = list[tuple[str, bool, int | None, int | None, int | None]]
LABELS = ("No Finding", "Edema", "Support Devices")


def labelled(rows: Rows, evidence: list[tuple[str, str, int, str]] | None = None) -> LabelledReports:
    schema = {"study_id": pl.String, "assessed": pl.Boolean, **dict.fromkeys(LABELS, pl.Int8)}
    table = pl.DataFrame(rows, schema=schema, orient="row")
    return LabelledReports(table, pl.DataFrame(evidence or [], schema=EVIDENCE, orient="row"), "a test")


def drawn(cells: tuple[int, int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Judgements with these numbers of both, only a, only b, neither."""
    a, b = np.repeat([True, True, False, False], cells), np.repeat([True, False, True, False], cells)
    return a, b


@given(st.tuples(*[st.integers(0, 30)] * 4))
def test_kappa_is_that_of_scikit_learn(cells: tuple[int, int, int, int]) -> None:
    a, b = drawn(cells)
    found = agreement(a, b)
    assert (found.both, found.only_a, found.only_b, found.neither) == cells and found.n == sum(cells)
    if sum(cells) == 0 or sum(cells[:3]) == 0 or sum(cells[1:]) == 0:
        assert math.isnan(found.kappa) and found.reason
        return
    assert found.kappa == pytest.approx(cohen_kappa_score(a, b), abs=1e-12)
    assert found.share == pytest.approx(float((a == b).mean()))
    assert found.positive_agreement == pytest.approx(f1_score(a, b))
    assert math.isnan(found.low) == math.isnan(found.high) == bool(found.reason)
    if not found.reason:
        assert -1 <= found.low <= found.kappa <= found.high <= 1


def slow_error(cells: tuple[int, int, int, int]) -> float:
    """Standard error of kappa by numerical derivatives over the multinomial covariance, from the definition alone."""
    n = sum(cells)
    shares = np.array(cells) / n

    def kappa(p: np.ndarray) -> float:
        table = (p / p.sum()).reshape(2, 2)
        chance = float(table.sum(1) @ table.sum(0))
        return (float(np.trace(table)) - chance) / (1 - chance)

    steps = np.eye(4) * 1e-6
    slope = np.array([(kappa(shares + step) - kappa(shares - step)) / 2e-6 for step in steps])
    covariance = (np.diag(shares) - np.outer(shares, shares)) / n
    return math.sqrt(slope @ covariance @ slope)


@pytest.mark.parametrize("cells", [(20, 5, 10, 15), (46, 12, 40, 3700), (11, 3, 300, 200), (400, 20, 5, 30)])
def test_the_interval_is_that_of_the_delta_method(cells: tuple[int, int, int, int]) -> None:
    found = agreement(*drawn(cells))
    assert found.high - found.kappa == pytest.approx(1.959964 * slow_error(cells), rel=1e-4)
    assert found.kappa - found.low == pytest.approx(found.high - found.kappa)


def test_the_interval_is_near_that_of_a_bootstrap() -> None:
    cells = (60, 25, 15, 500)
    a, b = drawn(cells)
    generator = np.random.default_rng(0)
    rows = generator.integers(0, len(a), (600, len(a)))
    kappas = [cohen_kappa_score(a[row], b[row]) for row in rows]
    found = agreement(a, b)
    np.testing.assert_allclose([found.low, found.high], np.percentile(kappas, [2.5, 97.5]), atol=0.02)


@pytest.mark.parametrize(
    ("cells", "kappa", "reason"),
    [
        ((0, 0, 0, 0), math.nan, "no study to compare"),
        ((0, 0, 0, 50), math.nan, "neither has a positive study"),
        ((50, 0, 0, 0), math.nan, "neither has a negative study"),
        ((0, 20, 0, 100), 0.0, "interval not estimable: 0 positives in one of the two, below 10"),
        ((9, 0, 50, 1000), 0.253, "interval not estimable: 9 positives in one of the two, below 10"),
        ((1000, 3, 20, 4), 0.250, "interval not estimable: 7 negatives in one of the two, below 10"),
        ((40, 0, 0, 60), 1.0, "interval not estimable: all studies agree"),
    ],
)
def test_what_is_not_defined_says_why(cells: tuple[int, int, int, int], kappa: float, reason: str) -> None:
    found = agreement(*drawn(cells))
    assert found.kappa == pytest.approx(kappa, abs=1e-3, nan_ok=True)
    assert math.isnan(found.low) and math.isnan(found.high) and found.reason == reason


A: Rows = [
    ("s1", True, 1, None, 1),
    ("s2", True, 1, 1, None),
    ("s3", True, None, -1, None),
    ("s4", True, None, 1, None),
    ("s5", False, None, None, None),
    ("only a", True, 1, -1, None),
]
B: Rows = [
    ("s4", True, 0, 0, None),
    ("s3", True, None, 1, None),
    ("s2", True, 1, 1, 1),
    ("s1", True, None, 0, 1),
    ("s5", True, None, 1, None),
    ("only b", True, None, None, None),
    ("also b", True, None, None, None),
]


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    said = [("s4", "Edema", 1, 'vascular, "congestion"\nin both'), ("s4", "Edema", 1, "edema"), ("s2", "Edema", 1, "x")]
    write_labels(labelled(A, said), tmp_path / "mesh.csv")
    write_labels(labelled(B, [("s4", "Edema", 0, "no edema")]), tmp_path / "rules.csv")
    return tmp_path / "mesh.csv", tmp_path / "rules.csv"


def row_of(comparison: LabelComparison, label: str) -> dict[str, object]:
    return comparison.labels.filter(pl.col("label") == label).row(0, named=True)


def test_what_is_written_is_read_back(files: tuple[Path, Path]) -> None:
    read = read_labels(files[0], load_vocabulary("chexpert-14"))
    assert read.table.equals(labelled(A).table) and read.labels == LABELS
    assert read.evidence.schema == pl.Schema(EVIDENCE)
    assert read.evidence["because"][0] == 'vascular, "congestion"\nin both'


def test_studies_are_joined_and_counted(files: tuple[Path, Path]) -> None:
    found = compare_labels(*files)
    assert found.studies.row(0, named=True) == {
        "both": 5, "only_a": 1, "only_b": 2, "not_assessed_a": 1, "not_assessed_b": 0, "compared": 4,
    }  # fmt: skip
    edema = row_of(found, "Edema")
    assert [edema[f"a_{v}"] for v in ("1", "0", "-1", "blank")] == [2, 0, 1, 1]
    assert [edema[f"b_{v}"] for v in ("1", "0", "-1", "blank")] == [2, 2, 0, 0]
    assert [edema[name] for name in ("n", "both", "only_a", "only_b", "neither")] == [4, 1, 1, 1, 1]
    assert edema["kappa"] == pytest.approx(0.0)


def test_uncertain_follows_the_policy(files: tuple[Path, Path]) -> None:
    cells = {
        policy: tuple(row_of(compare_labels(*files, uncertain=policy), "Edema")[c] for c in ("n", "both", "only_b"))
        for policy in ("zeros", "ones", "ignore")
    }
    assert cells == {"zeros": (4, 1, 1), "ones": (4, 2, 0), "ignore": (3, 1, 0)}


def test_disagreements_carry_what_decided(files: tuple[Path, Path]) -> None:
    found = compare_labels(*files).disagreements
    assert found.sort("label", "study_id").rows() == [
        ("s3", "Edema", -1, 1, None, None),
        ("s4", "Edema", 1, 0, 'vascular, "congestion"\nin both | edema', "no edema"),
        ("s1", "No Finding", 1, None, None, None),
        ("s2", "Support Devices", None, 1, None, None),
    ]


def test_no_finding_beside_a_finding_is_counted_devices_aside(files: tuple[Path, Path]) -> None:
    assert compare_labels(*files).incoherent.rows() == [
        ("a", 1, 1, ["s2"]),
        ("a", -1, 1, ["only a"]),
        ("b", 1, 1, ["s2"]),
        ("b", -1, 0, []),
    ]


def test_a_label_of_one_file_alone_is_not_compared(tmp_path: Path, files: tuple[Path, Path]) -> None:
    other = tmp_path / "plain.csv"
    other.write_text("study_id,Edema,remark\ns2,1,a word\ns4,,\ns3,0.0,\n")
    found = compare_labels(files[0], other)
    assert found.studies["not_assessed_b"].item() == 1, "without a column `assessed`, a study of blanks"
    assert row_of(found, "Edema")["n"] == 2
    lacking = row_of(found, "No Finding")
    assert lacking["n"] is None and lacking["reason"] == "not assessed in plain.csv" and lacking["b_1"] is None


def test_tables_are_written(tmp_path: Path, files: tuple[Path, Path]) -> None:
    found = compare_labels(*files)
    paths = found.write(tmp_path / "out")
    assert [path.name for path in paths] == ["comparison.csv", "disagreements.csv"]
    again = pl.read_csv(paths[0])
    assert again["label"].to_list() == list(LABELS) and again["n"].to_list() == [4, 4, 4]
    assert "NaN" not in paths[0].read_text()
    assert pl.read_csv(paths[1]).height == found.disagreements.height


@pytest.mark.parametrize("terminal", [True, False])
def test_what_is_printed_fits_120_columns(files: tuple[Path, Path], terminal: bool) -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, color_system=None, width=120 if terminal else 80)
    compare_labels(*files).render(console)
    text = stream.getvalue()
    assert all(len(line) <= 120 for line in text.splitlines() if not line.startswith(("a = ", "b = ")))
    head = next(line for line in text.splitlines() if "kappa" in line)
    assert head.split()[:6] == ["label", "n", "a:", "1", "0", "-1"] and "interval" in head
    edema = next(line for line in text.splitlines() if line.strip().startswith("Edema "))
    assert edema.split()[1:13] == ["4", "2", "0", "1", "1", "2", "2", "0", "0", "0.50", "0.50", "0.00"]
    assert "a: No Finding stands beside a finding that is positive in 1 studies, such as s2." in text
    assert "no edema" in text and "-1 counts as not positive" in text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("study_id,Edema\ns1,yes\n", "row 1, column 'Edema': expected 1, 0, -1 or blank, found 'yes'"),
        ("study,Edema\ns1,1\n", "no column 'study_id'"),
        ("study_id,Oedema\ns1,1\n", "a column for none of the labels of chexpert-14"),
        ("study_id,assessed,Edema\ns1,perhaps,1\n", "column 'assessed': expected true or false, found 'perhaps'"),
        ("study_id,Edema\nother,1\n", "have no study in common: 's1' stands in the one, 'other' in the other"),
        ("study_id,Edema\ns1,1\ns1,0\n", "rows 1 and 2 give study 's1' different labels"),
    ],
)
def test_a_wrong_file_is_told_in_one_sentence(tmp_path: Path, files: tuple[Path, Path], text: str, words: str) -> None:
    wrong = tmp_path / "wrong.csv"
    wrong.write_text(text)
    with pytest.raises(DataError) as caught:
        compare_labels(files[0], wrong)
    assert words in str(caught.value) and "wrong.csv" in str(caught.value) and "\n" not in str(caught.value)


def test_evidence_that_is_no_evidence_is_refused(files: tuple[Path, Path]) -> None:
    beside = files[0].with_name("mesh.evidence.csv")
    beside.write_text("study,label\ns1,Edema\n")
    with pytest.raises(DataError, match=r"mesh.evidence.csv has no column 'study_id'"):
        compare_labels(*files)
    beside.unlink()
    assert compare_labels(*files).disagreements["because_a"].null_count() == 4
