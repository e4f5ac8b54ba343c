"""Distance from training, seeds together, bands with intervals, and power: what the section on doubt shows."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from radlens.report.colours import setting_colours
from radlens.report.columns import columns
from radlens.report.contents import RunContents, read_run
from radlens.report.doubt import doubt
from radlens.report.page import render
from radlens.report.worth import worth


@pytest.fixture
def run(build: Callable[..., Path], tmp_path: Path) -> Path:
    folder = build(tmp_path / "run", saliency=False, localization=False)
    distance = {"setting": "zero-shot", "method": "knn", "farther": 0.6, "farther_low": 0.55, "farther_high": 0.66}
    distance |= {"beyond": 0.074, "beyond_low": None, "beyond_high": None, "reason": "not estimable: <few>"}
    distance |= {"wrong": 30, "right": 90, "error_auroc": 0.7, "error_auroc_low": 0.6, "error_auroc_high": 0.8}
    pl.DataFrame([distance | {"error_reason": None}]).write_csv(folder / "tables" / "distance_to_train.csv")
    figure = {"setting": "linear-probe", "members": 3, "metric": "macro_auroc", "single_mean": 0.71}
    figure |= {"single_least": 0.7, "single_greatest": 0.72, "ensemble": 0.713, "low": 0.6, "high": 0.8}
    figure |= {"gain": 0.003, "gain_low": -0.00004, "gain_high": 0.006, "reason": None}
    spread = {"setting": "linear-probe", "members": 3, "metric": "disagreement", "ensemble": 0.02, "low": 0.01}
    pl.DataFrame([figure, spread | {"high": 0.03}]).write_csv(folder / "tables" / "seed_ensemble.csv")
    return folder


def tables_of(run: Path) -> tuple[RunContents, dict]:  # type: ignore[type-arg]
    contents = read_run(run)
    return contents, columns(contents.definitions)


def test_distances_have_intervals_or_reasons(run: Path) -> None:
    (row,) = doubt(*tables_of(run)).distances.rows
    method, farther, beyond, wrong, errors = row.cells
    assert (row.name, method.text, wrong.text) == ("zero-shot", "nearest", "30 of 120")
    assert (farther.text, farther.interval, errors.interval) == ("0.600", "0.550–0.660", "0.600–0.800")
    assert (beyond.text, beyond.kind, beyond.title) == ("7.4%", "few", "not estimable: <few>") and not errors.title


def test_the_mean_of_seeds_stands_beside_them_with_its_gain(run: Path) -> None:
    heading, auroc, spread = doubt(*tables_of(run)).seeds.rows
    assert heading.name == "linear-probe, 3 seeds" and not heading.cells
    single, between, mean, gain = auroc.cells
    assert (auroc.name, auroc.arrow, single.text, between.text) == ("Macro AUROC", "↑", "0.710", "0.700 to 0.720")
    assert (mean.interval, gain.text, gain.interval) == ("0.600–0.800", "+0.0030", "-0.0000 to +0.0060")
    assert spread.name == "Disagreement between seeds" and [c.text for c in spread.cells] == ["", "", "0.020", ""]


def test_the_section_is_shown_without_intervals_too(run: Path) -> None:
    page = render(read_run(run))
    part = page.split('<section id="worth">')[1].split("</section>")[0]
    assert "Are the test images like those of training" in part and "Several seeds together" in part
    assert "not estimable: &lt;few&gt;" in part and "<table" in part
    assert 'href="#worth"' in page and "What each label's test positives can show" not in part


def test_bands_show_their_intervals(run: Path) -> None:
    band = {"setting": "zero-shot", "band": "tail", "train_positives": "< 20", "labels": 5}
    band |= {"f1": 0.2, "f1_labels_counted": 4, "auroc": 0.6, "auroc_labels_counted": 3}
    pl.DataFrame([band]).write_csv(run / "tables" / "frequency.csv")
    contents, known = tables_of(run)
    colours = setting_colours(contents.settings)
    (row,) = worth(contents, known, colours).bands.rows
    assert (row.cells[1].text, row.cells[1].kind, row.cells[1].title) == ("0.200", "", "mean over 4 labels")
    ends = {"setting": "zero-shot", "scope": "band", "name": "tail", "value": 0.2}
    told = [
        ends | {"metric": "f1", "low": 0.1, "high": 0.35, "reason": None},
        ends | {"metric": "auroc", "low": None, "high": None, "reason": "not estimable: 4 positives in 5 labels"},
    ]
    pl.DataFrame(told).write_csv(run / "tables" / "intervals.csv")
    (row,) = worth(read_run(run), known, colours).bands.rows
    f1, auroc = row.cells[1], row.cells[1 + len(contents.settings)]
    assert (f1.text, f1.interval, f1.kind) == ("0.200", "0.100 to 0.350", "")
    assert auroc.kind == "few" and auroc.title == "mean over 3 labels; not estimable: 4 positives in 5 labels"


def test_power_is_told_for_each_setting(run: Path) -> None:
    own = {"setting": "zero-shot", "label": "Edema", "test_positives": 30, "rates": "validation", "f1_low": 0.22}
    own |= {"f1_high": 0.744, "difference": 0.3, "statement": "30 test positives: the <whole> sentence"}
    rest = own | {"setting": "fine-tune", "rates": "assumed", "difference": None}
    pl.DataFrame([own, rest]).write_csv(run / "tables" / "power.csv")
    contents, known = tables_of(run)
    (row,) = worth(contents, known, setting_colours(contents.settings)).power.rows
    cells = dict(zip(("n", *contents.settings), row.cells, strict=True))
    assert cells["n"].text == "30" and cells["zero-shot"].text == ".22–.74, sees .30"
    assert cells["zero-shot"].title == "30 test positives: the <whole> sentence" and cells["zero-shot"].kind == ""
    assert (cells["fine-tune"].text, cells["fine-tune"].kind) == (".22–.74, sees none *", "few")
    assert cells["linear-probe"].text == "—"
    assert re.search("the &lt;whole&gt; sentence", render(contents))
