"""The study that `radlens demo` runs."""

from __future__ import annotations

from importlib.resources import as_file, files

from radlens.core.spec import StudySpec, read_study


def demo_study() -> StudySpec:
    """The embedded study: phantoms of a hospital that the embedded model was not trained on."""
    with as_file(files("radlens") / "demo.yaml") as path:
        return read_study(path)
