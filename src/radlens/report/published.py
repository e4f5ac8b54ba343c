"""Figures published for a data set, to stand beside a run on the same data set: one TOML file a paper."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

_FOLDER = Path(__file__).parent
Figures = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Published:
    """A paper's tables. overall: column -> setting -> value; label and domain: name -> setting -> F1."""

    source: str
    short: str
    dataset: str
    settings: tuple[str, ...]
    overall: Figures
    label: Figures
    domain: Figures

    def disagreement(self) -> str:
        """One sentence when the paper's macro F1 is not the mean of its own F1 per label; else empty."""
        means = {s: fmean(row.get(s, 0.0) for row in self.label.values()) for s in self.settings}
        stated = self.overall["macro_f1"]
        if all(abs(means[s] - stated[s]) < 0.001 for s in self.settings):
            return ""
        pairs = "; ".join(f"{s} {stated[s]:.3f} against {means[s]:.3f}" for s in self.settings)
        return f"The paper's macro F1 is not the mean of its own F1 per label: {pairs}. Read both with care."


def published_for(dataset: str) -> Published | None:
    """The paper whose data set this is, or None."""
    for path in sorted(_FOLDER.glob("paper_*.toml")):
        values = tomllib.loads(path.read_text("utf-8"))
        if values["dataset"] == dataset:
            return Published(**{**values, "settings": tuple(values["settings"])})
    return None
