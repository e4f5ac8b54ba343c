"""Figures of whole label sets: exact match, coverage error, LRAP, against each other and against the labels."""

from __future__ import annotations

import numpy as np

from radlens.evaluate.audit.findings import Finding
from radlens.evaluate.audit.printed import SLACK
from radlens.evaluate.audit.published import Entry, PublishedTables, places
from radlens.evaluate.audit.words import figure


def exact_match_bounds(tables: PublishedTables) -> list[Finding]:
    """Exact match above what a label's own errors leave, or out of line with Hamming loss or the sum of errors."""
    found = []
    for setting in tables.settings:
        exact = tables.overall(setting, "exact_match")
        if exact is None:
            continue
        errors = {entry: error for entry, error in _least_errors(tables, setting) if error > 0}
        worst = max(errors, key=lambda entry: errors[entry], default=None)
        if worst is not None and exact.printed.low > 1 - errors[worst] + SLACK:
            text = (
                f"exact match of {setting} is {exact.printed.text}, but {worst.name} with "
                f"{_named(worst)} is wrong in at least {figure(errors[worst])} of the images."
            )
            found.append(Finding("contradiction", "exact match", text, places((exact, worst))))
        found += _against_hamming(tables, setting, exact)
        accuracies = tables.per("label", setting, "accuracy")
        if len(accuracies) == tables.label_count > 0:
            least = 1 - sum(1 - entry.printed.low for entry in accuracies.values())
            if exact.printed.high < least - SLACK:
                text = (
                    f"exact match of {setting} is {exact.printed.text}, but the labels' accuracies leave at least "
                    f"{figure(least)}."
                )
                found.append(Finding("contradiction", "exact match", text, places((exact, *accuracies.values()))))
    return found


def _against_hamming(tables: PublishedTables, setting: str, exact: Entry) -> list[Finding]:
    hamming = tables.overall(setting, "hamming_loss")
    if hamming is None or not tables.label_count:
        return []
    # a wrong image has between one and all labels wrong
    least, most = 1 - tables.label_count * hamming.printed.high, 1 - hamming.printed.low
    if exact.printed.meets(least, most):
        return []
    text = (
        f"exact match of {setting} is {exact.printed.text}, but hamming loss {hamming.printed.text} over "
        f"{tables.label_count} labels allows {figure(max(least, 0))} to {figure(most)}."
    )
    return [Finding("contradiction", "exact match", text, places((exact, hamming)))]


def _least_errors(tables: PublishedTables, setting: str) -> list[tuple[Entry, float]]:
    """Cell of a label -> the least share of images on which that label is wrong."""
    size = tables.size()
    found = [
        (entry, 1 - entry.printed.high)
        for entry in tables.per("label", setting, "accuracy").values()
        if tables.size(entry.name, "label") in (None, size)
    ]
    for entry in tables.per("label", setting, "f1").values():
        if tables.size(entry.name, "label") not in (None, size) or entry.printed.averaged:
            continue
        f1, prevalence = min(max(entry.printed.high, 0.0), 1.0), tables.prevalence(entry.name)
        if prevalence is not None:
            # F1 fixes errors a hit; fewest hits are made where there are no false alarms
            found.append((entry, max(prevalence.low, 0.0) * 2 * (1 - f1) / (2 - f1)))
        if size is not None and entry.printed.low > 0:
            found.append((entry, 2 * (1 - f1) / f1 / size))
    return found


def _named(entry: Entry) -> str:
    return f"{'F1' if entry.metric == 'f1' else entry.metric} {entry.printed.text}"


def coverage_minimum(tables: PublishedTables) -> list[Finding]:
    """Coverage error below the mean number of positive labels of an image."""
    cardinality = _cardinality(tables)
    if cardinality is None:
        return []
    found = []
    for setting in tables.settings:
        entry = tables.overall(setting, "coverage_error")
        if entry is None or entry.printed.high >= cardinality[0] - SLACK:
            continue
        zero_based = entry.printed.high + 1 >= cardinality[0] - SLACK
        text = (
            f"coverage error of {setting} is {entry.printed.text}, below the mean number of positive labels, "
            f"{figure(sum(cardinality) / 2)} by the prevalences, which a perfect ranking gives"
            + ("; it would be possible if the first rank counts as 0." if zero_based else ".")
        )
        found.append(Finding("suspicious" if zero_based else "contradiction", "coverage error", text, places((entry,))))
    return found


def lrap_bounds(tables: PublishedTables) -> list[Finding]:
    """LRAP out of the reach that coverage error leaves it, whether the first rank counts as 1 or as 0."""
    cardinality = _cardinality(tables)
    found = []
    for setting in tables.settings:
        lrap, coverage = tables.overall(setting, "lrap"), tables.overall(setting, "coverage_error")
        if lrap is None or coverage is None or lrap.printed.averaged or coverage.printed.averaged:
            continue
        low = least_lrap(coverage.printed.high + 1)
        high = 1.0
        if cardinality is not None:
            ends = coverage.printed.low, coverage.printed.high
            high = max(most_lrap((ends[0] + s, ends[1] + s), cardinality, tables.label_count) for s in (0, 1))
        if not lrap.printed.meets(low, high):
            text = (
                f"LRAP of {setting} is {lrap.printed.text}, but coverage error {coverage.printed.text}"
                + (f" and {figure(sum(cardinality) / 2)} positive labels an image" if cardinality else "")
                + f" allow {figure(low)} to {figure(high)}."
            )
            found.append(Finding("contradiction", "LRAP", text, places((lrap, coverage))))
    return found


def least_lrap(coverage: float) -> float:
    """Least LRAP at a mean coverage error.

    Each positive label of an image adds at least 1 / coverage of that image; an image without positives has coverage 0
    and LRAP 1. The greatest convex curve below these points runs from (0, 1) to (2, 1/2), (3, 1/3), and so on.
    """
    if coverage <= 2:
        return 1 - max(coverage, 0.0) / 4
    below = int(coverage)
    return 1 / below + (coverage - below) * (1 / (below + 1) - 1 / below)


def most_lrap(coverage: tuple[float, float], cardinality: tuple[float, float], labels: int) -> float:
    """An upper bound of LRAP, given ranges of mean coverage error and of mean number of positive labels (weak duality).

    An image with k positives and coverage c has LRAP of at most 1 - 1/k + 1/c, reached with the other positives first.
    """
    k, c = (a.ravel() for a in np.meshgrid(np.arange(1, labels + 1), np.arange(1, labels + 1)))
    k, c = k[c >= k], c[c >= k]
    best = np.append(1 - 1 / k + 1 / c, 1.0)
    k, c = np.append(k, 0), np.append(c, 0)
    # any multipliers give a valid bound; these reach the slopes of the curve
    of_k, of_c = (a.ravel()[:, None] for a in np.meshgrid(np.linspace(-0.5, 0.5, 41), np.linspace(-1, 0.5, 61)))
    at_means = np.maximum(*(of_k[:, 0] * end for end in cardinality)) + np.maximum(*(of_c[:, 0] * e for e in coverage))
    bounds = (best - of_k * k - of_c * c).max(axis=1) + at_means
    return float(min(1.0, bounds.min()))


def _cardinality(tables: PublishedTables) -> tuple[float, float] | None:
    """Mean number of positive labels of a test image, from the prevalences of all labels; None where one is missing."""
    known = [number for name in tables.labels if (number := tables.prevalence(name)) is not None]
    sizes = {tables.size(name, "label") for name in tables.labels}
    if not known or len(known) < tables.label_count or len(sizes) > 1:
        return None
    return sum(max(number.low, 0.0) for number in known), sum(number.high for number in known)
