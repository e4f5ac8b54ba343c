"""Head, medium and tail: means of a label metric over labels that were common, less common and rare in training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from radlens.core.errors import SpecError
from radlens.core.undefined import mean_of_defined

CUTS = (20, 100)
_THREE = ("tail", "medium", "head")


def by_frequency(
    values: Mapping[str, npt.NDArray[np.float64]], train_positives: npt.NDArray[np.int64], cuts: Sequence[int] = CUTS
) -> pl.DataFrame:
    """Means of label metrics over bands of training positives, rarest first: a row a band.

    values: column -> (L,), NaN where undefined (such as `score(inputs, "label")` gives). train_positives (L,).
    cuts: ascending; (20, 100) gives tail < 20, medium 20-100, head > 100, other than two cuts bands named by their
    numbers alone. Columns: band, train_positives (in words), labels, then for each metric its mean over the band's
    labels with a value (NaN where there is none) and `<metric>_labels_counted`. Cuts out of order raise `SpecError`.
    Macro F1 by bands: Holste et al., Medical Image Analysis 2024 (long-tailed chest radiographs) cut likewise.
    """
    if not cuts or list(cuts) != sorted(set(cuts)) or cuts[0] < 1:
        raise SpecError(f"expected cuts of training positives in ascending order from 1, but found {list(cuts)}.")
    # a count equal to the last cut belongs to the band below it, equal to any other to the band above
    edges = np.array([*cuts[:-1], cuts[-1] + 1], np.int64)
    band = np.searchsorted(edges, np.asarray(train_positives), side="right")
    names = _band_names(cuts)
    rows = []
    for index, words in enumerate(names):
        inside = band == index
        row: dict[str, str | int | float] = {
            "band": _THREE[index] if len(names) == len(_THREE) else words,
            "train_positives": words,
            "labels": int(inside.sum()),
        }
        for column, value in values.items():
            row[column] = float(mean_of_defined(value[inside]))
            row[f"{column}_labels_counted"] = int((~np.isnan(value[inside])).sum())
        rows.append(row)
    return pl.DataFrame(rows)


def _band_names(cuts: Sequence[int]) -> list[str]:
    """`< 20`, `20-100`, `> 100`; with one cut, `<= 20` and `> 20`."""
    if len(cuts) == 1:
        return [f"<= {cuts[0]}", f"> {cuts[0]}"]
    tops = [*(cut - 1 for cut in cuts[1:-1]), cuts[-1]]
    middle = [f"{low}-{high}" for low, high in zip(cuts[:-1], tops, strict=True)]
    return [f"< {cuts[0]}", *middle, f"> {cuts[-1]}"]
