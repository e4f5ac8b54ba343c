"""Differences and figures that the number of test images or positives cannot carry."""

from __future__ import annotations

import math

from radlens.evaluate.audit.findings import Finding, listed
from radlens.evaluate.audit.published import Entry, PublishedTables, places
from radlens.evaluate.audit.words import figure, words

FEW = 10
_Z = 1.96


def f1_error(f1: float, positives: float) -> float:
    """The least standard error of an F1 on this many positive images.

    F1 = 2a / (2a + e) with hits a and errors e; by the delta method its variance is F (1 - F) (2 - F) / (2a + e), and
    2a + e is at most 2 x positives / F1, reached when every positive is hit.
    """
    if not 0 < f1 < 1 or positives <= 0:
        return 0.0
    return math.sqrt(f1 * (1 - f1) * (2 - f1) * f1 / (2 * positives))


def share_error(share: float, n: float) -> float:
    """Standard error of a share of n images."""
    return math.sqrt(max(share * (1 - share), 0.0) / n)


def few_positives(tables: PublishedTables) -> list[Finding]:
    """Labels with fewer than ten positives in the test set."""
    few, names = [], []
    for name in tables.labels:
        positives = tables.about_positives(name)
        if positives is not None and positives < FEW - 1e-9:
            few.append(f"{name} {_about(tables, name)}")
            names.append(name)
    if not few:
        return []
    text = (
        f"fewer than {FEW} test positives, where no interval of F1 can be trusted and figures are not estimable: "
        f"{listed(few)}."
    )
    entries = [e for e in tables.entries if e.name in names and e.metric in ("positives", "prevalence")]
    share = tables.fact("test_fraction")
    return [Finding("note", "few positives", text, places([*entries, *([share] if share else [])]))]


def f1_differences(tables: PublishedTables) -> list[Finding]:
    """Labels whose best F1 leads the second by less than independent test sets of this size would show."""
    close = []
    entries: list[Entry] = []
    counted = 0
    for name in tables.labels:
        positives = tables.about_positives(name)
        cells = [e for s in tables.settings if (e := tables.find("label", name, s, "f1")) is not None]
        if positives is None or positives < FEW or len(cells) < 2:
            continue
        counted += 1
        first, second = sorted(cells, key=lambda e: -e.printed.value)[:2]
        lead = first.printed.value - second.printed.value
        visible = _Z * math.hypot(*(f1_error(e.printed.value, positives) for e in (first, second)))
        if lead < visible:
            close.append(
                f"{name} {first.printed.text} ({first.setting}) and {second.printed.text} ({second.setting}), visible "
                f"from {figure(visible)} on {_about(tables, name)}"
            )
            entries += (first, second)
    if not close:
        return []
    text = (
        f"in {len(close)} of {counted} labels with a known count of {FEW} test positives or more, the best F1 leads by "
        f"less than they can show without a paired comparison: {'; '.join(close)}."
    )
    return [Finding("note", "difference too small", text, places(entries))]


def share_differences(tables: PublishedTables) -> list[Finding]:
    """Settings whose exact match or accuracy leads by less than this many images can show."""
    found = []
    size = tables.about_size()
    for metric in ("exact_match", "accuracy"):
        cells = [e for s in tables.settings if (e := tables.overall(s, metric)) is not None]
        if size is None or len(cells) < 2:
            continue
        first, second = sorted(cells, key=lambda e: -e.printed.value)[:2]
        visible = _Z * math.hypot(*(share_error(e.printed.value, size) for e in (first, second)))
        if first.printed.value - second.printed.value < visible:
            about = "" if tables.size() else "about "
            text = (
                f"{words(metric)} {first.printed.text} of {first.setting} leads {second.printed.text} of "
                f"{second.setting} by {figure(first.printed.value - second.printed.value)}, but on {about}{size:,.0f} "
                f"test images a lead is visible from {figure(visible)} without a paired comparison."
            )
            found.append(Finding("note", "difference too small", text, places((first, second))))
    return found


def _about(tables: PublishedTables, name: str) -> str:
    positives = tables.about_positives(name)
    assert positives is not None
    exact = tables.prevalence(name) is not None
    return f"{positives:.0f} positives" if exact else f"about {positives:.{int(positives < FEW)}f} positives"
