"""What a cache model remembers: which training images, and what each says of each label."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from radlens.core.parts import Floats

CAUTION = 5
"""A label of which m cached images are of its rarer side speaks m / (m + 5) as loud as one of many."""


def choose_rows(targets: Floats, per_label: int, generator: np.random.Generator) -> npt.NDArray[np.int64]:
    """Rows to cache, ascending: up to `per_label` positives and as many negatives of every label.

    targets (N, L), NaN = not assessed. The rarest kind (label and side) draws first and images already drawn count for
    every kind they are of, so that the cache holds at most 2 x L x per_label images, and mostly far fewer.
    """
    kinds = [targets == 1, targets == 0]
    sides = sorted(
        (int(kind[:, label].sum()), side, label) for side, kind in enumerate(kinds) for label in range(kind.shape[1])
    )
    chosen = np.zeros(len(targets), bool)
    for _, side, label in sides:
        of_kind = kinds[side][:, label]
        missing = per_label - int((of_kind & chosen).sum())
        if missing > 0:
            free = np.flatnonzero(of_kind & ~chosen)
            chosen[generator.permutation(free)[:missing]] = True
    return np.flatnonzero(chosen)


def cache_values(targets: Floats) -> Floats:
    """(M, L): what the cached images say of each label; targets (M, L), NaN = not assessed.

    +1/n for a label's n positives, -1/m for its m negatives, 0 for null, all x r / (r + 5) with r = min(n, m). So a
    label's cache logit is the mean affinity to its positives minus that to its negatives: the target less its
    prevalence, divided by its variance and count. An image equally near to all says 0 of every label, whatever its
    prevalence; a label of one side only stays silent, one of few images speaks softly.
    """
    positive, negative = targets == 1, targets == 0
    counts = [side.sum(axis=0) for side in (positive, negative)]
    rarer = np.minimum(*counts)
    trust = rarer / (rarer + CAUTION)
    plus, minus = (trust / np.maximum(count, 1) for count in counts)
    values: Floats = (positive * plus - negative * minus).astype(np.float32)
    return values
