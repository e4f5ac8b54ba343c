"""The labeler `rules`: phrases, negation and uncertainty, after the CheXpert labeler; works offline."""

from __future__ import annotations

import importlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import polars as pl
from pydantic import Field, field_validator

from radlens.core.errors import DataError
from radlens.core.parts import Labeler, Progress, unheard
from radlens.core.registry import register
from radlens.core.reports import EVIDENCE, LabelledReports, Reports, check_vocabulary
from radlens.core.vocabulary import Vocabulary, load_vocabulary
from radlens.labels.rules_phrases import Phrases, read_phrases
from radlens.labels.rules_text import Passage, passages

if TYPE_CHECKING:
    from radlens.labels.rules_reading import Mention

Section = Literal["indication", "comparison", "findings", "impression"]


@register("labelers", "rules")
class Rules(Labeler):
    """Phrases with NegEx negation and uncertainty, as the CheXpert labeler does (Irvin et al., AAAI 2019).

    sections: which are read, where a source divides its reports (`[impression]` alone is what CheXpert reads). phrases:
    a TOML file of your own whose tables join the shipped ones, or replace those in which it says `replace = true`.

    A label is 1 where any mention is present, else -1 where any is uncertain, else 0 where it is mentioned at all, else
    null. "No Finding" is 1 where no label but "Support Devices" is 1 or -1, 0 where one is 1, and null where findings
    are at most uncertain. A report without a word in these sections is not assessed.
    """

    sections: tuple[Section, ...] = Field(default=("findings", "impression"), min_length=1)
    phrases: str | None = None

    @field_validator("sections")
    @classmethod
    def _once(cls, value: tuple[Section, ...]) -> tuple[Section, ...]:
        if len(set(value)) < len(value):
            raise ValueError("a section stands twice")
        return value

    def label(self, reports: Reports, folder: Path, work: Path, progress: Progress = unheard) -> LabelledReports:
        """Label every report. Raises `DataError` where spaCy or negspacy is missing, `SpecError` for the phrases."""
        vocabulary = load_vocabulary(self.vocabulary, folder)
        phrases = read_phrases(folder / self.phrases if self.phrases else None, vocabulary.names)
        made = [*phrases.label, *([vocabulary.no_finding] if vocabulary.no_finding else [])]
        check_vocabulary(vocabulary, made, "rules")
        texts = reports.text(self.sections)
        found = _mentions(texts, phrases, progress)
        ids = reports.table["study_id"].to_list()
        rows = [_row(study, mentions, phrases, vocabulary) for study, mentions in zip(ids, found, strict=True)]
        names = [name for name in vocabulary.names if name in made]
        schema: dict[str, Any] = {"study_id": pl.String, "assessed": pl.Boolean, **dict.fromkeys(names, pl.Int8)}
        notes = []
        silent = sum(mentions is None for mentions in found)
        if silent:
            notes.append(
                f"{silent} of {len(reports)} reports have no text in {' or '.join(self.sections)}: not assessed."
            )
        return LabelledReports(
            pl.DataFrame([row for row, _ in rows], schema=schema),
            pl.DataFrame([line for _, evidence in rows for line in evidence], schema=EVIDENCE, orient="row"),
            f"report text by phrase rules ({', '.join(self.sections)})",
            notes=tuple(notes),
        )


def aggregate(values: Sequence[int]) -> int:
    """The value of a label with these mentions (at least one): present before uncertain before absent."""
    return 1 if 1 in values else -1 if -1 in values else 0


def _mentions(texts: Sequence[str | None], phrases: Phrases, progress: Progress) -> list[list[Mention] | None]:
    """Per text its mentions in order; None for a text without a word."""
    try:
        reading = importlib.import_module("radlens.labels.rules_reading")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("spacy", "negspacy"):
            raise
        raise DataError(
            f"labeler 'rules' needs the package {error.name}, which is not installed: pip install 'radlens[rules]'."
        ) from error
    found: list[list[Mention] | None] = [None] * len(texts)

    def numbered() -> Iterator[tuple[Passage, int]]:
        for number, text in enumerate(texts):
            for passage in passages(text or ""):
                yield passage, number

    done = 0
    for number, mentions in reading.Reader(phrases).read(numbered()):
        found[number] = [*(found[number] or ()), *mentions]
        if number > done:
            done = number
            progress(done, len(texts))
    progress(len(texts), len(texts))
    return found


def _row(
    study: str, mentions: list[Mention] | None, phrases: Phrases, vocabulary: Vocabulary
) -> tuple[dict[str, Any], list[tuple[str, str, int, str]]]:
    """A report's row of labels, and the mentions that decided them."""
    if mentions is None:
        return {"study_id": study, "assessed": False}, []
    by_label: dict[str, list[Mention]] = defaultdict(list)
    for mention in mentions:
        by_label[mention.label].append(mention)
    values = {label: aggregate([mention.value for mention in several]) for label, several in by_label.items()}
    evidence = [
        (study, label, values[label], mention.sentence)
        for label in vocabulary.names
        for mention in dict.fromkeys(by_label.get(label, ()))
        if mention.value == values[label]
    ]
    if vocabulary.no_finding:
        values |= _no_finding(vocabulary.no_finding, values, phrases)
        if values.get(vocabulary.no_finding) == 1:
            evidence.append((study, vocabulary.no_finding, 1, "no finding is mentioned as present or uncertain"))
    kept = {name: values[name] for name in vocabulary.names if name in values}
    return {"study_id": study, "assessed": True, **kept}, evidence


def _no_finding(name: str, values: Mapping[str, int], phrases: Phrases) -> dict[str, int]:
    findings = {value for label, value in values.items() if phrases.label[label].pathology}
    if 1 in findings:
        return {name: 0}
    return {} if -1 in findings else {name: 1}
