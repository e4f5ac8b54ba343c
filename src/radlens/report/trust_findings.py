"""The finding on heatmaps: how many may be believed, which, and why the rest may not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from radlens.report.contents import FEW, RunContents, number
from radlens.report.map_kinds import ALL, map_words
from radlens.report.trust import opening
from radlens.report.verdicts import Key, TrustVerdict, trust_verdicts

_NAMED = 3


def believed(run: RunContents) -> str:
    """One to four sentences; empty where the run has no trust cards."""
    cards = trust_verdicts(run)
    if not cards:
        return ""
    own = {key: card for key, card in cards.items() if key[3] != ALL} or cards
    told = opening(cards)
    text = f"May the heatmaps be believed: {told[:1].lower()}{told[1:]}"
    return " ".join(one for one in (text, _named(own), _failed(own), _few(run, own)) if one)


def _named(cards: Mapping[Key, TrustVerdict]) -> str:
    found = [key for key, card in cards.items() if card.word == "may be believed"]
    if not found:
        return ""
    names = [f"{label} in {setting} ({map_words(method, layer)})" for setting, method, layer, label in found[:_NAMED]]
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return f"Those that may: {', '.join(names)}{more}."


def _failed(cards: Mapping[Key, TrustVerdict]) -> str:
    counted = Counter(check for card in cards.values() if card.word == "contradicted" for check in card.failed)
    told = [f"{check} ({count})" for check, count in counted.most_common(_NAMED)]
    return f"The checks that contradict most often: {', '.join(told)}." if told else ""


def _few(run: RunContents, cards: Mapping[Key, TrustVerdict]) -> str:
    """How many are not shown because a check had too few patients for an answer."""
    open_ = [key for key, card in cards.items() if card.word == "not shown" and card.undecided]
    small = {
        (row["setting"], row["method"], row["layer"], row["label"])
        for row in run.tables["trust_evidence"]
        if not row.get("passed") and number(row.get("patients")) < FEW
    }
    count = sum(key in small for key in open_)
    if not count:
        return ""
    return f"{count} {'is' if count == 1 else 'are'} not shown because fewer than {FEW} patients leave a check open."
