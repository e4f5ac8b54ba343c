"""`radlens compare`: settings of one or several runs side by side, with what their differences are worth."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from radlens.core.errors import DataError, StoreError
from radlens.core.parts import MetricInput
from radlens.core.store import write_text
from radlens.core.vocabulary import Vocabulary, vocabulary_from_dict
from radlens.evaluate.export import Compared, to_csv, to_latex, to_markdown
from radlens.evaluate.resampling.bootstrap import Intervals, bootstrap
from radlens.evaluate.resampling.paired import paired_differences
from radlens.evaluate.resampling.setting_scores import SettingScores
from radlens.evaluate.scoring import metric_definitions
from radlens.evaluate.thresholds import decide

SHOWN = ("macro_f1", "exact_match", "macro_auroc", "macro_average_precision", "lrap", "coverage_error", "ranking_loss")


@dataclass(frozen=True)
class RunComparison:
    """intervals: what `bootstrap` found. differences: what `paired_differences` found.

    first: setting -> metric -> share of replicates in which it is the best (ties shared).
    """

    intervals: Intervals
    differences: pl.DataFrame
    first: dict[str, dict[str, float]]


def compare_runs(runs: Sequence[Path], replicates: int = 1000, seed: int = 0) -> RunComparison:
    """Compare every setting of every run on the test images that they share.

    A setting is called `run/setting` where several runs are given. Raises `StoreError` for a folder that is no finished
    run, `DataError` for runs whose test images, patients or labels differ, saying how.
    """
    scores: list[SettingScores] = []
    vocabulary: Vocabulary | None = None
    for number, run in enumerate(runs):
        name = "" if len(runs) == 1 else f"{_name(runs, number)}/"
        found, own = _read(run, name)
        if vocabulary is not None and own.names != vocabulary.names:
            different = sorted(set(own.names) ^ set(vocabulary.names)) or ["their order"]
            raise DataError(f"{runs[0]} and {run} do not score the same labels: {', '.join(different)}.")
        vocabulary = vocabulary or own
        if scores:
            _refuse_other_test(runs[0], scores[0], run, found[0])
        scores += found
    if vocabulary is None or not scores:
        raise DataError("expected at least one run to compare, found none.")
    known = bootstrap(scores, vocabulary, replicates=replicates, seed=seed)
    return RunComparison(known, paired_differences(scores, vocabulary, seed=seed, known=known), _first(known))


def render(found: RunComparison, console: Console) -> None:
    """Print figures with intervals, how often each setting comes first, and the differences that are no chance."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("figure", no_wrap=True)
    settings = list(found.intervals.values)
    for setting in settings:
        table.add_column(setting, justify="right", overflow="fold")
    rows = _overall(found)
    for metric in SHOWN:
        cells = [_cell(rows[setting, metric], found.first[setting].get(metric, 0.0)) for setting in settings]
        table.add_row(metric.replace("_", " "), *cells)
    console.print(table)
    lines = [_sentence(row) for row in _real(found.differences).to_dicts()]
    told = (
        f"{len(lines)} differences that chance does not explain (the 95 % interval over patients leaves out 0, and the "
        "permutation p after Holm is below .05):"
    )
    console.print("")
    for line in [told, *lines] if lines else ["No difference is larger than chance may make it."]:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def export(found: RunComparison, out: Path) -> list[Path]:
    """Write the overall table as CSV, LaTeX and Markdown, and all intervals and differences as CSV."""
    settings = list(found.intervals.values)
    rows = _overall(found)
    columns = {"figure": [metric.replace("_", " ") for metric in SHOWN]}
    values = {setting: [rows[setting, metric]["value"] for metric in SHOWN] for setting in settings}
    table = pl.DataFrame(columns | values)
    marks = _supported(found, settings) if len(settings) > 1 else None
    caption = "Settings on the same test images."
    texts = {
        "overall.csv": to_csv(table),
        "overall.tex": to_latex(table, compared=marks, caption=caption, label="tab:overall"),
        "overall.md": to_markdown(table, compared=marks),
        "intervals.csv": to_csv(found.intervals.table),
        "differences.csv": to_csv(found.differences),
    }
    for name, text in texts.items():
        write_text(out / name, text)
    return [out / name for name in texts]


def _overall(found: RunComparison) -> dict[tuple[str, str], dict[str, Any]]:
    return {(r["setting"], r["metric"]): r for r in found.intervals.table.filter(scope="overall").to_dicts()}


def _real(differences: pl.DataFrame) -> pl.DataFrame:
    apart = (pl.col("low") > 0) | (pl.col("high") < 0)
    told = pl.col("scope").is_in(["overall", "label"]) & pl.col("metric").is_in([*SHOWN, "f1", "auroc"])
    return differences.filter((pl.col("p_holm") < 0.05) & apart & told)


def _lower() -> set[str]:
    return {d["column"] for d in metric_definitions() if d["direction"] == "lower"}


def _sentence(row: dict[str, Any]) -> str:
    first_is_better = (row["difference"] > 0) != (row["metric"] in _lower())
    better, worse = (row["a"], row["b"]) if first_is_better else (row["b"], row["a"])
    what = row["metric"].replace("_", " ") + ("" if row["scope"] == "overall" else f" of {row['name']}")
    ends = sorted((abs(row["low"]), abs(row["high"])))
    return (
        f"  {what}: {better} is better than {worse} by {abs(row['difference']):.3f} ({ends[0]:.3f} to {ends[1]:.3f}), "
        f"p {row['p_holm']:.3f}"
    )


def _supported(found: RunComparison, settings: Sequence[str]) -> Compared:
    """Best and worst of a figure may be marked only where they differ from the next by more than chance."""
    rows, lower = _overall(found), _lower()
    real = {
        (frozenset((r["a"], r["b"])), r["metric"]) for r in _real(found.differences).filter(scope="overall").to_dicts()
    }
    best, worst = [], []
    for metric in SHOWN:
        order = sorted(settings, key=lambda s: rows[s, metric]["value"], reverse=metric not in lower)
        best.append((frozenset(order[:2]), metric) in real)
        worst.append((frozenset(order[-2:]), metric) in real)
    return Compared(tuple(settings), best, worst, [metric in lower for metric in SHOWN])


def _first(known: Intervals) -> dict[str, dict[str, float]]:
    lower = _lower()
    settings = list(known.replicates)
    places = {q.metric: m for m, q in enumerate(known.quantities) if q.scope == "overall" and q.metric in SHOWN}
    shares: dict[str, dict[str, float]] = {setting: {} for setting in settings}
    for metric, place in places.items():
        values = np.stack([known.replicates[setting][:, place] for setting in settings])
        values = -values if metric in lower else values
        top = values == np.nanmax(values, axis=0)
        for setting, share in zip(settings, (top / top.sum(axis=0)).mean(axis=1), strict=True):
            shares[setting][metric] = float(share)
    return shares


def _cell(row: dict[str, Any], first: float) -> str:
    value, low, high = row["value"], row["low"], row["high"]
    if value is None or not np.isfinite(value):
        return "not estimable"
    ends = f"{low:.3f} to {high:.3f}" if low is not None and np.isfinite([low, high]).all() else "no interval"
    return f"{value:.3f}\n{ends}\nfirst in {first:.0%}"


def _name(runs: Sequence[Path], number: int) -> str:
    names = [run.resolve().name for run in runs]
    return names[number] if names.count(names[number]) == 1 else f"{number + 1}:{names[number]}"


def _read(run: Path, prefix: str) -> tuple[list[SettingScores], Vocabulary]:
    try:
        cohort = pl.read_parquet(run / "cohort.parquet")
        titles = pl.read_csv(run / "tables" / "overall.csv", columns=["setting"], infer_schema=False)[
            "setting"
        ].to_list()
        cards = {t: json.loads((run / "classifiers" / t / "card.json").read_text("utf-8")) for t in titles}
        predictions = {t: pl.read_parquet(run / "predictions" / f"{t}.parquet") for t in titles}
    except (OSError, ValueError, pl.exceptions.PolarsError) as error:
        raise StoreError(f"{run} is not a finished run ({str(error).splitlines()[0]}).") from error
    vocabulary = vocabulary_from_dict(cards[titles[0]]["vocabulary"], str(run))
    labels = list(vocabulary.names)
    test = cohort.filter(split="test")
    groups = test.select(pl.coalesce("patient_id", pl.lit("image:") + pl.col("image_id")).alias("g"))["g"].to_list()
    targets = test.select(pl.col(x).cast(pl.Float32) for x in labels).fill_null(float("nan")).to_numpy()
    ids = test["image_id"].to_list()
    scores = []
    for title in titles:
        own = test.select("image_id").join(predictions[title], on="image_id", how="left", maintain_order="left")
        probabilities = own.select(labels).to_numpy().astype(np.float64)
        decisions = decide(probabilities, np.asarray(cards[title]["thresholds"], np.float64))
        inputs = MetricInput(probabilities, targets.astype(np.float32), decisions)
        scores.append(SettingScores(f"{prefix}{title}", inputs, groups, ids))
    return scores, vocabulary


def _refuse_other_test(first: Path, one: SettingScores, run: Path, other: SettingScores) -> None:
    here, there = set(one.image_ids or ()), set(other.image_ids or ())
    if here != there:
        raise DataError(
            f"{first} and {run} were tested on different images: {len(here - there)} of {len(here)} are in the first "
            f"alone, {len(there - here)} of {len(there)} in the second alone; run both with one split (`split: file:`)."
        )
    if list(one.image_ids or ()) != list(other.image_ids or ()):
        raise DataError(f"{first} and {run} hold the same test images in another order; run both on one table.")
    if list(one.groups) != list(other.groups):
        raise DataError(f"{first} and {run} do not name the same patients for their test images.")
    if not np.array_equal(one.inputs.targets, other.inputs.targets, equal_nan=True):
        known = one.inputs.targets, other.inputs.targets
        differ = int((~((known[0] == known[1]) | (np.isnan(known[0]) & np.isnan(known[1])))).sum())
        raise DataError(
            f"{first} and {run} differ in {differ} labels of their test images; compare runs of one labelling."
        )
