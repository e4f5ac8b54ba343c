"""Intervals and differences of a study, and `radlens compare` over runs."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from rich.console import Console

from radlens.core.errors import DataError, StoreError
from radlens.core.spec import StudySpec, study_from_dict
from radlens.progress import Teller
from radlens.stages.compare import compare_runs, export, render
from radlens.study import run_study


def study(miniature: Path, name: str, settings: list[Any], **changes: Any) -> StudySpec:
    common = ("Cardiomegaly", "Lung Opacity", "Pleural Effusion")
    return study_from_dict(
        {
            "name": name,
            "cohort": {"dataset": "phantom", "images": 150, "size": 96, "prevalence": dict.fromkeys(common, 0.45)},
            "split": {"train": 0.4, "val": 0.2, "test": 0.4},
            "model": {"path": str(miniature)},
            "settings": settings,
            "evaluate": {"replicates": 200},
        }
        | changes,
        Path(),
    )


@pytest.fixture(scope="module")
def runs(miniature: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("compared")
    quiet = Teller(Console(quiet=True), quiet=True)
    made = {
        "one": study(miniature, "one", ["zero-shot", "linear-probe"]),
        "two": study(miniature, "two", [{"name": "linear-probe", "solver": "lbfgs"}]),
        "other": study(miniature, "other", ["zero-shot"], split={"train": 0.4, "val": 0.2, "test": 0.4, "seed": 9}),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RADLENS_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        for name, spec in made.items():
            run_study(spec, folder / name, quiet)
    return {name: folder / name for name in made}


def test_a_study_has_intervals_and_says_why_where_not(runs: dict[str, Path]) -> None:
    tables = runs["one"] / "tables"
    overall = pl.read_csv(tables / "overall.csv")
    intervals = pl.read_csv(tables / "intervals.csv")
    for row in overall.to_dicts():
        found = intervals.filter(setting=row["setting"], scope="overall", metric="macro_auroc").row(0, named=True)
        assert found["value"] == pytest.approx(row["macro_auroc"])
        assert found["low"] <= found["value"] <= found["high"]
    per_label = pl.read_csv(tables / "per_label.csv").filter(setting="linear-probe")
    for row in per_label.to_dicts():
        found = intervals.filter(setting="linear-probe", scope="label", name=row["label"], metric="f1").row(
            0, named=True
        )
        if row["test_positives"] < 10:
            assert found["low"] is None and found["reason"]
    differences = pl.read_csv(tables / "differences.csv")
    assert set(differences["a"]) == {"zero-shot"} and set(differences["b"]) == {"linear-probe"}
    assert {"power.csv", "subgroups.csv", "calibration.csv", "conformal.csv", "frequency.csv"} <= {
        path.name for path in tables.iterdir()
    }
    page = (runs["one"] / "report.html").read_text("utf-8")
    assert "How sure are these figures" in page and 'class="interval"' in page


def test_runs_side_by_side(runs: dict[str, Path], tmp_path: Path) -> None:
    found = compare_runs([runs["one"], runs["two"]], replicates=200)
    names = ["one/zero-shot", "one/linear-probe", "two/linear-probe"]
    assert list(found.first) == names
    for metric in ("macro_f1", "macro_auroc", "coverage_error"):
        assert sum(found.first[name][metric] for name in names) == pytest.approx(1)
    overall = pl.read_csv(runs["two"] / "tables" / "overall.csv").row(0, named=True)
    row = found.intervals.table.filter(setting="two/linear-probe", scope="overall", metric="macro_f1").row(
        0, named=True
    )
    assert row["value"] == pytest.approx(overall["macro_f1"])
    console = Console(record=True, width=120, file=io.StringIO())
    render(found, console)
    text = console.export_text()
    assert "macro auroc" in text and "first in" in text
    written = {path.name: path.read_text("utf-8") for path in export(found, tmp_path / "tables")}
    assert written["overall.md"].startswith("| figure | one/zero-shot")
    assert "\\toprule" in written["overall.tex"]
    back = pl.read_csv(tmp_path / "tables" / "overall.csv")
    np.testing.assert_allclose(back.filter(figure="macro f1")["two/linear-probe"][0], overall["macro_f1"])


def test_other_test_images_are_refused(runs: dict[str, Path]) -> None:
    with pytest.raises(DataError, match=r"were tested on different images: \d+ of \d+ are in the first alone"):
        compare_runs([runs["one"], runs["other"]])


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is not a finished run"):
        compare_runs([tmp_path])
