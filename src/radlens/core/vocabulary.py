"""The labels of a task, their domains and their prompts, read from TOML."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from radlens.core.errors import SpecError, unknown_name
from radlens.core.validation import first_problem

_FOLDER = Path(__file__).parent / "vocabularies"
_Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class _LabelSpec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    name: _Text
    domain: _Text | None = None
    positive: tuple[_Text, ...] = Field(min_length=1)
    negative: tuple[_Text, ...] = Field(min_length=1)


class _VocabularySpec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    name: _Text
    no_finding: _Text | None = None
    source: str = ""
    label: tuple[_LabelSpec, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _names(self) -> _VocabularySpec:
        names = [label.name for label in self.label]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"label {twice[0]!r} stands twice")
        if self.no_finding is not None and self.no_finding not in names:
            raise ValueError(unknown_name("no_finding label", self.no_finding, names))
        return self


@dataclass(frozen=True)
class Label:
    """One label: its domain (None for a label outside all domains) and the prompts for and against it."""

    name: str
    domain: str | None
    positive: tuple[str, ...]
    negative: tuple[str, ...]


@dataclass(frozen=True)
class Vocabulary:
    """An ordered set of labels. The order is the order of columns in every array and table."""

    name: str
    labels: tuple[Label, ...]
    no_finding: str | None = None
    source: str = ""

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Label names in order."""
        return tuple(label.name for label in self.labels)

    @cached_property
    def domains(self) -> dict[str, tuple[str, ...]]:
        """Domain -> names of its labels, both in the vocabulary's order; labels without a domain are left out."""
        found: dict[str, list[str]] = {}
        for label in self.labels:
            if label.domain is not None:
                found.setdefault(label.domain, []).append(label.name)
        return {domain: tuple(names) for domain, names in found.items()}

    def __len__(self) -> int:
        return len(self.labels)

    def index(self, name: str) -> int:
        """Column of a label; an unknown name raises `SpecError`."""
        if name not in self.names:
            raise SpecError(unknown_name("label", name, self.names))
        return self.names.index(name)

    def to_dict(self) -> dict[str, Any]:
        """Plain values that `vocabulary_from_dict` reads back."""
        labels = [
            {"name": x.name, "positive": list(x.positive), "negative": list(x.negative)}
            | ({"domain": x.domain} if x.domain else {})
            for x in self.labels
        ]
        head = {"name": self.name, "source": self.source, "label": labels}
        return head | ({"no_finding": self.no_finding} if self.no_finding else {})


def load_vocabulary(name: str, folder: Path | None = None) -> Vocabulary:
    """A shipped vocabulary by name, or a user's own TOML file (relative to `folder`).

    Raises `SpecError` when neither exists, or when the file is not a vocabulary.
    """
    shipped = {path.stem: path for path in _FOLDER.glob("*.toml")}
    path = shipped.get(name)
    if path is None:
        path = (folder or Path()) / name
        if path.suffix != ".toml" or not path.is_file():
            raise SpecError(
                unknown_name("vocabulary", name, shipped) + " A vocabulary of your own is the path of a TOML file."
            )
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SpecError(f"vocabulary {path} is not valid TOML: {error}") from error
    return vocabulary_from_dict(values, str(path))


def vocabulary_from_dict(values: dict[str, Any], where: str = "vocabulary") -> Vocabulary:
    """Check plain values (as in the TOML file) and freeze them; `where` names the source in an error."""
    try:
        spec = _VocabularySpec.model_validate(values)
    except ValidationError as error:
        raise SpecError(f"vocabulary {where}: {first_problem(error, _VocabularySpec)}") from error
    labels = tuple(Label(x.name, x.domain, x.positive, x.negative) for x in spec.label)
    return Vocabulary(spec.name, labels, spec.no_finding, spec.source)
