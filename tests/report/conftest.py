"""A run folder made once for all tests of the report; a test that changes it copies it first."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


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
