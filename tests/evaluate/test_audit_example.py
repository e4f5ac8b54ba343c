"""The shipped example: the BiomedCLIP paper's tables and text, each finding checked by hand."""

from __future__ import annotations

import io
import re
import tomllib
from pathlib import Path

import pytest
from rich.console import Console

import radlens.report
from radlens.evaluate.audit.findings import findings_table
from radlens.evaluate.audit.reading import EXAMPLE, read_published
from radlens.evaluate.audit.rules import audit, without_rule
from radlens.stages.audit import audit_file

TABLES = read_published(EXAMPLE)
FINDINGS = audit(TABLES)

# (rank, rule, figures that the sentence must hold): worked out by hand from the paper
BY_HAND = [
    ("contradiction", "macro mean", ["zs 0.105 against 0.140", "ft 0.235 against 0.171", "lp 0.183 against 0.200"]),
    ("contradiction", "winner flips", ["ft (0.235", "lp (0.200 against 0.171"]),
    ("contradiction", "two values", ["0.143 in Table 1", "4.3% in Section 5.1 and Section 6"]),
    ("contradiction", "one-label domain", ["Device in lp is 0.076", "Support Devices, has 0.100"]),
    ("contradiction", "text against table", ["coverage error of lp", "3.077 against 7.70"]),
    ("contradiction", "text against table", ["F1 of lp", "6 of 14", "Lung Opacity 0.177 against 0.314"]),
    ("contradiction", "text against table", ["F1 of lp", "2 of 4", "Device 0.076 against 0.093"]),
    ("contradiction", "text against table", ["F1 of ft", "10 of 14"]),
    ("contradiction", "text against table", ["F1 of ft", "3 of 4", "Pulmonary 0.387 against 0.453"]),
    ("contradiction", "text against table", ["exact match of ft", "0.134 against 0.143 of lp"]),
    ("contradiction", "text against table", ["inter-class distance of ft", "22.754 against 31.890"]),
    ("suspicious", "ratio", ["zs is 1.506", "31.890 / 21.160 is 1.5071"]),
    ("suspicious", "text against table", ["inter-class distance of lp", "31.894 against 31.890"]),
    ("suspicious", "below always positive", ["No Finding 0.749 (that of p = 0.599) against 0.755 (p = 0.607)"]),
    ("suspicious", "ratio of noise", ["1.506 (zs)", "1.41 to 1.45", "zs and lp"]),
    ("note", "two values", ["21.160 in Table 1", "≈21.17"]),
    ("note", "fits always positive", ["No Finding 0.749 needs p = 0.599", "Pulmonary needs 0.293", "stated 0.130"]),
    ("note", "no hit", ["ft in 7 of 14", "lp in 1 of 14 (Pleural Other)"]),
    ("note", "errors for each hit", ["Pleural Other in ft 0.005 about 398", "Edema in lp 0.010 about 198"]),
    ("note", "few positives", ["Edema about 9.8", "Consolidation about 6.2", "Pneumothorax about 4.0"]),
    ("note", "difference too small", ["3 of 3", "No Finding 0.803 (ft) and 0.788 (lp)"]),
    ("note", "difference too small", ["exact match 0.143 of lp leads 0.134 of ft by 0.009", "0.025"]),
]


def test_finds_what_was_found_by_hand_and_nothing_else() -> None:
    assert [(f.rank, f.rule) for f in FINDINGS] == [(rank, rule) for rank, rule, _ in BY_HAND]
    for finding, (_, _, figures) in zip(FINDINGS, BY_HAND, strict=True):
        for figure in figures:
            assert figure in finding.text, (finding.text, figure)


def test_every_label_said_to_lose_does_so() -> None:
    f1 = {(e.name, e.setting): e.printed.value for e in TABLES.entries if e.metric == "f1" and e.table != "text"}
    labels = TABLES.labels
    assert sum(f1[x, "lp"] < f1[x, "zs"] for x in labels) == 6
    assert sum(f1[x, "ft"] < max(f1[x, "zs"], f1[x, "lp"]) for x in labels) == 10
    assert sum(f1[x, "ft"] == 0 for x in labels) == 7


def test_figures_stand_in_the_paper(shared: Path) -> None:
    paper = (shared / "paper" / "paper.txt").read_text("utf-8")
    figures = {figure.rstrip(".,") for figure in re.findall(r"\d[\d,]*\.?\d*", paper)}
    for entry in TABLES.entries:
        if entry.number is None or entry.metric == "test_fraction":
            continue
        digits = entry.printed.text.strip("≈ %")
        assert digits in figures or entry.printed.value == 0, entry
    rows = [line.split("\t") for line in paper.splitlines() if line.count("\t") >= 3]
    in_tables = sorted(cell for row in rows for cell in row[1:] if re.fullmatch(r"[\d.]+", cell))
    assert in_tables == sorted(e.printed.text for e in TABLES.entries if e.number and e.table.startswith("Table"))


def test_agrees_with_the_figures_that_the_report_shows() -> None:
    path = Path(str(radlens.report.__file__)).parent / "paper_iu_xray.toml"
    other = tomllib.loads(path.read_text("utf-8"))
    short = {"zero-shot": "zs", "fine-tune": "ft", "linear-probe": "lp"}
    compared = 0
    for kind in ("overall", "label", "domain"):
        for row, values in other[kind].items():
            for setting, value in values.items():
                name, metric = ("", row) if kind == "overall" else (row, "f1")
                entry = TABLES.find(kind, name, short[setting], metric)
                if metric != "train_seconds":
                    assert entry is not None and entry.printed.value == pytest.approx(value), (kind, row, setting)
                    compared += 1
    assert compared == 21 + 42 + 12


def test_prints_within_100_columns_in_a_pipe_and_on_a_terminal() -> None:
    for terminal in (False, True):
        out = io.StringIO()
        console = Console(file=out, force_terminal=terminal, width=140 if terminal else 80, color_system=None)
        found = audit_file(None, console)
        lines = out.getvalue().splitlines()
        assert found == FINDINGS
        assert max(map(len, lines)) <= 100
        assert "Contradictions: 11  (the figures cannot all be right, or refute what is said of them)" in lines
        assert sum(bool(re.match(r"\s?\d+  [A-Z]", line)) for line in lines) == len(FINDINGS)


def test_findings_as_a_table_and_nothing_left_without_a_rule() -> None:
    table = findings_table(FINDINGS)
    assert table.columns == ["rank", "rule", "finding", "places"]
    assert table["places"][0] == "Table 1; Table 2"
    assert without_rule(TABLES) == []
