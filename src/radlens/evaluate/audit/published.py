"""Published figures, each with where it stands, and the questions that rules ask of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Literal, get_args

from radlens.evaluate.audit.printed import Printed

Kind = Literal["overall", "label", "domain", "data"]
Relation = Literal["best", ">", "<", "=", "~"]
KINDS: tuple[Kind, ...] = get_args(Kind)
RELATIONS: tuple[Relation, ...] = get_args(Relation)
ANY, MOST = "all", "most"


@dataclass(frozen=True)
class Entry:
    """One cell or one statement. row: line of the file below the column names, from 1. number: None where blank.

    name: the label or domain, empty for `overall` and `data`. setting: empty where it holds for every setting.
    """

    row: int
    table: str
    kind: Kind
    name: str
    setting: str
    metric: str
    number: Printed | None
    n: Printed | None = None
    where: str = ""

    @property
    def place(self) -> str:
        """Where it stands, for a reader."""
        return _place(self.table, self.where)

    @property
    def printed(self) -> Printed:
        """The number of a cell that is known not to be blank."""
        assert self.number is not None
        return self.number


@dataclass(frozen=True)
class Claim:
    """What a text says of one setting: best, or higher (>), lower (<), the same (=), nearly the same (~) as another.

    name: a label or domain, `all`, `most`, or empty for `overall`.
    """

    row: int
    table: str
    kind: Kind
    name: str
    setting: str
    metric: str
    relation: Relation
    other: str
    where: str = ""

    @property
    def place(self) -> str:
        """Where it stands, for a reader."""
        return _place(self.table, self.where)


@dataclass(frozen=True)
class PublishedTables:
    """All figures of one publication about one test set."""

    source: str
    entries: tuple[Entry, ...]
    claims: tuple[Claim, ...]
    members: dict[str, tuple[str, ...]]

    @cached_property
    def settings(self) -> tuple[str, ...]:
        """Settings in the order of the file."""
        return _unique(entry.setting for entry in self.entries if entry.setting)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Labels that have a result, in the order of the file."""
        return _unique(entry.name for entry in self.entries if entry.kind == "label" and entry.setting)

    @cached_property
    def domains(self) -> tuple[str, ...]:
        """Domains that have a result, in the order of the file."""
        return _unique(entry.name for entry in self.entries if entry.kind == "domain" and entry.setting)

    @cached_property
    def _first(self) -> dict[tuple[str, str, str, str], Entry]:
        # a table goes before the text; a blank cell is no figure
        found: dict[tuple[str, str, str, str], Entry] = {}
        for entry in sorted(self.entries, key=lambda entry: entry.table.lower() == "text"):
            if entry.number is not None:
                found.setdefault((entry.kind, entry.name, entry.setting, entry.metric), entry)
        return found

    def find(self, kind: Kind, name: str, setting: str, metric: str) -> Entry | None:
        """The cell of a quantity; of several the first, a table before the text. None where none or blank."""
        return self._first.get((kind, name, setting, metric))

    def overall(self, setting: str, metric: str) -> Entry | None:
        """An overall figure of a setting."""
        return self.find("overall", "", setting, metric)

    def per(self, kind: Kind, setting: str, metric: str) -> dict[str, Entry]:
        """Name -> cell, for each label or domain that has one."""
        names = self.labels if kind == "label" else self.domains
        found = {name: self.find(kind, name, setting, metric) for name in names}
        return {name: entry for name, entry in found.items() if entry is not None}

    def fact(self, metric: str) -> Entry | None:
        """A figure about the data: images, reports, patients, labels, test_fraction."""
        return self.find("data", "", "", metric)

    @property
    def label_count(self) -> int:
        """How many labels there are: as stated, at least as many as are listed."""
        stated = self.fact("labels")
        return max(round(stated.printed.value) if stated else 0, len(self.labels))

    def prevalence(self, name: str, kind: Kind = "label") -> Printed | None:
        """Share of positives in the test set, where it is stated."""
        entry = self.find(kind, name, "", "prevalence")
        return entry.number if entry else None

    def size(self, name: str = "", kind: Kind = "overall") -> int | None:
        """Number of test images behind a figure, where it is stated exactly; a label's own n goes first."""
        for key in ((kind, name), ("overall", "")):
            entry = self.find(key[0], key[1], "", "n")
            if entry is not None and not entry.printed.about:
                return round(entry.printed.value)
        return None

    def about_size(self) -> float | None:
        """Number of test images, or about how many: the stated share of all images."""
        stated = self.find("overall", "", "", "n")
        if stated is not None:
            return stated.printed.value
        listed = [e.printed.value for e in self.entries if e.metric == "n" and e.kind == "label" and e.number]
        if listed:
            return fmean(listed)
        images, share = self.fact("images"), self.fact("test_fraction")
        return images.printed.value * share.printed.value if images and share else None

    def stated_share(self, label: str) -> tuple[float, Entry] | None:
        """Share of positives of a label in the whole data, with the count it comes from."""
        entry = self.find("label", label, "", "positives")
        if entry is None or entry.n is None or entry.n.value <= 0:
            return None
        return entry.printed.value / entry.n.value, entry

    def about_positives(self, label: str) -> float | None:
        """Positives of a label in the test set, or about how many."""
        prevalence, size = self.prevalence(label), self.size(label, "label") or self.size()
        if prevalence is not None and size is not None:
            return prevalence.value * size
        count, share = self.find("label", label, "", "positives"), self.fact("test_fraction")
        return count.printed.value * share.printed.value if count and share else None


def places(entries: Iterable[Entry | Claim]) -> tuple[str, ...]:
    """Where entries stand, each place once, in order."""
    return _unique(entry.place for entry in entries)


def _unique(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))


def _place(table: str, where: str) -> str:
    if not where:
        return table
    return where if table.lower() == "text" else f"{table}, {where}"
