"""From passages to mentions with their values: spaCy finds sentences and phrases, negspacy (NegEx) their contexts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import spacy
from negspacy.negation import Negex
from spacy.matcher import PhraseMatcher
from spacy.tokens import Doc, Span
from spacy.util import filter_spans

from radlens.labels.rules_phrases import Context, LabelPhrases, Phrases, expand, segments
from radlens.labels.rules_text import Passage

Kind = Literal["present", "uncertain", "absent", "excluded"]
KINDS: tuple[Kind, ...] = ("excluded", "absent", "uncertain", "present")
REACH = 8
"""Words that a gap may stand for."""
BARRIERS = {";", ":", "but", "however", "although", "though", "without", "no"}
"""Words that no gap leaps over: what follows them speaks of something else."""
BESIDE = {"before": 1, "after": 3}
"""Words that may stand between a mention and the `or` behind it or before it ("or minimal basilar atelectasis")."""
GROUP = "mentions"


@dataclass(frozen=True)
class Mention:
    """One mention of a label: 1 (present), 0 (absent) or -1 (uncertain), and the sentence it stands in."""

    label: str
    value: int
    sentence: str


class _Rule(NamedTuple):
    label: str
    kind: Kind
    before: str | None


class _Found(NamedTuple):
    """A candidate: its mention is tokens [start, end), the whole phrase begins at token `since`."""

    kind: Kind
    start: int
    end: int
    since: int


class Reader:
    """Reads passages with one set of phrase tables. Deterministic; holds no text."""

    def __init__(self, phrases: Phrases) -> None:
        self._phrases = phrases
        self._language = spacy.blank("en")
        self._language.add_pipe("sentencizer")
        self._rules: dict[str, list[_Rule]] = defaultdict(list)
        wordings: set[str] = set()
        for label, table in phrases.label.items():
            wordings |= self._add(label, table)
        self._matcher = self._match(wordings)
        self._contexts = {
            name: self._context(name, table)
            for name in ("negation", "uncertainty", "hypothetical")
            if (table := getattr(phrases, name)) is not None
        }

    def read(self, numbered: Iterable[tuple[Passage, int]]) -> Iterator[tuple[int, list[Mention]]]:
        """For each (passage, number): the number, and the mentions in the order of the text."""
        texts = ((passage.clean, (passage, number)) for passage, number in numbered)
        for doc, (passage, number) in self._language.pipe(texts, as_tuples=True, batch_size=256):
            yield number, self._mentions(doc, passage)

    def _add(self, label: str, table: LabelPhrases) -> set[str]:
        wordings: set[str] = set()
        for kind in KINDS:
            for phrase in getattr(table, kind):
                *before, mention = segments(phrase)
                openings = expand(before[0]) if before else [None]
                for wording in expand(mention):
                    self._rules[wording].extend(_Rule(label, kind, opening) for opening in openings)
                    wordings.add(wording)
                wordings.update(opening for opening in openings if opening is not None)
        return wordings

    def _match(self, wordings: Iterable[str]) -> PhraseMatcher:
        matcher = PhraseMatcher(self._language.vocab, attr="LOWER")
        for wording in sorted(wordings):
            matcher.add(wording, [self._language.make_doc(wording)])
        return matcher

    def _context(self, name: str, table: Context) -> Negex:
        ends = (*self._phrases.termination, *table.termination)
        lists = {
            "pseudo_negations": table.pseudo,
            "preceding_negations": table.preceding,
            "following_negations": table.following,
            "termination": ends,
        }
        terms = {key: [wording for phrase in value for wording in expand(phrase)] for key, value in lists.items()}
        extension = f"radlens_{name}"
        return Negex(self._language, name, neg_termset=terms, extension_name=extension, span_keys=[GROUP])

    @cached_property
    def _alternatives(self) -> PhraseMatcher:
        return self._match({wording for phrase in self._phrases.alternatives for wording in expand(phrase)})

    def _mentions(self, doc: Doc, passage: Passage) -> list[Mention]:
        found = self._candidates(doc)
        if not found:
            return []
        spans = [
            Span(doc, one.start, one.end, label=f"{one.kind}:{label}")
            for label, several in found.items()
            for one in several
        ]
        doc.spans[GROUP] = spans
        for context in self._contexts.values():
            context(doc)
        beside = self._beside(doc, spans)
        mentions: list[tuple[int, Mention]] = []
        for span in spans:
            kind, _, label = span.label_.partition(":")
            value = self._value(span, kind, (span.start, span.end) in beside)
            if value is not None:
                sentence = passage.quote(span.sent.start_char, span.sent.end_char)
                mentions.append((span.start, Mention(label, value, sentence)))
        mentions.sort(key=lambda pair: pair[0])
        return [mention for _, mention in mentions]

    def _value(self, span: Span, kind: str, beside: bool) -> int | None:
        if kind == "excluded" or self._is(span, "hypothetical"):
            return None
        if kind == "absent" or self._is(span, "negation"):
            return 0
        return -1 if kind == "uncertain" or beside or self._is(span, "uncertainty") else 1

    def _is(self, span: Span, name: str) -> bool:
        return name in self._contexts and bool(span._.get(f"radlens_{name}"))

    def _candidates(self, doc: Doc) -> dict[str, list[_Found]]:
        """Per label, the phrases that stand: where two share a word, the longer mention, then the longer phrase."""
        strings = self._language.vocab.strings
        places: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for key, start, end in self._matcher(doc):
            places[strings[key]].append((start, end))
        found: dict[str, list[_Found]] = defaultdict(list)
        for wording in [wording for wording in places if wording in self._rules]:
            for rule in self._rules[wording]:
                for start, end in places[wording]:
                    since = start if rule.before is None else self._before(doc, places.get(rule.before, []), start)
                    if since is not None:
                        found[rule.label].append(_Found(rule.kind, start, end, since))
        return {label: _longest(several) for label, several in found.items()}

    def _before(self, doc: Doc, openings: list[tuple[int, int]], start: int) -> int | None:
        """Where the nearest opening begins that a gap joins to a mention at `start`; None where none does."""
        for since, end in reversed(openings):
            if end > start:
                continue
            gap = doc[end:start]
            if len(gap) > REACH or any(token.lower_ in BARRIERS for token in gap):
                return None
            if any(token.is_sent_start for token in doc[end : start + 1]):
                return None
            return since
        return None

    def _beside(self, doc: Doc, spans: list[Span]) -> set[tuple[int, int]]:
        """Mentions directly beside a word between two choices, unless both choices are of one label."""
        if not self._phrases.alternatives:
            return set()
        words = filter_spans([doc[start:end] for _, start, end in self._alternatives(doc)])
        beside: set[tuple[int, int]] = set()
        for word in words:
            left = [s for s in spans if 0 <= word.start - s.end <= BESIDE["before"] and _joined(doc, s.end, word.start)]
            right = [s for s in spans if 0 <= s.start - word.end <= BESIDE["after"] and _joined(doc, word.end, s.start)]
            labels = [{s.label_.partition(":")[2] for s in side} for side in (left, right)]
            if labels[0] & labels[1]:
                continue
            beside.update((s.start, s.end) for s in (*left, *right))
        return beside


def _joined(doc: Doc, start: int, end: int) -> bool:
    return not any(token.is_punct or token.is_sent_start for token in doc[start:end])


def _longest(found: list[_Found]) -> list[_Found]:
    kept: list[_Found] = []
    order = {kind: rank for rank, kind in enumerate(KINDS)}
    ranked = sorted(set(found), key=lambda f: (f.start - f.end, f.since - f.end, order[f.kind], f.start))
    for one in ranked:
        if not any(one.start < other.end and other.start < one.end for other in kept):
            kept.append(one)
    return kept
