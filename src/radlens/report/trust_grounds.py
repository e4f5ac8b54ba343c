"""Why each map got its verdict: check by check, with the figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from radlens.report.contents import Row, RunContents
from radlens.report.map_kinds import ALL, map_words
from radlens.report.verdicts import MEANINGS, Key, TrustVerdict

Parts = tuple[tuple[str, str, str], ...]
_ANSWERS = {"false": "✗", "": "?", "true": "✓"}
"""What the evidence says, the gravest first."""


@dataclass(frozen=True)
class Ground:
    """One verdict, the maps (setting, layer: labels) that it holds for, and what each check said: (glyph, check, why).

    parts is empty for maps that were put to no check: the verdict's own sentence is all there is.
    """

    verdict: TrustVerdict
    maps: str
    parts: Parts


def grounds(run: RunContents, cards: Mapping[Key, TrustVerdict], method: str) -> tuple[Ground, ...]:
    """Every reason of one method once: maps that were put to a check first, then by verdict."""
    told: dict[Key, list[Row]] = {}
    for row in run.tables["trust_evidence"]:
        if row.get("method") == method and row.get("reason"):
            told.setdefault((row["setting"], method, row["layer"], row["label"]), []).append(row)
    places: dict[tuple[TrustVerdict, Parts], dict[str, list[str]]] = {}
    for key, card in cards.items():
        setting, own, layer, label = key
        if own == method and label != ALL:
            reason = (card, _parts(card, told.get(key, [])))
            places.setdefault(reason, {}).setdefault(map_words(setting, layer), []).append(label)
    order = {word: place for place, word in enumerate(MEANINGS)}
    found = (
        Ground(card, "; ".join(f"{where}: {', '.join(labels)}" for where, labels in of.items()), parts)
        for (card, parts), of in places.items()
    )
    return tuple(sorted(found, key=lambda one: (not one.verdict.tested, order.get(one.verdict.word, len(order)))))


def _parts(card: TrustVerdict, rows: list[Row]) -> Parts:
    """Rows of checks that the card counts, what failed first."""
    answers = list(_ANSWERS)
    own = [row for row in rows if card.state(row["check"]) not in {"missing", "spared"}]
    return tuple(
        (_ANSWERS.get(row["passed"].lower(), ""), row["check"], row["reason"])
        for row in sorted(own, key=lambda row: answers.index(row["passed"].lower()))
    )
