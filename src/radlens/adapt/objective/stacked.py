"""The sigmoid forms of many heads' losses as tensors, for S seeds of H heads each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from radlens.adapt.objective.loss import Loss
from radlens.adapt.objective.sigmoid_form import Doubles

Pair = tuple[Tensor, Tensor]
"""What holds for target 0, and what target 1 adds to it."""


class StackedForms:
    """slope, offset, factor: pairs of float32 (S, 1, H * L). focus: gamma and clip, pairs of (S, 1, F * L), or None.

    losses: (S, H); F of each seed's heads focus, and they stand last. gated: some m may be 0 under an exponent below 1,
    where its power is not small by itself.
    """

    focus: tuple[Pair, Pair] | None

    def __init__(self, losses: Sequence[Sequence[Loss]], labels: int) -> None:
        forms = [[loss.sigmoid_form(labels) for loss in of_seed] for of_seed in losses]
        self.slope = _pair([[form.slope for form in of_seed] for of_seed in forms])
        self.offset = _pair([[form.offset for form in of_seed] for of_seed in forms])
        self.factor = _pair([[form.factor for form in of_seed] for of_seed in forms])
        wide = np.ones((1, labels))
        gammas = [[f.gamma[:, None] * wide for f in of_seed if f.gamma is not None] for of_seed in forms]
        clips = [[f.clip[:, None] * wide for f in of_seed if f.clip is not None] for of_seed in forms]
        self.focusing = len(gammas[0])
        self.gated = any(
            bool((f.gamma[f.clip > 0] < 1).any())
            for of_seed in forms
            for f in of_seed
            if f.gamma is not None and f.clip is not None
        )
        self.focus = (_pair(gammas), _pair(clips)) if self.focusing else None


def _pair(tables: Sequence[Sequence[Doubles]]) -> Pair:
    """(S, H) tables of (2, L)."""
    made = torch.from_numpy(np.array(tables, dtype=np.float32))
    base = made[:, :, 0].flatten(1)[:, None]
    return base, made[:, :, 1].flatten(1)[:, None] - base
