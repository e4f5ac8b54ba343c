"""Find out whether a vision-language model can be trusted on your own radiographs."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from radlens.core.classifier import Classifier, Encoder, load_classifier
    from radlens.core.cohort import Cohort, make_cohort
    from radlens.core.errors import RadlensError
    from radlens.core.predictions import Predictions
    from radlens.core.regions import Annotations, Region, SaliencyMaps
    from radlens.core.spec import StudySpec, read_study
    from radlens.core.vocabulary import Vocabulary, load_vocabulary
    from radlens.study import run_study

__all__ = [
    "Annotations",
    "Classifier",
    "Cohort",
    "Encoder",
    "Predictions",
    "RadlensError",
    "Region",
    "SaliencyMaps",
    "StudySpec",
    "Vocabulary",
    "load_classifier",
    "load_vocabulary",
    "make_cohort",
    "read_study",
    "run_study",
]

_HOME = {
    "radlens.core.classifier": ("Classifier", "Encoder", "load_classifier"),
    "radlens.core.cohort": ("Cohort", "make_cohort"),
    "radlens.core.errors": ("RadlensError",),
    "radlens.core.predictions": ("Predictions",),
    "radlens.core.regions": ("Annotations", "Region", "SaliencyMaps"),
    "radlens.core.spec": ("StudySpec", "read_study"),
    "radlens.core.vocabulary": ("Vocabulary", "load_vocabulary"),
    "radlens.study": ("run_study",),
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for, so that `import radlens` stays light."""
    for module, names in _HOME.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module 'radlens' has no attribute {name!r}")
