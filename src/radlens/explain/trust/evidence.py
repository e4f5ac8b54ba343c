"""What every check of the trust card gives: one row a setting, method, layer and label, with its figures."""

from __future__ import annotations

import polars as pl

SCHEMA = {
    "setting": pl.String,
    "method": pl.String,
    "layer": pl.String,
    "label": pl.String,
    "check": pl.String,
    "value": pl.Float64,
    "rival": pl.Float64,
    "difference": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "images": pl.Int64,
    "patients": pl.Int64,
    "passed": pl.Boolean,
    "reason": pl.String,
}
"""Columns of a table of evidence.

check: the check's name (`lift`, `deletion`, ...). value: the map's own figure; rival: what it must beat (the best
baseline, random order, the between-image similarity); difference: value - rival, paired, so that positive is good; low,
high: its 95 % interval over patients. images, patients: what it rests on. passed: True, False, or null where the
evidence does not allow an answer. reason: one sentence with the figures, for the reader of the report.
"""


def evidence(rows: list[dict[str, object]]) -> pl.DataFrame:
    """Rows (missing keys are null) to a table with `SCHEMA`."""
    return pl.DataFrame([{name: row.get(name) for name in SCHEMA} for row in rows], schema=SCHEMA, orient="row")
