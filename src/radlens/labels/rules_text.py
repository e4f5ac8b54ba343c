"""The text of a report as the phrase matchers read it, and the way back to the words that stand in the report."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

LONGEST = 4000
"""Characters in a passage: the context rules take quadratic time in its length, so that no passage may be long."""

# A blank line, a line that starts a list entry, or a numbered entry within a line ("2. Cardiomegaly").
_BREAK = re.compile(r"\n\s*\n|\n(?=\s*(?:[-*\u2022]|\d{1,2}[.)])\s)|(?<=\s)(?=\d{1,2}[.)]\s+[A-Z])")
_DEIDENTIFIED = re.compile(r"X{3,}|_{3,}|\[\*\*.*?\*\*\]")
_MARKUP = re.compile(r"</?[a-zA-Z]{1,6}\s*/?>")
_GLUED = re.compile(r"(?<=[a-z]{3})([.;:,])(?=[A-Za-z]{2})")
_STOPS = re.compile(r"\.(?:\s*\.)+")
_HYPHENS = re.compile("[-\u2010-\u2015\u2212]")
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060\ufeff]")
_QUOTES = str.maketrans({"\u2019": "'", "\u2018": "'", "\u00b4": "'"})


@dataclass(frozen=True)
class Passage:
    """A stretch of a report that no sentence leaves.

    original: as it stands in the report. clean: what is matched. A piece is a word of the original between blanks:
    piece i begins at `starts[i]` in `clean`, and stands in the original at `spans[i]`.
    """

    original: str
    clean: str
    starts: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]

    def quote(self, start: int, end: int) -> str:
        """The original words of `clean[start:end]`, with the de-identified words around them; blanks are single."""
        first = max(bisect_right(self.starts, start) - 1, 0)
        last = max(bisect_right(self.starts, max(end - 1, start)) - 1, first)
        begin = self.spans[first - 1][1] if first else 0
        return " ".join(self.original[begin : self.spans[last][1]].split())


def normalise(text: str) -> str:
    """One word, or a phrase, in the form that is matched: hyphens are blanks, slashes stand alone, quotes are plain."""
    text = _INVISIBLE.sub("", unicodedata.normalize("NFKC", text)).translate(_QUOTES)
    text = _GLUED.sub(r"\1 ", _STOPS.sub(".", _HYPHENS.sub(" ", text))).replace("/", " / ")
    return " ".join(text.split())


def passages(text: str) -> Iterator[Passage]:
    """Divide a report at blank lines and list entries; skips what holds no word but de-identified ones."""
    for part in _BREAK.split(text.replace("\r", "")):
        for stretch in _short(part):
            passage = _passage(stretch)
            if any(letter.isalpha() for letter in passage.clean):
                yield passage


def _short(text: str) -> Iterator[str]:
    start = 0
    while len(text) - start > LONGEST:
        window = text[start : start + LONGEST]
        cut = max(window.rfind(". "), window.rfind(".\n")) + 1 or max(window.rfind(" "), window.rfind("\n")) + 1
        cut = cut or LONGEST
        yield text[start : start + cut]
        start += cut
    yield text[start:]


def _passage(original: str) -> Passage:
    words: list[str] = []
    starts: list[int] = []
    spans: list[tuple[int, int]] = []
    position = 0
    hidden_stop = False
    for match in re.finditer(r"\S+", _blank_markup(original)):
        kept = _DEIDENTIFIED.sub(" ", match.group())
        word = normalise(kept)
        is_hidden = kept != match.group() and not any(letter.isalnum() for letter in word)
        if is_hidden:
            word = word.strip("/ ")
        # "the XXXX. is": a full stop that belongs to a hidden abbreviation ends no sentence
        if hidden_stop and match.group()[0].islower():
            position -= 2
            words.pop()
            starts.pop()
            spans.pop()
        hidden_stop = is_hidden and word == "."
        if not word:
            continue
        words.append(word)
        starts.append(position)
        spans.append(match.span())
        position += len(word) + 1
    return Passage(original, " ".join(words), tuple(starts), tuple(spans))


def _blank_markup(text: str) -> str:
    return _MARKUP.sub(lambda match: " " * len(match.group()), text)
