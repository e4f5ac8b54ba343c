"""Intervals of a label metric's mean over chosen labels, such as those that were rare in training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from radlens.core.errors import SpecError, unknown_name
from radlens.core.undefined import mean_of_defined
from radlens.evaluate.metrics.by_frequency import by_frequency
from radlens.evaluate.resampling.bootstrap import Intervals, ends
from radlens.evaluate.resampling.estimable import LEAST, MOST_UNDEFINED
from radlens.evaluate.resampling.weighted_metrics import LABEL_METRICS


def bands_of(labels: Sequence[str], train_positives: npt.NDArray[np.int64]) -> dict[str, tuple[str, ...]]:
    """Band of `by_frequency` -> its labels, rarest band first; bands without labels are left out."""
    alone = np.where(np.eye(len(labels), dtype=np.bool_), 1.0, np.nan)
    table = by_frequency(dict(zip(labels, alone, strict=True)), train_positives)
    inside = {row["band"]: tuple(x for x in labels if row[f"{x}_labels_counted"]) for row in table.to_dicts()}
    return {band: own for band, own in inside.items() if own}


def band_intervals(
    known: Intervals, bands: Mapping[str, Sequence[str]], metrics: Sequence[str] = ("f1", "auroc", "average_precision")
) -> pl.DataFrame:
    """A row a setting, band and metric: setting, scope (`band`), name, metric, value, low, high (95 %), labels_counted,
    reason.

    known: what `bootstrap` gave; nothing is drawn again. bands: name -> its labels. In each replicate the mean is over
    the band's labels that are defined there. No interval for a band that has fewer than 10 positive images in all, or
    is undefined in more than 5 % of the replicates. Unknown labels and metrics raise `SpecError`.
    """
    at = {(q.name, q.metric): m for m, q in enumerate(known.quantities) if q.scope == "label"}
    names = {name for name, _ in at}
    for word, options, kind in (
        *((metric, LABEL_METRICS, "label metric") for metric in metrics),
        *((label, names, "label") for labels in bands.values() for label in labels),
    ):
        if word not in options:
            raise SpecError(unknown_name(kind, word, options))
    rows = []
    for setting, values in known.values.items():
        for band, labels in bands.items():
            for metric in metrics:
                columns = [at[label, metric] for label in labels]
                value = np.atleast_1d(mean_of_defined(values[None, columns], axis=1))
                replicates = np.asarray(mean_of_defined(known.replicates[setting][:, columns], axis=1))[:, None]
                left_out = None
                if known.method == "bca":
                    left_out = np.asarray(mean_of_defined(known.left_out[setting][:, columns], axis=1))[:, None]
                low, high = ends(known.method, value, replicates, left_out)
                positives = sum(known.evidence[setting]["label", label].positives for label in labels)
                reason = None
                if np.isnan(value[0]):
                    reason = f"undefined: {positives} positives in {len(labels)} labels"
                elif positives < LEAST:
                    reason = f"not estimable: {positives} positives in {len(labels)} labels, an interval needs {LEAST}"
                elif (share := float(np.isnan(replicates).mean())) > MOST_UNDEFINED:
                    reason = f"not estimable: undefined in {share:.1%} of the replicates"
                rows.append(
                    {
                        "setting": setting,
                        "scope": "band",
                        "name": band,
                        "metric": metric,
                        "value": float(value[0]),
                        "low": float("nan") if reason else float(low[0]),
                        "high": float("nan") if reason else float(high[0]),
                        "labels_counted": int((~np.isnan(values[columns])).sum()),
                        "reason": reason,
                    }
                )
    return pl.DataFrame(rows, schema_overrides={"reason": pl.String} if rows else None)
