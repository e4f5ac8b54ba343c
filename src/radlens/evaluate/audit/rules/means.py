"""Overall figures against the rows that they are the mean of."""

from __future__ import annotations

from statistics import fmean

from radlens.evaluate.audit.findings import Finding, Rank, listed
from radlens.evaluate.audit.printed import SLACK, Printed
from radlens.evaluate.audit.published import Entry, PublishedTables, places
from radlens.evaluate.audit.words import figure, lower_is_better, stem, words

MEANS = ("f1", "precision", "recall", "specificity", "accuracy", "auroc", "average_precision", "brier", "log_loss")


def macro_means(tables: PublishedTables) -> list[Finding]:
    """A macro figure that is not the mean of the labels' figures, whichever way blanks are counted."""
    found: list[Finding] = []
    for metric in MEANS:
        wrong: list[tuple[str, Entry, float]] = []
        rows: list[Entry] = []
        readings: list[set[str]] = []
        for setting in tables.settings:
            stated, labels = tables.overall(setting, f"macro_{metric}"), tables.per("label", setting, metric)
            if stated is None or not labels or _follows(tables, stated.printed, metric, labels):
                continue
            wrong.append((setting, stated, fmean(entry.printed.value for entry in labels.values())))
            readings.append(_other_readings(tables, setting, metric, stated.printed, labels))
            rows += labels.values()
        if not wrong:
            continue
        pairs = listed([f"{s} {stated.printed.text} against {figure(mean)}" for s, stated, mean in wrong])
        count = len(tables.per("label", wrong[0][0], metric))
        text = f"{words('macro_' + metric)} is not the mean of the {count} labels' {words(metric)}: {pairs}"
        same = set.intersection(*readings)
        text += f"; it is {min(same)}." if same else "."
        rank: Rank = "suspicious" if same else "contradiction"
        found.append(Finding(rank, "macro mean", text, places([entry for _, entry, _ in wrong] + rows)))
    return found


def winner_flips(tables: PublishedTables) -> list[Finding]:
    """The best setting by the stated macro figure is not the best by the mean of the labels' figures."""
    found = []
    for metric in MEANS:
        stated = {s: tables.overall(s, f"macro_{metric}") for s in tables.settings}
        known = {s: entry for s, entry in stated.items() if entry is not None and tables.per("label", s, metric)}
        means = {s: _mean(list(tables.per("label", s, metric).values())) for s in known}
        counts = {len(tables.per("label", s, metric)) for s in known}
        # means over other labels are no match for each other
        if len(known) < 2 or len(counts) > 1:
            continue
        lower = lower_is_better(metric)
        by_stated = _winner({s: entry.printed for s, entry in known.items()}, lower)
        by_mean = _winner(means, lower)
        if not by_stated or not by_mean or by_stated == by_mean:
            continue
        text = (
            f"the winner flips: by the stated {words('macro_' + metric)} it is {by_stated} "
            f"({known[by_stated].printed.text} against {known[by_mean].printed.text} of {by_mean}), by the mean of the "
            f"labels' {words(metric)} it is {by_mean} ({figure(means[by_mean].value)} against "
            f"{figure(means[by_stated].value)} of {by_stated})."
        )
        rows = [entry for s in known for entry in tables.per("label", s, metric).values()]
        found.append(Finding("contradiction", "winner flips", text, places([*known.values(), *rows])))
    return found


def between_labels(tables: PublishedTables) -> list[Finding]:
    """A micro or weighted figure lies between the least and the greatest of its labels; weighted is also a mean."""
    found = []
    for setting in tables.settings:
        for metric in ("micro_f1", "weighted_f1", "micro_precision", "micro_recall"):
            entry, labels = tables.overall(setting, metric), tables.per("label", setting, stem(metric))
            if entry is None or not labels or len(labels) < tables.label_count:
                continue
            low = min(label.printed.low for label in labels.values())
            high = max(label.printed.high for label in labels.values())
            where = places([entry, *labels.values()])
            if not entry.printed.meets(low, high):
                text = (
                    f"{words(metric)} of {setting} is {entry.printed.text}, but its labels' {words(stem(metric))} "
                    f"reach from {figure(max(low, 0))} to {figure(high)} and it must lie between."
                )
                found.append(Finding("contradiction", "between labels", text, where))
            elif metric == "weighted_f1":
                mean = _weighted(tables, labels)
                if mean is not None and not entry.printed.meets(*mean):
                    text = (
                        f"weighted F1 of {setting} is {entry.printed.text}, but the labels' F1 weighted by prevalence "
                        f"give {figure(sum(mean) / 2)}."
                    )
                    found.append(Finding("contradiction", "weighted mean", text, where))
    return found


def hamming(tables: PublishedTables) -> list[Finding]:
    """Hamming loss is one less the mean accuracy of the labels."""
    found = []
    for setting in tables.settings:
        entry, labels = tables.overall(setting, "hamming_loss"), tables.per("label", setting, "accuracy")
        if entry is None or not labels or len(labels) < tables.label_count:
            continue
        mean = _mean(list(labels.values()))
        if not entry.printed.meets(1 - mean.high, 1 - mean.low):
            text = (
                f"hamming loss of {setting} is {entry.printed.text}, but one less the mean accuracy of its labels is "
                f"{figure(1 - mean.value)}."
            )
            found.append(Finding("contradiction", "hamming loss", text, places([entry, *labels.values()])))
    return found


def _follows(tables: PublishedTables, stated: Printed, metric: str, labels: dict[str, Entry]) -> bool:
    missing = tables.label_count - len(labels)
    mean = _mean(list(labels.values()))
    if stated.meets(mean.low, mean.high):
        return True
    if missing == 0:
        return False
    # a blank may have been counted as anything in the range, or left out
    total, most = tables.label_count, 1.0 if metric != "log_loss" else float("inf")
    return stated.meets(mean.low * len(labels) / total, (mean.high * len(labels) + missing * most) / total)


def _other_readings(
    tables: PublishedTables, setting: str, metric: str, stated: Printed, labels: dict[str, Entry]
) -> set[str]:
    above_zero = [entry for entry in labels.values() if entry.printed.value > 0]
    findings = [entry for name, entry in labels.items() if name.casefold() != "no finding"]
    ways = {
        "the mean of the labels that are not 0": above_zero,
        "the mean without No Finding": findings,
        "the mean of the domains": list(tables.per("domain", setting, metric).values()),
    }
    found = set()
    for way, entries in ways.items():
        if entries and len(entries) < len(labels) and stated.meets(_mean(entries).low, _mean(entries).high):
            found.add(way)
    return found


def _mean(entries: list[Entry]) -> Printed:
    low, value, high = (fmean(getattr(e.printed, name) for e in entries) for name in ("low", "value", "high"))
    return Printed(figure(value), value, low, high)


def _winner(numbers: dict[str, Printed], lower: bool) -> str:
    """The setting that is best whatever was rounded away; empty where none is."""
    for setting, number in numbers.items():
        others = [other for name, other in numbers.items() if name != setting]
        if all(number.high < o.low - SLACK if lower else number.low > o.high + SLACK for o in others):
            return setting
    return ""


def _weighted(tables: PublishedTables, labels: dict[str, Entry]) -> tuple[float, float] | None:
    weights = [tables.prevalence(name) for name in labels]
    known = [weight for weight in weights if weight is not None and weight.high > 0]
    if len(known) < len(labels) or len({tables.size(name, "label") for name in labels}) > 1:
        return None
    values = [entry.printed for entry in labels.values()]
    return (
        _extreme([v.low for v in values], known, highest=False),
        _extreme([v.high for v in values], known, highest=True),
    )


def _extreme(values: list[float], weights: list[Printed], highest: bool) -> float:
    # a weighted mean is extreme where all weights below some value are at one end and all above at the other
    order = sorted(zip(values, weights, strict=True), key=lambda pair: pair[0])
    means = []
    for cut in range(len(order) + 1):
        used = [
            (value, max(0.0, weight.high if (i >= cut) == highest else weight.low))
            for i, (value, weight) in enumerate(order)
        ]
        total = sum(weight for _, weight in used)
        if total > 0:
            means.append(sum(value * weight for value, weight in used) / total)
    return max(means) if highest else min(means)
