"""Strengths of a penalty, chosen on validation: one for each label that has enough positives, one for the rest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from radlens.core.parts import Floats

LEAST_POSITIVES = 10
"""Validation positives that a label needs to choose for itself."""
Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Choice:
    """index (L,) into the strengths tried; by (L,): `own`, `shared` or `fallback`."""

    index: npt.NDArray[np.int64]
    by: tuple[str, ...]

    def card(self, names: Sequence[str], strengths: Sequence[float]) -> dict[str, dict[str, Any]]:
        """Label -> the strength it got and what it was chosen by; an infinite one as a string, which JSON can hold."""
        return {
            name: {"strength": told(strengths[i]), "chosen_by": by}
            for name, i, by in zip(names, self.index.tolist(), self.by, strict=True)
        }


def told(strength: float) -> float | str:
    """A strength as JSON holds it."""
    return strength if math.isfinite(strength) else "infinite"


def label_losses(logits: Floats | Doubles, targets: Floats) -> Doubles:
    """(L,): sum of binary cross-entropy over each label's assessed entries; (N, L) both."""
    z = logits.astype(np.float64)
    losses = np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z))) - np.nan_to_num(targets) * z
    return np.asarray(losses.sum(axis=0, where=~np.isnan(targets)))


def choose(losses: Sequence[Doubles], targets: Floats, fallback: int) -> Choice:
    """The strength of least validation loss for every label.

    losses: for each strength `label_losses` on validation. targets: validation's (V, L). A label with 10 validation
    positives or more takes its own least; the others share the one of the least sum over all labels. Without any
    validation positive, or where no strength has a finite loss, `fallback` holds for all. Of equals the first is taken,
    so that stronger ones should stand first.
    """
    table = np.where(np.isfinite(losses), losses, np.inf)
    positives = (targets == 1).sum(axis=0)
    sums = table.sum(axis=1)
    labels = len(positives)
    if not positives.any() or not np.isfinite(sums).any():
        return Choice(np.full(labels, fallback), ("fallback",) * labels)
    own = positives >= LEAST_POSITIVES
    index = np.where(own, table.argmin(axis=0), sums.argmin())
    return Choice(index, tuple("own" if each else "shared" for each in own))
