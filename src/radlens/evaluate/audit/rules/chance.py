"""What no skill gives: F1 of calling every image positive, and figures no better than chance."""

from __future__ import annotations

from dataclasses import dataclass

from radlens.evaluate.audit.findings import Finding, listed
from radlens.evaluate.audit.printed import SLACK
from radlens.evaluate.audit.published import Entry, PublishedTables, places
from radlens.evaluate.audit.words import figure, words


@dataclass(frozen=True)
class _Base:
    """Share of positives of a label: the range it lies in, how it is stated, and the cell it stands in."""

    low: float
    value: float
    high: float
    stated: str
    entry: Entry
    of_test: bool


def always_positive(prevalence: float) -> float:
    """F1 of calling every image positive, 2p / (1 + p)."""
    return 2 * prevalence / (1 + prevalence)


def implied_prevalence(f1: float) -> float:
    """The prevalence at which calling every image positive gives this F1, F1 / (2 - F1)."""
    return max(f1, 0.0) / (2 - f1)


def equals_always_positive(tables: PublishedTables) -> list[Finding]:
    """F1 that print as 2p / (1 + p) of the test set's prevalences in most labels."""
    found = []
    for setting in tables.settings:
        equal, known = [], []
        for name, entry in tables.per("label", setting, "f1").items():
            base = _base(tables, name)
            if base is None or not base.of_test or base.high <= 0:
                continue
            known.append(name)
            # all digits of a value near 0 agree with much
            if entry.printed.low > 0 and entry.printed.meets(always_positive(base.low), always_positive(base.high)):
                equal.append((name, entry, base))
        if len(equal) < 2 or 2 * len(equal) <= len(known):
            continue
        pairs = listed([f"{name} {entry.printed.text} at {base.stated}" for name, entry, base in equal])
        text = (
            f"F1 of {setting} is what calling every image positive gives, 2p / (1 + p), in {len(equal)} of "
            f"{len(known)} labels: {pairs}."
        )
        found.append(Finding("suspicious", "always positive", text, places(entry for _, entry, _ in equal)))
    return found


def below_always_positive(tables: PublishedTables) -> list[Finding]:
    """F1 no greater than calling every image positive gives, of every setting."""
    bases = {name: base for name in tables.labels if (base := _base(tables, name)) is not None}
    said, where = [], []
    for setting in tables.settings:
        labels = tables.per("label", setting, "f1")
        below = {n: labels[n] for n, b in bases.items() if n in labels and _not_above(labels[n], b)}
        if below:
            said.append(f"{setting} in {listed([_beside(n, e, bases[n]) for n, e in below.items()])}")
            where += [cell for name, entry in below.items() for cell in (entry, bases[name].entry)]
    if not said:
        return []
    of_all = "" if all(base.of_test for base in bases.values()) else " by the counts of all data"
    text = (
        f"F1 is no better than that of calling every image positive, 2p / (1 + p){of_all}, among the {len(bases)} "
        f"labels whose positives are stated: {'; '.join(said)}."
    )
    return [Finding("suspicious", "below always positive", text, places(where))]


def _beside(name: str, entry: Entry, base: _Base) -> str:
    own = f" (that of p = {figure(implied_prevalence(entry.printed.value))})" if entry.printed.value > 0 else ""
    return f"{name} {entry.printed.text}{own} against {figure(always_positive(base.value))} (p = {figure(base.value)})"


def _not_above(entry: Entry, base: _Base) -> bool:
    return entry.printed.high < always_positive(base.value) - SLACK


def fits_always_positive(tables: PublishedTables) -> list[Finding]:
    """A setting whose F1 fit together, label with label and domain with domain, as an always-positive rule's would.

    Asked only where the test set's prevalences are not stated: the prevalences that the F1 imply must then agree with a
    stated count within two standard errors and fall below none, each domain must need a prevalence between the greatest
    and the sum of its labels', a domain of one label must equal it, and exact match must print as 0. Weak decisions may
    pass all this too: it is a note, and the figures show how near it comes.
    """
    if any(tables.prevalence(name) for name in tables.labels) or not any(
        len(members) > 1 and domain in tables.domains for domain, members in tables.members.items()
    ):
        return []
    fitting = {setting: _fit(tables, setting) for setting in tables.settings}
    found = []
    for setting, fit in fitting.items():
        if fit is None:
            continue
        others = [other for other in tables.settings if fitting[other] is None]
        text = (
            f"that {setting} calls every image positive, F1 = 2p / (1 + p), is not refuted: {fit[0]}"
            + (f"; of {listed(others)} it is refuted" if others else "")
            + f"{fit[1]}."
        )
        entries = [*tables.per("label", setting, "f1").values(), *tables.per("domain", setting, "f1").values()]
        counts = [s[1] for name in tables.labels if (s := tables.stated_share(name)) is not None]
        found.append(Finding("note", "fits always positive", text, places([*entries, *counts])))
    return found


def _fit(tables: PublishedTables, setting: str) -> tuple[str, str] | None:
    """What fits, in words, and what stands against it; None where an always-positive rule is refuted."""
    labels, domains = tables.per("label", setting, "f1"), tables.per("domain", setting, "f1")
    if len(labels) < max(5, tables.label_count) or any(entry.printed.low <= 0 for entry in labels.values()):
        return None
    low = {name: implied_prevalence(entry.printed.low) for name, entry in labels.items()}
    high = {name: implied_prevalence(entry.printed.high) for name, entry in labels.items()}
    value = {name: implied_prevalence(entry.printed.value) for name, entry in labels.items()}
    agree, against, fewer = _counts_agree(tables, value)
    if not agree or fewer:
        return None
    said = [f"{name} {labels[name].printed.text} needs p = {figure(value[name])} ({stated})" for name, stated in agree]
    alone = []
    for domain, members in tables.members.items():
        entry = domains.get(domain)
        if entry is None or any(name not in labels for name in members):
            continue
        least, most = max(low[name] for name in members), min(1.0, sum(high[name] for name in members))
        needs = implied_prevalence(entry.printed.low), implied_prevalence(entry.printed.high)
        if needs[1] < least - SLACK or needs[0] > most + SLACK:
            return None
        if len(members) > 1:
            needed = figure(implied_prevalence(entry.printed.value))
            said.append(f"{domain} needs {needed} and its labels allow {figure(least)} to {figure(most)}")
        else:
            alone.append(domain)
    if alone:
        said.append(
            f"{listed(alone)} print as their one label" if len(alone) > 1 else f"{alone[0]} prints as its label"
        )
    exact = tables.overall(setting, "exact_match")
    if exact is None or exact.printed.low > 0:
        return None
    said.append(f"exact match is {exact.printed.text}")
    caveat = (
        f"; but more positives than stated are needed for {listed(against)}: there {setting} does better, or the "
        "counts are not the test set's"
        if against
        else ""
    )
    return "; ".join(said), caveat


def _counts_agree(tables: PublishedTables, implied: dict[str, float]) -> tuple[list[tuple[str, str]], list[str], bool]:
    """Labels whose stated count agrees, nearest first; those that need more than stated; whether any needs fewer."""
    size = tables.fact("test_fraction")
    agree: list[tuple[float, str, str]] = []
    against = []
    fewer = False
    for name, needed in implied.items():
        stated = tables.stated_share(name)
        if stated is None or size is None:
            continue
        share, entry = stated
        assert entry.n is not None
        error = (share * (1 - share) / (entry.n.value * size.printed.value)) ** 0.5
        said = f"stated {entry.printed.text} of {entry.n.text}, {figure(share)}"
        if abs(needed - share) <= 2 * error:
            agree.append((abs(needed - share) / error, name, said))
        elif needed < share:
            fewer = True
        else:
            against.append(f"{name} ({figure(needed)}, stated {figure(share)})")
    return [(name, said) for _, name, said in sorted(agree)], against, fewer


def no_better_than_chance(tables: PublishedTables) -> list[Finding]:
    """AUROC of at most .5, average precision of at most the prevalence."""
    found = []
    for setting in tables.settings:
        for metric in ("auroc", "average_precision"):
            below = []
            for name, entry in tables.per("label", setting, metric).items():
                prevalence = tables.prevalence(name)
                chance = 0.5 if metric == "auroc" else prevalence.low if prevalence else -1.0
                if entry.printed.high < chance - SLACK:
                    below.append((f"{name} {entry.printed.text} (chance {figure(chance)})", entry))
            if below:
                text = f"{words(metric)} of {setting} is below chance: {listed([said for said, _ in below])}."
                found.append(Finding("note", "chance", text, places(entry for _, entry in below)))
    return found


def no_hit(tables: PublishedTables) -> list[Finding]:
    """Labels whose F1 is 0 to the last digit: not one positive image was found."""
    size = tables.about_size()
    said: list[str] = []
    where: list[Entry] = []
    for setting in tables.settings:
        labels = tables.per("label", setting, "f1")
        # one hit gives F1 of at least 2 / (2n): a printed 0 must be finer than that to mean none
        none = {n: e for n, e in labels.items() if size and e.printed.value == 0 and e.printed.high < 0.9 / size}
        if none:
            said.append(f"{setting} in {len(none)} of {len(labels)} ({listed(list(none), 8)})")
            where += none.values()
    if not said:
        return []
    return [Finding("note", "no hit", f"F1 is 0, not one hit in a label: {'; '.join(said)}.", places(where))]


def errors_for_each_hit(tables: PublishedTables) -> list[Finding]:
    """F1 so close above 0 that each hit came with a hundred errors or more: 2 (1 - F1) / F1 false alarms and misses."""
    many = [
        entry
        for setting in tables.settings
        for entry in tables.per("label", setting, "f1").values()
        if entry.printed.low > 0 and _errors(entry) >= 100
    ]
    if not many:
        return []
    said = listed([f"{e.name} in {e.setting} {e.printed.text} about {_errors(e):.0f}" for e in many])
    text = f"an F1 so near 0 means a hundred false alarms and misses or more for each hit, 2 (1 - F1) / F1: {said}."
    return [Finding("note", "errors for each hit", text, places(many))]


def _errors(entry: Entry) -> float:
    return 2 * (1 - entry.printed.value) / entry.printed.value


def _base(tables: PublishedTables, name: str) -> _Base | None:
    prevalence = tables.find("label", name, "", "prevalence")
    if prevalence is not None:
        p = prevalence.printed
        return _Base(max(p.low, 0.0), p.value, p.high, f"p = {p.text}", prevalence, True)
    stated = tables.stated_share(name)
    if stated is None:
        return None
    share, entry = stated
    assert entry.n is not None
    said = f"{entry.printed.text} of {entry.n.text} of all data"
    return _Base(share, share, share, said, entry, False)
