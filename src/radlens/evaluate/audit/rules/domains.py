"""Domains against their labels: a domain is there when any of its labels is."""

from __future__ import annotations

from radlens.evaluate.audit.findings import Finding, listed
from radlens.evaluate.audit.printed import SLACK
from radlens.evaluate.audit.published import PublishedTables, places
from radlens.evaluate.audit.words import figure, quantity, words

_SAME = ("f1", "precision", "recall", "specificity", "accuracy", "auroc", "average_precision", "prevalence")


def one_label_domains(tables: PublishedTables) -> list[Finding]:
    """A domain of one label with another value than that label."""
    found = []
    for domain, members in tables.members.items():
        if len(members) != 1:
            continue
        for setting in ("", *tables.settings):
            for metric in _SAME:
                entry = tables.find("domain", domain, setting, metric)
                label = tables.find("label", members[0], setting, metric)
                if entry is None or label is None or entry.printed.meets(label.printed.low, label.printed.high):
                    continue
                text = (
                    f"{quantity(entry)} is {entry.printed.text} in {entry.place}, but its only label, {members[0]}, "
                    f"has {label.printed.text} in {label.place}."
                )
                found.append(Finding("contradiction", "one-label domain", text, places((entry, label))))
    return found


def least_domain_f1(tables: PublishedTables) -> list[Finding]:
    """A domain's F1 below 1 / (1 + sum over its labels of (1 - F1) / F1), the least that OR of decisions can give.

    The domain has at least the hits of its label with most hits, T, and at most all its labels' errors; a label makes
    2 (1 - F1) / F1 errors a hit, and has at most T hits.
    """
    found = []
    for setting in tables.settings:
        labels, domains = tables.per("label", setting, "f1"), tables.per("domain", setting, "f1")
        for domain, members in tables.members.items():
            entry = domains.get(domain)
            known = [labels[name] for name in members if name in labels]
            if entry is None or len(members) < 2 or len(known) < len(members):
                continue
            if any(label.printed.low <= 0 or label.printed.averaged for label in known):
                continue
            least = 1 / (1 + sum((1 - min(label.printed.low, 1.0)) / label.printed.low for label in known))
            if entry.printed.high < least - SLACK:
                said = listed([f"{label.name} {label.printed.text}" for label in known])
                text = (
                    f"{quantity(entry)} is {entry.printed.text}, but a domain that is called when any of its labels is "
                    f"cannot be below {figure(least)} with {said}."
                )
                found.append(Finding("contradiction", "least domain F1", text, places((entry, *known))))
    return found


def domain_prevalence(tables: PublishedTables) -> list[Finding]:
    """A domain's prevalence below that of one of its labels or above their sum."""
    found = []
    for domain, members in tables.members.items():
        entry = tables.find("domain", domain, "", "prevalence")
        labels = [tables.find("label", name, "", "prevalence") for name in members]
        known = [label for label in labels if label is not None]
        sizes = {tables.size(name, "label") for name in members} | {tables.size(domain, "domain")}
        if entry is None or len(members) < 2 or len(known) < len(members) or len(sizes) > 1:
            continue
        least, most = max(label.printed.low for label in known), sum(label.printed.high for label in known)
        if not entry.printed.meets(least, most):
            text = (
                f"{words('prevalence')} of {domain} is {entry.printed.text}, but its labels allow {figure(least)} to "
                f"{figure(min(most, 1.0))}."
            )
            found.append(Finding("contradiction", "domain prevalence", text, places((entry, *known))))
    return found
