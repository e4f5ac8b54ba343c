"""What a text says of a setting against the figures of its tables."""

from __future__ import annotations

from radlens.evaluate.audit.findings import Finding, Rank, listed
from radlens.evaluate.audit.printed import SLACK, Printed
from radlens.evaluate.audit.published import ANY, MOST, Claim, Entry, PublishedTables, places
from radlens.evaluate.audit.words import lower_is_better, quantity, words

# figures further apart than this share of the greater are not "nearly the same"
_NEAR = 0.10
_SAID = {
    "best": "the best",
    ">": "higher than {other}",
    "<": "lower than {other}",
    "=": "the same as {other}",
    "~": "nearly the same as {other}",
}


def text_against_tables(tables: PublishedTables) -> list[Finding]:
    """Statements that their figures refute."""
    found = []
    for claim in tables.claims:
        finding = _many(tables, claim) if claim.name in (ANY, MOST) else _one(tables, claim)
        if finding is not None:
            found.append(finding)
    return found


def _one(tables: PublishedTables, claim: Claim) -> Finding | None:
    against = _against(tables, claim, claim.name)
    if against is None:
        return None
    own, other = against
    rank: Rank = "contradiction"
    if claim.relation == "=" and abs(own.printed.value - other.printed.value) < 0.01 * abs(other.printed.value):
        rank = "suspicious"
    text = (
        f"{quantity(claim)} is said to be {_said(claim)}, but it is {own.printed.text} against {other.printed.text} of "
        f"{other.setting}."
    )
    return Finding(rank, "text against table", text, places((claim, own, other)))


def _many(tables: PublishedTables, claim: Claim) -> Finding | None:
    names = tables.labels if claim.kind == "label" else tables.domains
    known = [name for name in names if tables.find(claim.kind, name, claim.setting, claim.metric)]
    failing = {name: pair for name in known if (pair := _against(tables, claim, name)) is not None}
    holds = len(known) - len(failing)
    if not known or not failing or (claim.name == MOST and 2 * holds > len(known)):
        return None
    pairs = listed([f"{n} {own.printed.text} against {other.printed.text}" for n, (own, other) in failing.items()], 4)
    which = "all" if claim.name == ANY else "most"
    text = (
        f"{words(claim.metric)} of {claim.setting} is said to be {_said(claim)} in {which} {claim.kind}s, but is not "
        f"in {len(failing)} of {len(known)}: {pairs}."
    )
    cells = [cell for pair in failing.values() for cell in pair]
    return Finding("contradiction", "text against table", text, places((claim, *cells)))


def _said(claim: Claim) -> str:
    return _SAID[claim.relation].format(other=claim.other)


def _against(tables: PublishedTables, claim: Claim, name: str) -> tuple[Entry, Entry] | None:
    """The claim's own cell and one that refutes it; None where it holds, or where a figure is missing."""
    own = tables.find(claim.kind, name, claim.setting, claim.metric)
    if own is None:
        return None
    others = [claim.other] if claim.other else [s for s in tables.settings if s != claim.setting]
    cells = [cell for s in others if (cell := tables.find(claim.kind, name, s, claim.metric)) is not None]
    relation = claim.relation
    if relation == "best":
        relation = "<" if lower_is_better(claim.metric) else ">"
    refuting = [cell for cell in cells if _refuted(own.printed, relation, cell.printed)]
    if not refuting:
        return None
    best = min if relation == "<" else max
    return own, best(refuting, key=lambda cell: cell.printed.value)


def _refuted(own: Printed, relation: str, other: Printed) -> bool:
    """Whether no true values behind two printed numbers stand in the relation."""
    gap = max(own.low - other.high, other.low - own.high)
    if relation == "=":
        return gap > SLACK
    if relation == "~":
        return gap > _NEAR * max(abs(own.value), abs(other.value))
    return own.high < other.low - SLACK if relation == ">" else own.low > other.high + SLACK
