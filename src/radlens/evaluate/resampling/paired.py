"""Differences between settings on the same patients: interval, permutation p, and Holm over labels."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt
import polars as pl

from radlens.core.errors import DataError, SpecError
from radlens.core.holm import holm
from radlens.core.vocabulary import Vocabulary
from radlens.evaluate.resampling.bootstrap import Intervals, Method, bootstrap, ends
from radlens.evaluate.resampling.estimable import few, reason_without_interval
from radlens.evaluate.resampling.setting_scores import SettingScores, patients_of
from radlens.evaluate.resampling.swaps import permutation_p, swapped_differences

Array = npt.NDArray[np.float64]
OF_TARGETS = (*("prevalence", "f1_always_positive", "macro_f1_always_positive", "macro_average_precision_baseline"),)
"""Metrics of the targets alone: equal for settings with equal targets."""
NOT_COMPARED = ("f1_oracle", "macro_f1_oracle")
_COLUMNS = ("a", "b", "scope", "name", "metric", "difference", "low", "high", "p", "p_holm", "reason")


def paired_differences(
    results: Sequence[SettingScores],
    vocabulary: Vocabulary,
    *,
    replicates: int = 1000,
    permutations: int = 1000,
    seed: int = 0,
    method: Method = "bca",
    known: Intervals | None = None,
) -> pl.DataFrame:
    """A row for each pair of settings and each number: a, b, scope, name, metric, difference (a minus b), low, high
    (95 %), p, p_holm, reason.

    The interval is from resamples that both settings share: those of `known` (what `bootstrap` gave for the same
    results), else drawn anew. p is from `permutations` (at least 1,000, or 0 for none) swaps of the two settings'
    predictions patient by patient; p_holm corrects it over the labels of one pair and metric (over the domains for
    domains; an overall number is alone). Labels with fewer than 10 positive patients are not tested and do not count in
    Holm's correction. With 0 permutations the settings may differ in their targets (subgroups, as nulls elsewhere).
    `reason` says why there is no interval. Raises `DataError` for settings that cannot be compared.
    """
    if permutations != 0 and permutations < 1000:
        raise SpecError(f"expected at least 1000 permutations, or 0 for none, found {permutations}.")
    patients = patients_of(results, vocabulary.names)
    if known is None:
        known = bootstrap(results, vocabulary, replicates=replicates, seed=seed, method=method)
    missing = [result.setting for result in results if result.setting not in known.values]
    if missing:
        raise DataError(f"expected intervals of setting {missing[0]!r}, found those of {', '.join(known.values)}.")
    tables = []
    for a, b in combinations(results, 2):
        equal = np.array_equal(a.inputs.targets, b.inputs.targets, equal_nan=True)
        permuted = None
        if permutations:
            if not equal:
                raise DataError(
                    f"settings {a.setting!r} and {b.setting!r} differ in their targets, so that predictions cannot "
                    "change places; compare them with 0 permutations."
                )
            permuted = swapped_differences(a.inputs, b.inputs, vocabulary, patients, permutations, seed)
        tables.append(_pair(a.setting, b.setting, known, permuted, NOT_COMPARED + (OF_TARGETS if equal else ())))
    return pl.concat(tables) if tables else _frame([])


def _pair(a: str, b: str, known: Intervals, permuted: Array | None, left_aside: Sequence[str]) -> pl.DataFrame:
    differences = known.values[a] - known.values[b]
    replicates = known.replicates[a] - known.replicates[b]
    left_out = known.left_out[a] - known.left_out[b] if known.method == "bca" else None
    low, high = ends(known.method, differences, replicates, left_out)
    p = np.full(len(differences), np.nan) if permuted is None else permutation_p(differences, permuted)
    rows = []
    for m, quantity in enumerate(known.quantities):
        if quantity.metric in left_aside:
            continue
        behind = [known.evidence[x][quantity.scope, quantity.name] for x in (a, b)]
        values = [float(known.values[x][m]) for x in (a, b)]
        why = [few(quantity, value, of) for value, of in zip(values, behind, strict=True)]
        too_few = why[0] or why[1]
        reason = too_few or reason_without_interval(quantity, values[0], behind[0], replicates[:, m])
        ended = (np.nan, np.nan) if reason else (float(low[m]), float(high[m]))
        tested = np.nan if too_few else float(p[m])
        rows.append(
            (a, b, quantity.scope, quantity.name, quantity.metric, float(differences[m]), *ended, tested, reason)
        )
    return _frame(rows)


def _frame(rows: Sequence[tuple[str | float | None, ...]]) -> pl.DataFrame:
    types = [pl.String] * 5 + [pl.Float64] * 4 + [pl.String]
    columns = [name for name in _COLUMNS if name != "p_holm"]
    table = pl.DataFrame(rows, schema=list(zip(columns, types, strict=True)), orient="row")
    corrected = pl.col("p").map_batches(lambda p: pl.Series(holm(p.to_numpy())), return_dtype=pl.Float64)
    return table.with_columns(corrected.over("scope", "metric").alias("p_holm")).select(_COLUMNS)
