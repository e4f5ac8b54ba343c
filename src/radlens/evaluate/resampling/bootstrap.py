"""Intervals of every metric of the tables at once, by resampling patients; all settings on the same resamples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from radlens.core.errors import SpecError, unknown_name
from radlens.core.interval_ends import bca_ends, percentile_ends
from radlens.core.parts import Progress, unheard
from radlens.core.patient_weights import Weights, block_size, bootstrap_weights, jackknife_weights
from radlens.core.vocabulary import Vocabulary
from radlens.evaluate.resampling.estimable import Evidence, evidence, reasons
from radlens.evaluate.resampling.setting_scores import SettingScores, patients_of
from radlens.evaluate.resampling.weighted_metrics import PreparedSetting, Quantity, prepare, weighted_metrics

Array = npt.NDArray[np.float64]
Method = Literal["percentile", "bca"]
METHODS: tuple[Method, ...] = ("percentile", "bca")


@dataclass(frozen=True)
class Intervals:
    """What `bootstrap` found.

    table: a row a setting and number: setting, scope (overall, label, domain), name, metric, value, low, high (95 %,
    NaN without interval), n_positives, n_negatives (images; over all labels: pairs of image and label), undefined
    (share of replicates), reason (null where there is an interval). quantities: the M numbers in order. values:
    setting -> (M,). replicates: setting -> (B, M), row b of every setting on the same resample. left_out: setting ->
    (J, M) jackknife values, empty unless the method is bca. evidence: setting -> what stands behind each name.
    """

    table: pl.DataFrame
    method: Method
    quantities: tuple[Quantity, ...]
    values: Mapping[str, Array]
    replicates: Mapping[str, Array]
    left_out: Mapping[str, Array]
    evidence: Mapping[str, Mapping[tuple[str, str], Evidence]]


def bootstrap(
    results: Sequence[SettingScores],
    vocabulary: Vocabulary,
    *,
    replicates: int = 1000,
    seed: int = 0,
    method: Method = "bca",
    progress: Progress = unheard,
) -> Intervals:
    """95 % intervals over patients of every metric, overall, per label and per domain, for settings on the same images.

    Settings may differ in what is null (a subgroup is a setting whose other images are null), not in images.
    replicates: 1,000 is usual. Each is the metric on patients drawn with replacement with all their images, a macro
    mean over the labels defined in that replicate. Below 10 positive patients (10 negative ones for AUROC and
    specificity, 10 calls for precision), or with more than 5 % undefined replicates, there is no interval but a
    reason. method: `bca` holds the truth more often at 5 to 20 positives (docs/simulations.md); from 40 on
    `percentile` is as good. Exact but for rounding; deterministic in `seed`; memory is flat in `replicates`. progress
    counts replicates. Raises `DataError` for input that cannot be resampled, `SpecError` for an option.
    """
    if method not in METHODS:
        raise SpecError(unknown_name("interval method", method, METHODS))
    if replicates < 1:
        raise SpecError(f"expected at least 1 replicate, found {replicates}; 1000 is usual.")
    patients = patients_of(results, vocabulary.names)
    behind = {result.setting: evidence(result.inputs, vocabulary, patients) for result in results}
    prepared = {result.setting: prepare(result.inputs, vocabulary, patients) for result in results}
    block = block_size(len(patients.index))
    whole = under_weights(prepared, [np.ones((patients.count, 1), np.float32)])
    values = {name: value[0] for name, value in whole.items()}
    blocks = bootstrap_weights(patients.count, replicates, seed, block)
    drawn = under_weights(prepared, blocks, lambda done: progress(done, replicates))
    left_out: dict[str, Array] = {}
    if method == "bca":
        left_out = under_weights(prepared, jackknife_weights(patients.count, seed, block))
    quantities = next(iter(prepared.values())).quantities
    table = pl.concat(
        _table(name, quantities, values[name], drawn[name], left_out.get(name), behind[name]) for name in prepared
    )
    return Intervals(table, method, quantities, values, drawn, left_out, behind)


def under_weights(
    prepared: Mapping[str, PreparedSetting], blocks: Iterable[Weights], tell: Callable[[int], None] | None = None
) -> dict[str, Array]:
    """Setting -> (B, M): every quantity under each column of the blocks of weights; `tell` hears how many are done."""
    found: dict[str, list[Array]] = {name: [] for name in prepared}
    done = 0
    for weights in blocks:
        for name, setting in prepared.items():
            found[name].append(weighted_metrics(setting, weights))
        done += weights.shape[1]
        if tell is not None:
            tell(done)
    return {name: np.concatenate(parts) for name, parts in found.items()}


def ends(method: Method, values: Array, replicates: Array, left_out: Array | None) -> tuple[Array, Array]:
    """Low (M,) and high (M,) by the method; left_out (J, M) for bca."""
    if method == "bca" and left_out is not None:
        return bca_ends(values, replicates, left_out)
    return percentile_ends(replicates)


def _table(
    setting: str,
    quantities: Sequence[Quantity],
    values: Array,
    replicates: Array,
    left_out: Array | None,
    behind: dict[tuple[str, str], Evidence],
) -> pl.DataFrame:
    low, high = ends("percentile" if left_out is None else "bca", values, replicates, left_out)
    why = reasons(quantities, values, behind, replicates)
    without = np.array([reason is not None for reason in why])
    of = [behind[quantity.scope, quantity.name] for quantity in quantities]
    return pl.DataFrame(
        {
            "setting": [setting] * len(quantities),
            "scope": [quantity.scope for quantity in quantities],
            "name": [quantity.name for quantity in quantities],
            "metric": [quantity.metric for quantity in quantities],
            "value": values,
            "low": np.where(without, np.nan, low),
            "high": np.where(without, np.nan, high),
            "n_positives": [x.positives for x in of],
            "n_negatives": [x.negatives for x in of],
            "undefined": np.isnan(replicates).mean(axis=0),
            "reason": pl.Series(why, dtype=pl.String),
        }
    )
