"""The embedding space: separability in three definitions beside its null, and 2-D views one may colour by label."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from radlens.report.columns import MISSING, Column
from radlens.report.contents import Row, RunContents, number
from radlens.report.tables import Cell, Head, Table, TableRow, cell

WIDTH, HEIGHT, EDGE = 440, 340, 14
_NAMES = {"pca": "Principal components", "t-sne": "t-SNE", "umap": "UMAP"}
_WHOLE = ("overall", "all", "labels", "cohort")


@dataclass(frozen=True)
class Point:
    """One image: SVG path data of a dot, and the CSS classes that a label picker colours it by."""

    path: str
    classes: str


@dataclass(frozen=True)
class View:
    """One distinct embedding space: the settings that share it and its points."""

    settings: tuple[str, ...]
    points: tuple[Point, ...]
    explained: tuple[float, float]


@dataclass(frozen=True)
class Choice:
    """What the points may be coloured by: `key` ends the CSS class, `positives` counts coloured points."""

    key: str
    name: str
    positives: int
    absent: int


@dataclass(frozen=True)
class EmbeddingView:
    """One way to draw the embeddings in the plane: `key` ends the CSS class, `text` says how it is made."""

    key: str
    name: str
    text: str
    views: tuple[View, ...]
    choices: tuple[Choice, ...]
    split: str
    images: int


def separability_table(run: RunContents, columns: Mapping[str, Column]) -> Table | None:
    """A row a definition and embedding; settings with one embedding share a row."""
    rows = run.tables["separability"]
    whole = next((name for name in _WHOLE if any(row.get("scope") == name for row in rows)), None)
    rows = tuple(row for row in rows if whole is None or row.get("scope") == whole)
    if not rows:
        return None
    shared: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        values = ("definition", "normalised", "inter", "intra", "ratio", "name")
        shared.setdefault(tuple(row.get(key, "") for key in values), []).append(row)
    distance, ratio = columns["inter_class_distance"], columns["separability_ratio"]
    lines = []
    for alike in shared.values():
        first = alike[0]
        named = list(dict.fromkeys(row.get("setting", "") for row in alike))
        value, null = number(first.get("ratio")), number(first.get("ratio_null"))
        z, p = number(first.get("ratio_z")), number(first.get("ratio_p"))
        beyond = value / null - 1 if null > 0 else math.nan
        cells = (
            Cell("normalised" if _is_true(first.get("normalised")) else "as encoded", kind="words"),
            Cell(shortened(named), kind="words", title=", ".join(named)),
            cell(number(first.get("inter")), distance),
            cell(number(first.get("intra")), distance),
            cell(value, ratio),
            cell(null, ratio, kind="chance"),
            Cell(f"{100 * beyond:+.1f}%" if math.isfinite(beyond) else MISSING),
            Cell(f"{z:+.1f}" if math.isfinite(z) else MISSING),
            Cell(f"{p:.2f}" if math.isfinite(p) else MISSING),
        )
        lines.append(TableRow(first.get("definition", ""), cells))
    heads = (
        Head("Embeddings", kind="words"),
        Head("Setting", kind="words"),
        Head("Inter-class"),
        Head("Intra-class"),
        Head("Ratio"),
        Head("Shuffled labels", kind="chance", title="the same ratio with labels shuffled between patients"),
        Head("Beyond it", title="ratio / ratio with shuffled labels - 1"),
        Head("z", title="(ratio - ratio with shuffled labels) / standard deviation of the shuffles"),
        Head("p", title="share of shuffles with a ratio at least as high, one-sided"),
    )
    order = {"pairwise": 0, "centroid": 1, "mixed": 2}
    lines.sort(key=lambda line: (order.get(line.name, 3), line.name, line.cells[0].text))
    return Table("Definition", heads, tuple(lines))


def shortened(settings: Sequence[str]) -> str:
    """Settings that share a space: all of them where they are few, else the first and how many more."""
    few = len(settings) <= 3 and sum(map(len, settings)) <= 40
    return ", ".join(settings) if few or len(settings) == 1 else f"{settings[0]} and {len(settings) - 1} more"


def embedding_view(run: RunContents) -> EmbeddingView | None:
    """The first of `embedding_views`: the principal components."""
    return next(iter(embedding_views(run)), None)


def embedding_views(run: RunContents) -> tuple[EmbeddingView, ...]:
    """The 2-D coordinates that the run wrote, a view a method; test images only where there are some."""
    rows = run.tables["embedding_view"]
    split = "test" if any(row.get("split") == "test" for row in rows) else ""
    rows = tuple(row for row in rows if not split or row.get("split") == split)
    table = run.truth({row.get("image_id", "") for row in rows}) if rows else None
    if table is None:
        return ()
    truth = _truth(run, table)
    texts = {str(d["column"]): str(d.get("text") or "") for d in run.definitions if d.get("table") == "embedding_view"}
    by_method: dict[str, list[Row]] = {}
    for row in rows:
        by_method.setdefault(row.get("view") or "pca", []).append(row)
    return tuple(_drawn(run, key, texts.get(key, ""), own, truth, split) for key, own in by_method.items())


def _drawn(
    run: RunContents, key: str, text: str, rows: list[Row], truth: dict[str, dict[int, int | None]], split: str
) -> EmbeddingView:
    """One view, a picture a distinct embedding."""
    by_setting: dict[str, list[Row]] = {}
    for row in rows:
        by_setting.setdefault(row.get("setting", ""), []).append(row)
    distinct: dict[tuple[tuple[str, str, str], ...], list[str]] = {}
    for setting, of_setting in by_setting.items():
        places = tuple((row.get("image_id", ""), row.get("x", ""), row.get("y", "")) for row in of_setting)
        distinct.setdefault(places, []).append(setting)
    views = tuple(_view(tuple(names), by_setting[names[0]], truth) for names in distinct.values())
    shown = [row.get("image_id", "") for row in next(iter(by_setting.values()))]
    names = ("any finding", *(label for label in run.labels))
    choices = []
    for place, name in enumerate(names):
        known = [truth.get(image, {}).get(place) for image in shown]
        if any(value is not None for value in known):
            choices.append(Choice(str(place), name, sum(v == 1 for v in known), sum(v is None for v in known)))
    return EmbeddingView(key, _NAMES.get(key, key), text, views, tuple(choices), split, len(shown))


def _truth(run: RunContents, table: pl.DataFrame) -> dict[str, dict[int, int | None]]:
    """Image -> place of a choice -> 1, 0 or None. Place 0 is "any finding": a positive label that is not no-finding."""
    labels = [label for label in run.labels if label in table.columns]
    place = {label: run.labels.index(label) + 1 for label in labels}
    truth: dict[str, dict[int, int | None]] = {}
    for row in table.iter_rows(named=True):
        findings = [row[label] for label in labels if label.strip().lower() != "no finding"]
        known = [value for value in findings if value is not None]
        truth[row["image_id"]] = {0: int(any(known)) if known else None} | {place[x]: row[x] for x in labels}
    return truth


def _view(settings: tuple[str, ...], rows: list[Row], truth: dict[str, dict[int, int | None]]) -> View:
    placed = [(number(row.get("x")), number(row.get("y")), row) for row in rows]
    placed = [(x, y, row) for x, y, row in placed if math.isfinite(x) and math.isfinite(y)]
    across, down = [x for x, _, _ in placed] or [0.0], [y for _, y, _ in placed] or [0.0]
    # one scale for both axes: a distance in the picture means the same in every direction
    scale = min(
        (WIDTH - 2 * EDGE) / ((max(across) - min(across)) or 1.0),
        (HEIGHT - 2 * EDGE) / ((max(down) - min(down)) or 1.0),
    )
    middle = (max(across) + min(across)) / 2, (max(down) + min(down)) / 2
    points = []
    for x, y, row in placed:
        left = WIDTH / 2 + (x - middle[0]) * scale
        top = HEIGHT / 2 - (y - middle[1]) * scale
        known = truth.get(row.get("image_id", ""), {})
        named = [f"p{k}" for k, v in known.items() if v == 1] + [f"u{k}" for k, v in known.items() if v is None]
        points.append(Point(f"M{left:.1f} {top:.1f}h0", " ".join(named)))
    explained = number(rows[0].get("explained_x")), number(rows[0].get("explained_y"))
    return View(settings, tuple(points), explained)


def _is_true(value: str | None) -> bool:
    return (value or "").strip().lower() in {"true", "1", "yes"}
