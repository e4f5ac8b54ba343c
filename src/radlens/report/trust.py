"""May these heatmaps be believed: the verdict on every kind of map, what each check found, and what was not tested."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from radlens.report.contents import RunContents
from radlens.report.map_kinds import (
    ALL,
    NO_LAYER,
    Block,
    column_blocks,
    column_heads,
    in_order,
    label_words,
    labels_of,
    map_words,
    settings_of,
)
from radlens.report.tables import Cell, Table, TableRow
from radlens.report.trust_checks import check_blocks, untested
from radlens.report.trust_grounds import Ground, grounds
from radlens.report.verdicts import Key, TrustVerdict, trust_verdicts

_TITLES, _LONG = 600, 400
"""More cards than this, or a longer sentence, and a cell tells the names of the checks alone."""


@dataclass(frozen=True)
class TrustSection:
    """The section. first, further: verdicts of the study's first method and of all others; checks: what each found."""

    opening: str
    method: str
    layer: str
    first: tuple[Block, ...]
    further: tuple[Block, ...]
    checks: tuple[Block, ...]
    grounds: tuple[Ground, ...]
    untested: tuple[str, ...]
    definitions: tuple[tuple[str, str], ...]


def trust_section(run: RunContents, colours: Mapping[str, str]) -> TrustSection | None:
    """None where the run has no trust cards."""
    cards = trust_verdicts(run)
    methods = in_order(run.tables["trust_cards"], "method")
    if not cards or not methods:
        return None
    method = next((m for m in methods if m != ALL), methods[0])
    blocks = {m: _blocks(run, cards, m, colours) for m in methods}
    layers = _layers(run, method)
    return TrustSection(
        opening(cards),
        method,
        layers[0] if layers else NO_LAYER,
        blocks[method],
        tuple(block for m in methods if m != method for block in blocks[m]),
        check_blocks(run, cards, method, colours),
        grounds(run, cards, method),
        untested(run, cards),
        tuple(
            (name, str(given.get("text") or ""))
            for given in run.definitions
            if given.get("table") == "trust" and (name := str(given["column"]))
        ),
    )


def opening(cards: Mapping[Key, TrustVerdict]) -> str:
    """How many kinds of heatmap got which verdict, all labels together left out."""
    own = [card for key, card in cards.items() if key[3] != ALL] or list(cards.values())
    found = Counter(card.word for card in own)
    believed = found["may be believed"]
    kinds = f"{len(own)} {'kind' if len(own) == 1 else 'kinds'} of heatmap (a setting, method, depth and label each)"
    text = f"Of {kinds} {believed or 'none'} may be believed"
    rest = [("contradicted", "contradicted"), ("refused", "refused"), ("not shown", "not shown")]
    told = [f"{found[word]} {'is' if found[word] == 1 else 'are'} {words}" for word, words in rest if found[word]]
    text += "".join(f", {one}" for one in told[:-1]) + (f" and {told[-1]}." if told else ".")
    idle = sum(not card.tested for card in own)
    if idle:
        text += f" {'All' if idle == len(own) else idle} of them were put to no check at all."
    return text


def _layers(run: RunContents, method: str) -> tuple[str, ...]:
    return in_order((row for row in run.tables["trust_cards"] if row.get("method") == method), "layer")


def _blocks(
    run: RunContents, cards: Mapping[Key, TrustVerdict], method: str, colours: Mapping[str, str]
) -> tuple[Block, ...]:
    """Verdicts of one method: a row a label, a column a setting and layer; labels never put to a check come last."""
    rows = [row for row in run.tables["trust_cards"] if row.get("method") == method]
    settings, labels = settings_of(run, rows), labels_of(run, rows)
    short = len(cards) > _TITLES
    found = []
    for layer, columns in column_blocks(settings, in_order(rows, "layer")):
        of = {x: [cards.get((setting, method, at, x)) for setting, at in columns] for x in labels}
        tested = [x for x in labels if any(card and card.tested for card in of[x])]
        idle = [x for x in labels if x not in tested]
        lines = [_line(x, of[x], short) for x in tested]
        if idle:
            lines += [TableRow("Put to no check"), *_idle(idle, of, short)]
        heads, layers = column_heads(columns, colours)
        found.append(Block(map_words(method, layer), Table("Label", heads, tuple(lines), layers)))
    return tuple(found)


def _idle(labels: Sequence[str], of: Mapping[str, Sequence[TrustVerdict | None]], short: bool) -> list[TableRow]:
    """Labels with the same verdicts in every column share a row."""
    alike: dict[tuple[TrustVerdict | None, ...], list[str]] = {}
    for label in labels:
        alike.setdefault(tuple(of[label]), []).append(label)
    lines = []
    for group in alike.values():
        line = _line(group[0], of[group[0]], short)
        if len(group) > 1:
            line = replace(line, name=f"{len(group)} labels", title=", ".join(map(label_words, group)))
        lines.append(line)
    return lines


def _line(label: str, cards: Sequence[TrustVerdict | None], short: bool) -> TableRow:
    cells = (
        Cell(
            f"{card.glyph} {card.word}".strip(),
            kind=f"verdict {card.kind}",
            title=card.brief if short or len(card.reason) > _LONG else card.reason,
        )
        if card
        else Cell("—", kind="verdict", title="no such map")
        for card in cards
    )
    return TableRow(label_words(label), tuple(cells))
