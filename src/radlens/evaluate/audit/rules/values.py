"""Single figures: inside their range, the same wherever they stand, and possible as counts of n images."""

from __future__ import annotations

import math

import numpy as np

from radlens.evaluate.audit.findings import Finding, Rank, listed
from radlens.evaluate.audit.printed import SLACK, Printed
from radlens.evaluate.audit.published import Entry, Kind, PublishedTables, places
from radlens.evaluate.audit.words import is_share, quantity

# beyond this a printed share of n images is finer than its rounding shows, or the search is long
_MOST_IMAGES = 20_000
_DISTANCES = ("inter_class_distance", "intra_class_distance", "separability_ratio")
_NOT_NEGATIVE = ("coverage_error", "positives", "log_loss", "train_minutes", *_DISTANCES)


def outside_range(tables: PublishedTables) -> list[Finding]:
    """Shares outside 0 to 1, a coverage error above the number of labels, negative distances."""
    found = []
    for entry in tables.entries:
        if entry.number is None:
            continue
        low, high = 0.0, 1.0 if is_share(entry.metric) else math.inf
        if entry.metric == "coverage_error":
            high = float(tables.label_count) if tables.label_count else math.inf
        if entry.metric == "positives" and entry.n is not None:
            high = entry.n.value
        bounded = is_share(entry.metric) or entry.metric in _NOT_NEGATIVE
        if not bounded or entry.number.meets(low, high):
            continue
        limits = f"cannot exceed {high:g}" if entry.number.value > high else f"cannot be below {low:g}"
        hint = " (a percentage without its sign?)" if high == 1 and 1 < entry.number.value <= 100 else ""
        text = f"{quantity(entry)} is {entry.number.text}, but {limits}{hint}."
        found.append(Finding("contradiction", "range", text, (entry.place,)))
    return found


def two_values(tables: PublishedTables) -> list[Finding]:
    """One quantity with two values that do not round to each other."""
    groups: dict[tuple[str, str, str, str], list[Entry]] = {}
    for entry in tables.entries:
        if entry.number is not None:
            groups.setdefault((entry.kind, entry.name, entry.setting, entry.metric), []).append(entry)
    found = []
    for entries in groups.values():
        first = tables.find(entries[0].kind, entries[0].name, entries[0].setting, entries[0].metric) or entries[0]
        other = [entry for entry in entries if not _agree_to_the_digit(first.printed, entry.printed)]
        if not other:
            continue
        plain = [entry for entry in other if not first.printed.meets(entry.printed.low, entry.printed.high)]
        values = dict.fromkeys(entry.printed.text for entry in other)
        against = listed([f"{v} in {_where([e for e in other if e.printed.text == v])}" for v in values])
        text = f"{quantity(first)} has two values: {first.printed.text} in {first.place}, {against}."
        rank: Rank = "contradiction" if plain else "note"
        found.append(Finding(rank, "two values", text, places((first, *other))))
    return found


def _agree_to_the_digit(one: Printed, other: Printed) -> bool:
    # a value with ≈ is twice as wide as one that is rounded
    narrow = sum((each.high - each.low) / 4 for each in (one, other) if each.about)
    return one.meets(other.low + narrow, other.high - narrow)


def _where(entries: list[Entry]) -> str:
    return " and ".join(places(entries))


def not_whole(tables: PublishedTables) -> list[Finding]:
    """Shares that no whole number of the stated n images prints as: prevalence, exact match, accuracy, recall, F1."""
    found = []
    for entry in tables.entries:
        if entry.number is None or entry.number.averaged or entry.number.about:
            continue
        n = tables.size(entry.name, entry.kind)
        if n is None:
            continue
        of = _impossible(tables, entry, n)
        if of:
            text = f"{quantity(entry)} is {entry.number.text}, but no whole number of {of} gives that."
            found.append(Finding("contradiction", "whole numbers", text, (entry.place,)))
    return found


def _impossible(tables: PublishedTables, entry: Entry, n: int) -> str:
    """Of what no whole number gives the figure; empty where one does."""
    number = entry.printed
    if entry.metric in ("exact_match", "accuracy", "prevalence"):
        return "" if _whole_within(number, n) else f"{n} images"
    positives = positive_counts(tables, entry.name, entry.kind, n)
    if positives is None or not len(positives):
        return ""
    few = f"{positives[0]}" if len(positives) == 1 else f"{positives[0]} to {positives[-1]}"
    if entry.metric == "recall":
        return "" if any(_whole_within(number, p) for p in positives) else f"{few} positives"
    if entry.metric == "specificity":
        return "" if any(_whole_within(number, n - p) for p in positives) else f"{n} images less {few} positives"
    if entry.metric == "f1":
        return "" if any(_f1_possible(number, p, n) for p in positives) else f"hits among {few} positives of {n} images"
    return ""


def positive_counts(tables: PublishedTables, name: str, kind: Kind, n: int) -> range | None:
    """Whole numbers of positives among n images that a stated prevalence allows; None where it is not stated."""
    prevalence = tables.prevalence(name, kind)
    if prevalence is None or n > _MOST_IMAGES:
        return None
    return range(max(1, math.ceil(prevalence.low * n - SLACK)), math.floor(prevalence.high * n + SLACK) + 1)


def _whole_within(number: Printed, n: int) -> bool:
    return n <= 0 or math.ceil(number.low * n - 1e-6) <= math.floor(number.high * n + 1e-6)


def _f1_possible(number: Printed, positives: int, n: int) -> bool:
    if number.low <= SLACK:
        return True
    if positives == 0:
        return True
    hits = np.arange(1, positives + 1)
    # F1 = 2 hits / (positives + called); called from all hits to hits plus every negative
    least = np.maximum(np.ceil(2 * hits / number.high - 1e-6), positives + hits)
    most = np.minimum(np.floor(2 * hits / number.low + 1e-6), n + hits)
    return bool((least <= most).any())
