"""Fixtures for all tests: the shared folder beside the project, and a cache of the test's own."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real radiographs and released configurations that lie beside the project; skips where they are missing."""
    if not (SHARED / "nih_dev" / "labels.csv").is_file():
        pytest.skip("the folder ../shared with real radiographs is not beside the project")
    return SHARED


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's cache."""
    monkeypatch.setenv("RADLENS_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
