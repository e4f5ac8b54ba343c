"""How a source's own finding names map to a vocabulary: one readable TOML table for each source."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import polars as pl
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from radlens.core.errors import SpecError, unknown_name
from radlens.core.validation import first_problem

_FOLDER = Path(__file__).parent / "mappings"


class _MappingSpec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    source: str
    vocabulary: str
    assesses: tuple[str, ...]
    findings: dict[str, str | tuple[str, ...]]

    @model_validator(mode="after")
    def _targets(self) -> _MappingSpec:
        for finding, target in self.findings.items():
            for label in _labels(target):
                if label not in self.assesses:
                    raise ValueError(f"{finding!r}: " + unknown_name("label in assesses", label, self.assesses))
        return self


@dataclass(frozen=True)
class FindingMapping:
    """A source's findings in the words of a vocabulary.

    assesses: the labels that the source looks at; any other label of the vocabulary is null for it, not 0. findings:
    the source's name of a finding, exactly as it writes it -> labels; empty for a finding that is known and has no
    label here (it still speaks against "No Finding", which a source states or its reader derives).
    """

    name: str
    source: str
    vocabulary: str
    assesses: tuple[str, ...]
    findings: Mapping[str, tuple[str, ...]]

    @cached_property
    def sources(self) -> dict[str, tuple[str, ...]]:
        """Label of `assesses` -> the findings that set it, in the order of the table; empty where none does."""
        return {
            label: tuple(finding for finding, labels in self.findings.items() if label in labels)
            for label in self.assesses
        }

    def columns(self, found: pl.Expr) -> list[pl.Expr]:
        """An Int8 column for each label of `assesses`: 1 where a row's list of findings sets it, 0 elsewhere.

        found: expression of type List(String), each entry written as in the table. A null list gives null throughout.
        """
        return [
            found.list.eval(pl.element().is_in(list(names))).list.any().cast(pl.Int8).alias(label)
            for label, names in self.sources.items()
        ]

    def unknown(self, found: pl.Series) -> dict[str, int]:
        """Findings of a List(String) column that the table does not know -> in how many entries, commonest first."""
        each = found.explode().drop_nulls()
        counts = each.filter(~each.is_in(list(self.findings))).value_counts()
        counts = counts.sort(["count", each.name], descending=[True, False])
        return dict(zip(counts[each.name].to_list(), counts["count"].to_list(), strict=True))


def load_mapping(name: str) -> FindingMapping:
    """A shipped mapping by name (`nih-cxr14`).

    Raises `SpecError` where there is none of that name, or where its table is no mapping: an unknown key, or a finding
    that maps to a label outside `assesses`.
    """
    shipped = {path.stem: path for path in _FOLDER.glob("*.toml")}
    if name not in shipped:
        raise SpecError(unknown_name("mapping of findings", name, shipped))
    values = tomllib.loads(shipped[name].read_text("utf-8"))
    try:
        spec = _MappingSpec.model_validate(values)
    except ValidationError as error:
        raise SpecError(f"mapping {name}: {first_problem(error, _MappingSpec)}") from error
    findings = {finding: _labels(target) for finding, target in spec.findings.items()}
    return FindingMapping(name, spec.source, spec.vocabulary, spec.assesses, findings)


def _labels(target: str | tuple[str, ...]) -> tuple[str, ...]:
    return tuple(label for label in ((target,) if isinstance(target, str) else target) if label)
