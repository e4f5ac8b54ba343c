"""Fixtures for all tests: the shared folder beside the project, and a cache of the test's own."""

from __future__ import annotations

import importlib.util
import runpy
from pathlib import Path
from typing import Any

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real radiographs and released configurations that lie beside the project; skips where they are missing."""
    if not (SHARED / "nih_dev" / "labels.csv").is_file():
        pytest.skip("the folder ../shared with real radiographs is not beside the project")
    return SHARED


@pytest.fixture(scope="session")
def torchxrayvision_data() -> Path:
    """Real label tables and the reports of IU-Xray, inside the package torchxrayvision; skips where it is missing."""
    found = importlib.util.find_spec("torchxrayvision")
    folder = Path(found.origin).parent / "data" if found is not None and found.origin is not None else Path()
    if not (folder / "NLMCXR_reports.tgz").is_file():
        pytest.skip("the package torchxrayvision with its label tables is not installed")
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's cache."""
    monkeypatch.setenv("RADLENS_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="session")
def miniature_parts() -> dict[str, Any]:
    """The names of tests/miniature.py."""
    return runpy.run_path(str(Path(__file__).parent / "miniature.py"))


@pytest.fixture(scope="session")
def miniature(miniature_parts: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a miniature BiomedCLIP (random weights, 160 pixels, 10 x 10 grid, 6 blocks, 24 dimensions)."""
    folder: Path = miniature_parts["build_miniature"](tmp_path_factory.mktemp("models") / "miniature")
    return folder
