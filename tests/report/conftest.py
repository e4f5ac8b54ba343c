"""A run folder made once for all tests of the report; a test that changes it copies it first."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from radlens.report.contents import RunContents


def _module() -> ModuleType:
    path = Path(__file__).with_name("run_folder.py")
    spec = importlib.util.spec_from_file_location("report_run_folder", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def folders() -> ModuleType:
    """The module that builds run folders: `build`, `HOSTILE`, `SETTINGS`."""
    return _module()


@pytest.fixture(scope="session")
def whole_run(folders: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete run folder; read only."""
    return Path(folders.build(tmp_path_factory.mktemp("whole") / "run"))


@pytest.fixture(scope="session")
def build(folders: ModuleType) -> Callable[..., Path]:
    """Builds a run folder of one's own."""
    return folders.build  # type: ignore[no-any-return]


class _Tables(dict[str, tuple[dict[str, str], ...]]):
    """A table that nobody gave is empty, as one that a run did not write."""

    def __missing__(self, name: str) -> tuple[dict[str, str], ...]:
        return ()


@pytest.fixture
def contents(tmp_path: Path) -> Callable[..., RunContents]:
    """A run of given tables alone, each a list of rows; None is an empty cell, as in a file."""

    def made(definitions: tuple[dict[str, Any], ...] = (), **tables: list[dict[str, Any]]) -> RunContents:
        texts = {name: tuple({k: _text(v) for k, v in row.items()} for row in rows) for name, rows in tables.items()}
        return RunContents(tmp_path, {}, {}, {}, {}, _Tables(texts), definitions, {})

    return made


def _text(value: Any) -> str:
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
