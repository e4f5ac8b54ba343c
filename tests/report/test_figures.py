"""Figures for a publication: all written, the same bytes twice, none without data."""

from __future__ import annotations

import shutil
from pathlib import Path

from radlens.report.figures import write_figures


def test_figures_are_written_and_deterministic(whole_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole_run, run)
    paths = write_figures(run)
    assert [p.name for p in paths] == ["f1_by_label.svg", "f1_by_label.png", "embedding_view.svg", "embedding_view.png"]
    first = [p.read_bytes() for p in paths]
    assert [p.read_bytes() for p in write_figures(run)] == first


def test_a_run_without_tables_has_no_figures(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}", "utf-8")
    assert write_figures(tmp_path) == ()
