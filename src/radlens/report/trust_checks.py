"""What each check of the trust card asks, what it found, and which were not made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from radlens.report.contents import Row, RunContents, number
from radlens.report.map_kinds import (
    ALL,
    Block,
    column_blocks,
    column_heads,
    in_order,
    labels_of,
    map_words,
    settings_of,
)
from radlens.report.tables import Cell, Head, Table, TableRow
from radlens.report.verdicts import Key, TrustVerdict

QUESTIONS = {
    "lift": "Does it point into the marked region more than maps that never saw the image?",
    "deletion": "Does the score fall faster when the patches that it marks are blurred first?",
    "insertion": "Does the score rise faster when the patches that it marks are shown first?",
    "road": "The same, with removed patches filled in from their surroundings: less of a trick than blur.",
    "randomisation": "Does the map change when the model’s weights are shuffled? One that stays shows the film, "
    "not the model.",
    "class-specific": "Does it mark its own finding’s region more than the maps of other findings do?",
    "stability": "Does it stay the same when the film is moved by a few pixels?",
    "seeds": "Does it stay the same when training starts from another seed?",
    "text": "In zero-shot: does it change when the sentence is nonsense, denied, or names the other side?",
}
"""Each check as the question that it answers."""
_ANNOTATED = ("lift", "class-specific")
_SMALL = 0.1
_STATES = {
    "passed": ("✓", "passed"),
    "failed": ("✗", "failed"),
    "open": ("?", "no answer"),
    "missing": ("·", "not tested"),
    "spared": ("", "does not apply to this setting"),
}


def check_blocks(
    run: RunContents, cards: Mapping[Key, TrustVerdict], method: str, colours: Mapping[str, str]
) -> tuple[Block, ...]:
    """What each check found for the first method, all labels together: the map's figure, and what it had to beat."""
    told: dict[tuple[str, ...], list[Row]] = {}
    for row in run.tables["trust_evidence"]:
        if row.get("method") == method and row.get("label") == ALL:
            told.setdefault((row["setting"], row["layer"], row["check"]), []).append(row)
    rows = [row for row in run.tables["trust_cards"] if row.get("method") == method and row.get("label") == ALL]
    named = {check for card in cards.values() for check in (*card.passed, *card.failed, *card.undecided, *card.missing)}
    checks = (*(check for check in QUESTIONS if check in named), *sorted(named - set(QUESTIONS)))
    defined = {str(given["column"]): str(given.get("text") or "") for given in run.definitions if _of_trust(given)}
    found = []
    for layer, columns in column_blocks(settings_of(run, rows), in_order(rows, "layer")):
        lines = []
        for check in checks:
            cells = [Cell(QUESTIONS.get(check, ""), kind="words long question")]
            for setting, at in columns:
                card = cards.get((setting, method, at, ALL))
                cells.append(_outcome(card, check, told.get((setting, at, check), [])))
            lines.append(TableRow(check, tuple(cells), title=defined.get(check, "")))
        heads, layers = column_heads(columns, colours)
        above = (Head("", 1), *layers) if layers else ()
        asked = Head("What it asks of a map", kind="words")
        found.append(Block(map_words(method, layer), Table("Check", (asked, *heads), tuple(lines), above)))
    return tuple(found)


def untested(run: RunContents, cards: Mapping[Key, TrustVerdict]) -> tuple[str, ...]:
    """What no map was put to and how to have it tested; and the labels that no check was made for."""
    made = {check for card in cards.values() for check in (*card.passed, *card.failed, *card.undecided)}
    never = [c for c in QUESTIONS if c not in made and any(c in card.missing for card in cards.values())]
    notes = []
    again = [check for check in never if check not in _ANNOTATED]
    if again:
        notes.append(
            f"Not tested in this run: {', '.join(again)}. They run the model again on changed films; "
            "explain: {trust: true} in the study file asks for all of them."
        )
    regions = [check for check in never if check in _ANNOTATED]
    if regions:
        notes.append(
            f"Not tested in this run: {', '.join(regions)}. They need regions that a reader marked; name them in the "
            "study file by explain: {annotations: ..., format: ...}."
        )
    idle = [x for x in labels_of(run, run.tables["trust_cards"]) if x != ALL and not _any_tested(cards, x)]
    shows = "has a marked region of" if run.tables["localization"] else "shows"
    if idle and made:
        notes.append(
            f"No check could be made for {', '.join(idle)}: no explained film {shows} "
            f"{'it' if len(idle) == 1 else 'them'}. A map that was never tested is not to be believed, however it "
            "looks."
        )
    return tuple(notes)


def _of_trust(given: Mapping[str, object]) -> bool:
    return given.get("table") == "trust"


def _outcome(card: TrustVerdict | None, check: str, rows: Sequence[Row]) -> Cell:
    if card is None:
        return Cell("—", kind="outcome", title="no such map")
    state = card.state(check)
    glyph, words = _STATES[state]
    # of several rows the one that decided: the first that failed, or that has no answer
    answer = {"failed": "false", "open": ""}.get(state, "true")
    decided = [row for row in rows if row.get("passed", "").lower() == answer] or list(rows)
    figures = ""
    if decided and state != "spared":
        value, rival = (number(decided[0].get(key)) for key in ("value", "rival"))
        digits = 2 if max(abs(value), abs(rival)) >= _SMALL else 3
        figures = (
            f"{value:.{digits}f} / {rival:.{digits}f}".replace("-", "−") if value == value and rival == rival else ""
        )
    reasons = "; ".join(row["reason"] for row in decided if row.get("reason")) if state != "missing" else ""
    return Cell(
        glyph or "—", kind=f"outcome {state}", title=f"{words}: {reasons}" if reasons else words, interval=figures
    )


def _any_tested(cards: Mapping[Key, TrustVerdict], label: str) -> bool:
    return any(card.tested for key, card in cards.items() if key[3] == label)
