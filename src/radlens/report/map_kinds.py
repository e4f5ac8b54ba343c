"""Kinds of heatmap, each a setting, a method and a layer: their order, their names, and how many one table holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from radlens.report.contents import Row, RunContents
from radlens.report.tables import Head, Table

NO_LAYER = "-"
ALL = "all"
ALL_LABELS = "All labels"
WIDE = 6
"""Columns of settings and layers from which on each layer has a table of its own."""


@dataclass(frozen=True)
class Block:
    """A table under a title of its own."""

    title: str
    table: Table


def in_order(rows: Iterable[Mapping[str, str]], key: str) -> tuple[str, ...]:
    """The values of a column in order of appearance, which is the study's order; empty ones left out."""
    return tuple(dict.fromkeys(row[key] for row in rows if row.get(key)))


def layer_words(layer: str) -> str:
    """A layer as it is named; a method without depth has none."""
    return "" if layer in {NO_LAYER, ""} else f"layer {layer}"


def map_words(method: str, layer: str) -> str:
    """A method and its layer in running text."""
    return ", ".join(word for word in (method, layer_words(layer)) if word)


def label_words(label: str) -> str:
    """A label's name in a table; all of them together have one too."""
    return ALL_LABELS if label == ALL else label


def column_blocks(settings: Sequence[str], layers: Sequence[str]) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Tables to lay out one method in: (its layer, or empty where it holds all, (setting, layer) of each column)."""
    if len(layers) > 1 and len(settings) * len(layers) <= WIDE:
        yield "", [(setting, layer) for layer in layers for setting in settings]
        return
    for layer in layers:
        yield layer, [(setting, layer) for setting in settings]


def settings_of(run: RunContents, rows: Iterable[Row]) -> tuple[str, ...]:
    """Settings among some rows, in the run's order."""
    named = in_order(rows, "setting")
    return tuple(s for s in run.settings if s in named) + tuple(s for s in named if s not in run.settings)


def labels_of(run: RunContents, rows: Iterable[Row]) -> tuple[str, ...]:
    """Labels among some rows, in the vocabulary's order; all together first."""
    named = in_order(rows, "label")
    own = tuple(x for x in run.labels if x in named) + tuple(x for x in named if x not in run.labels and x != ALL)
    return (*((ALL,) if ALL in named else ()), *own)


def column_heads(
    columns: Sequence[tuple[str, str]], colours: Mapping[str, str]
) -> tuple[tuple[Head, ...], tuple[Head, ...]]:
    """Headings of the settings, and above them of the layers where there are several."""
    heads = tuple(Head(setting, colour=colours.get(setting, "#777"), kind="words") for setting, _ in columns)
    counted = Counter(layer for _, layer in columns)
    layers = tuple(Head(layer_words(layer) or "no depth", span) for layer, span in counted.items())
    return heads, layers if len(layers) > 1 else ()
