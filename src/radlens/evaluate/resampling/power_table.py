"""What each label's test positives can show of each setting, at the errors that the setting makes on validation."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from radlens.evaluate.resampling.power import Power, in_words, power_of_f1, short_share

Array = npt.NDArray[np.float64]
Targets = npt.NDArray[np.float32]
LEAST = 10
"""Validation images of either kind from which on a setting's own rates are taken."""
ASSUMED_RECALL = 0.5
SCHEMA: dict[str, Any] = {
    "setting": pl.String,
    "label": pl.String,
    **dict.fromkeys(("test_positives", "test_negatives", "val_positives", "val_negatives"), pl.Int64),
    "rates": pl.String,
    **dict.fromkeys(("recall", "false_positive_rate", "f1", "f1_low", "f1_high", "difference"), pl.Float64),
    "statement": pl.String,
}


def power_table(
    setting: str, labels: Sequence[str], test: Targets, val: Targets, called: npt.NDArray[np.int8]
) -> pl.DataFrame:
    """A row a label, with the columns of `SCHEMA`; figures as in `power_of_f1`, NaN without test positives.

    test (N, L), val (V, L): targets. called (V, L): the setting's decisions on validation, 1 or 0. rates: `validation`
    where recall and false positive rate are the setting's own there (0 and 1, which leave no room for chance, are moved
    in by half an image), which takes 10 positives and 10 negatives; else `assumed`: recall .5, and as many images
    called positive as are. statement: the sentence, with the rates it holds for.
    """
    rows = []
    for k, label in enumerate(labels):
        counts = [int((targets[:, k] == kind).sum()) for targets in (test, val) for kind in (1, 0)]
        known = min(counts[2:]) >= LEAST
        rates: tuple[float, float | None] = ASSUMED_RECALL, None
        if known:
            rates = _rate(called[val[:, k] == 1, k]), _rate(called[val[:, k] == 0, k])
        found = _power(counts[0], counts[1], *rates)
        row: dict[str, Any] = {"setting": setting, "label": label}
        row |= dict(zip(("test_positives", "test_negatives", "val_positives", "val_negatives"), counts, strict=True))
        row |= {"rates": "validation" if known else "assumed", "statement": in_words(found)}
        if found is not None:
            row |= {"recall": found.recall, "false_positive_rate": found.false_positive_rate, "f1": found.f1}
            row |= {"f1_low": found.low, "f1_high": found.high, "difference": found.difference}
            row["statement"] += f" ({_basis(found, known, counts[2:])})"
        rows.append({column: float("nan") if kind == pl.Float64 else None for column, kind in SCHEMA.items()} | row)
    return pl.DataFrame(rows, schema=SCHEMA)


def _rate(called: npt.NDArray[np.int8]) -> float:
    """Share called, at least half an image away from 0 and 1."""
    half = 0.5 / len(called)
    return float(np.clip((called == 1).mean(), half, 1 - half))


def _basis(found: Power, known: bool, counts: Sequence[int]) -> str:
    recall = short_share(found.recall)
    if known:
        return f"at its validation recall {recall} and false positive rate {short_share(found.false_positive_rate, 3)}"
    return f"at an assumed recall of {recall}: validation has {counts[0]} positives and {counts[1]} negatives"


@lru_cache(maxsize=4096)
def _power(positives: int, negatives: int, recall: float, rate: float | None) -> Power | None:
    # labels of several settings ask for the same assumed rates
    return power_of_f1(positives, negatives, recall=recall, false_positive_rate=rate)
