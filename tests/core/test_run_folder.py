"""A run folder runs a stage once, cleans up after earlier studies, and touches nothing outside itself."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from radlens.core.errors import StoreError
from radlens.core.run_folder import RunFolder


def write(path: Path, text: str) -> Iterable[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return (path,)


def test_a_stage_runs_again_only_when_its_key_or_its_files_changed(tmp_path: Path) -> None:
    file = tmp_path / "run" / "tables" / "a.csv"

    def run(key: str) -> bool:
        folder = RunFolder(tmp_path / "run")
        stage = folder.stage("a", key, lambda: write(file, key))
        folder.finish()
        return stage.cached

    assert not run("one")
    assert run("one")
    file.write_text("edited by hand")
    assert not run("one") and file.read_text() == "one"
    assert not run("two") and file.read_text() == "two"
    file.unlink()
    assert not run("two")


def test_a_stage_that_was_not_reached_stays_on_record(tmp_path: Path) -> None:
    first = RunFolder(tmp_path)
    first.stage("a", "1", lambda: write(tmp_path / "a", "a"))
    first.stage("b", "1", lambda: write(tmp_path / "b", "b"))
    first.finish()
    killed = RunFolder(tmp_path)
    killed.stage("a", "2", lambda: write(tmp_path / "a", "aa"))
    again = RunFolder(tmp_path)
    assert again.stage("a", "2", lambda: pytest.fail("made twice")).cached
    assert again.stage("b", "1", lambda: pytest.fail("made twice")).cached


def test_leftovers_go_with_their_empty_folders_and_a_users_own_files_stay(tmp_path: Path) -> None:
    first = RunFolder(tmp_path)
    first.stage("old", "1", lambda: write(tmp_path / "classifiers" / "old" / "card.json", "{}"))
    first.finish()
    (tmp_path / "notes").mkdir()
    (tmp_path / "mine.txt").write_text("mine")
    second = RunFolder(tmp_path)
    second.stage("new", "1", lambda: write(tmp_path / "classifiers" / "new" / "card.json", "{}"))
    second.remove_leftovers(keep="report.html")
    second.finish()
    assert not (tmp_path / "classifiers" / "old").exists()
    assert (tmp_path / "classifiers" / "new" / "card.json").is_file()
    assert (tmp_path / "mine.txt").is_file() and (tmp_path / "notes").is_dir()


def test_a_run_json_from_elsewhere_deletes_nothing_outside(tmp_path: Path) -> None:
    victim = tmp_path / "victim.txt"
    victim.write_text("precious")
    stage = {"key": "k", "seconds": 0, "made_in_seconds": 0, "cached": False, "outputs": {"../victim.txt": "d"}}
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text(json.dumps({"stages": {"evil": stage}}))
    run = RunFolder(tmp_path / "run")
    run.remove_leftovers(keep="report.html")
    run.finish()
    assert victim.read_text() == "precious"


def test_a_broken_run_json_is_as_good_as_none(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"stages": [')
    run = RunFolder(tmp_path)
    assert not run.stage("a", "1", lambda: write(tmp_path / "a", "a")).cached


def test_hidden_files_do_not_make_a_folder_anothers(tmp_path: Path) -> None:
    (tmp_path / ".DS_Store").write_text("")
    RunFolder(tmp_path).finish()
    assert (tmp_path / "run.json").is_file()


def test_a_file_in_the_folders_place_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(StoreError, match="a file stands where a folder is needed"):
        RunFolder(tmp_path / "taken" / "run")
