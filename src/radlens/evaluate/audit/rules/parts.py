"""Figures that follow from others of the same row: F1 of precision and recall, accuracy and precision of prevalence."""

from __future__ import annotations

from collections.abc import Callable

from radlens.evaluate.audit.findings import Finding, Rank
from radlens.evaluate.audit.printed import span
from radlens.evaluate.audit.published import Entry, PublishedTables, places
from radlens.evaluate.audit.words import figure, quantity, words

# a mean over labels of their ratios is near the ratio of the means, not equal to it
_MEAN_OF_RATIOS = 0.01


def _f1(precision: float, recall: float) -> float:
    precision, recall = max(precision, 0.0), max(recall, 0.0)
    return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0


def _accuracy(recall: float, specificity: float, prevalence: float) -> float:
    return recall * prevalence + specificity * (1 - prevalence)


def _precision(recall: float, specificity: float, prevalence: float) -> float:
    hits, false = max(recall, 0.0) * max(prevalence, 0.0), max(1 - specificity, 0.0) * (1 - prevalence)
    return hits / (hits + false) if hits + false > 0 else 0.0


_FOLLOWS: tuple[tuple[str, tuple[str, ...], Callable[..., float]], ...] = (
    ("f1", ("precision", "recall"), _f1),
    ("accuracy", ("recall", "specificity", "prevalence"), _accuracy),
    ("precision", ("recall", "specificity", "prevalence"), _precision),
)


def from_parts(tables: PublishedTables) -> list[Finding]:
    """F1, accuracy or precision of a label or domain that its own row's other figures do not give."""
    found = []
    for entry in _results(tables):
        for metric, names, function in _FOLLOWS:
            if entry.metric != metric:
                continue
            parts = [tables.find(entry.kind, entry.name, "" if p == "prevalence" else entry.setting, p) for p in names]
            known = [part for part in parts if part is not None]
            numbers = [part.printed for part in known]
            if len(known) < len(parts) or any(number.averaged for number in (entry.printed, *numbers)):
                continue
            # called none: precision is undefined and printed in more than one way
            if any(part.metric in ("recall", "precision") and part.printed.low <= 0 for part in known):
                continue
            low, high = span(function, *numbers)
            if not entry.printed.meets(low, high):
                given = ", ".join(f"{words(part.metric)} {part.printed.text}" for part in known)
                value = figure(function(*(number.value for number in numbers)))
                text = f"{quantity(entry)} is {entry.printed.text}, but {given} give {value}."
                found.append(Finding("contradiction", "from its parts", text, places((entry, *known))))
    return found


def macro_f1_possible(tables: PublishedTables) -> list[Finding]:
    """Macro F1 cannot exceed the mean of macro precision and macro recall, nor 2r / (1 + r) of either."""
    found = []
    for setting in tables.settings:
        entries = [tables.overall(setting, f"macro_{name}") for name in ("f1", "precision", "recall")]
        f1, precision, recall = entries
        if f1 is None or precision is None or recall is None:
            continue
        p, r = precision.printed.high, recall.printed.high
        most = min((p + r) / 2, 2 * p / (1 + p), 2 * r / (1 + r))
        if not f1.printed.meets(0, most):
            text = (
                f"macro F1 of {setting} is {f1.printed.text}, but macro precision {precision.printed.text} and macro "
                f"recall {recall.printed.text} allow at most {figure(most)}."
            )
            found.append(Finding("contradiction", "macro F1 possible", text, places((f1, precision, recall))))
    return found


def ratios(tables: PublishedTables) -> list[Finding]:
    """A ratio of distances that does not follow from them."""
    found = []
    for entry in _results(tables):
        if entry.metric != "separability_ratio" or entry.printed.averaged:
            continue
        of = (entry.kind, entry.name, entry.setting)
        inter, intra = tables.find(*of, "inter_class_distance"), tables.find(*of, "intra_class_distance")
        if inter is None or intra is None or intra.printed.low <= 0 or inter.printed.averaged or intra.printed.averaged:
            continue
        low, high = span(lambda a, b: a / b, inter.printed, intra.printed)
        if entry.printed.meets(low, high):
            continue
        text = (
            f"{quantity(entry)} is {entry.printed.text}, but {inter.printed.text} / {intra.printed.text} is "
            f"{inter.printed.value / intra.printed.value:.4f}"
        )
        close = entry.printed.meets(low * (1 - _MEAN_OF_RATIOS), high * (1 + _MEAN_OF_RATIOS))
        text += "; so near to it, it may be a mean of ratios, but not the ratio of these means." if close else "."
        rank: Rank = "suspicious" if close else "contradiction"
        found.append(Finding(rank, "ratio", text, places((entry, inter, intra))))
    return found


def _results(tables: PublishedTables) -> list[Entry]:
    return [
        entry
        for entry in tables.entries
        if entry.number is not None
        and entry.setting
        and tables.find(entry.kind, entry.name, entry.setting, entry.metric) is entry
    ]
