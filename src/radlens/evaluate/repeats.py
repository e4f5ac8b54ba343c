"""The same figures of several repeats (folds, draws, seeds): their mean and how far they are spread."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import polars as pl


def mean_over_repeats(tables: Iterable[pl.DataFrame], keys: Sequence[str]) -> pl.DataFrame:
    """Long table: the keys, metric, repeats (where it is defined), mean, standard deviation, least, greatest value.

    tables: one a repeat, with equal keys; every numeric column beside the keys is a metric. The deviation is that
    between repeats (n - 1). Repeats share images, so it is no standard error, and no interval may be made of it.
    """
    frames = []
    for table in tables:
        numeric = [c for c, kind in table.schema.items() if c not in keys and kind.is_numeric()]
        frames.append(
            table.select(*keys, *(pl.col(c).cast(pl.Float64) for c in numeric))
            .unpivot(index=list(keys), variable_name="metric", on=numeric)
            .with_columns(pl.col("value").fill_nan(None))
        )
    together = pl.concat(frames, how="diagonal")
    return together.group_by([*keys, "metric"], maintain_order=True).agg(
        pl.col("value").count().alias("repeats"),
        pl.col("value").mean().alias("mean"),
        pl.col("value").std().alias("standard_deviation"),
        pl.col("value").min().alias("least"),
        pl.col("value").max().alias("greatest"),
    )
