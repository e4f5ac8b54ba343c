"""The public surface: few names, all of them there, and a light import."""

from __future__ import annotations

import subprocess
import sys

import pytest

import radlens


def test_at_most_fifteen_names_and_each_exists() -> None:
    assert len(radlens.__all__) <= 15
    assert radlens.__all__ == sorted(radlens.__all__, key=lambda name: (name[0].islower(), name))
    for name in radlens.__all__:
        assert getattr(radlens, name).__name__ == name


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Radiograph'"):
        _ = radlens.Radiograph


def test_importing_radlens_imports_no_torch() -> None:
    code = "import radlens, sys; radlens.StudySpec; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
