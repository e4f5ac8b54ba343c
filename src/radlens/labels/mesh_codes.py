"""What a MeSH/Open-i code means in chexpert-14: the table `mesh.toml`, read and applied to one code."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator

TABLE = Path(__file__).with_name("mesh.toml")


class Rule(BaseModel):
    """One row of the table: which codes of a heading set which labels.

    The code needs one of `with`, one of `and` and none of `without` (empty: no condition).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    heading: str
    one_of: frozenset[str] = Field(default=frozenset(), alias="with")
    and_one_of: frozenset[str] = Field(default=frozenset(), alias="and")
    without: frozenset[str] = frozenset()
    labels: tuple[str, ...] = ()
    uncertain: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _says_something(self) -> Rule:
        if not self.labels and not self.uncertain:
            raise ValueError(f"the rule of {self.heading!r} sets no label")
        return self

    def fits(self, qualifiers: frozenset[str]) -> bool:
        """Whether a code of this heading with these qualifiers is meant."""
        return (
            (not self.one_of or bool(self.one_of & qualifiers))
            and (not self.and_one_of or bool(self.and_one_of & qualifiers))
            and not self.without & qualifiers
        )


class CodeTable(BaseModel):
    """The whole table; a heading is either in `rule`, in `ignored`, or unknown."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    normal: str
    unindexed: tuple[str, ...]
    borderline: frozenset[str]
    rule: tuple[Rule, ...]
    ignored: dict[str, tuple[str, ...]]

    @model_validator(mode="after")
    def _once(self) -> CodeTable:
        listed = [plain(heading) for group in self.ignored.values() for heading in group]
        ruled = {plain(rule.heading) for rule in self.rule}
        twice = sorted({h for h in listed if listed.count(h) > 1} | (ruled & set(listed)))
        if twice:
            raise ValueError(f"heading {twice[0]!r} is both mapped and ignored, or ignored twice")
        return self


@dataclass(frozen=True)
class Meaning:
    """What one code says. known: its heading stands in the table. labels: label -> 1 or -1."""

    known: bool
    normal: bool
    unindexed: bool
    labels: dict[str, int]


@cache
def code_table() -> CodeTable:
    """The shipped table."""
    return CodeTable.model_validate(tomllib.loads(TABLE.read_text("utf-8")))


def plain(text: str) -> str:
    """A heading or qualifier without capitals, and with single blanks: the source writes both in several ways."""
    return " ".join(text.split()).casefold()


def heading_of(code: str) -> str:
    """The heading of a code as the source writes it, blanks tidied."""
    return " ".join(code.partition("/")[0].split())


class CodeReader:
    """Codes to meanings, each distinct code worked out once. borderline: the value of a code with such a qualifier."""

    def __init__(self, table: CodeTable, borderline: int) -> None:
        self._borderline_value = borderline
        self._borderline = frozenset(map(plain, table.borderline))
        self._normal = plain(table.normal)
        self._unindexed = frozenset(map(plain, table.unindexed))
        self._rules: dict[str, list[Rule]] = {}
        for rule in table.rule:
            self._rules.setdefault(plain(rule.heading), []).append(rule)
        self._ignored = frozenset(plain(heading) for group in table.ignored.values() for heading in group)
        self._read: dict[str, Meaning] = {}

    def read(self, code: str) -> Meaning:
        """The meaning of a code; where several rules fit, 1 wins over -1."""
        if code not in self._read:
            self._read[code] = self._work_out(code)
        return self._read[code]

    def _work_out(self, code: str) -> Meaning:
        heading, *rest = (plain(part) for part in code.split("/"))
        qualifiers = frozenset(rest)
        sure = self._borderline_value if qualifiers & self._borderline else 1
        labels: dict[str, int] = {}
        for rule in self._rules.get(heading, ()):
            if rule.fits(qualifiers):
                for names, value in ((rule.uncertain, -1), (rule.labels, sure)):
                    labels.update({name: max(value, labels.get(name, value)) for name in names})
        normal, unindexed = heading == self._normal, heading in self._unindexed
        known = normal or unindexed or heading in self._rules or heading in self._ignored
        return Meaning(known, normal, unindexed, labels)
