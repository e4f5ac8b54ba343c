"""The phrase tables of the labeler `rules`: what a TOML file may hold, and how a user's own joins the shipped one.

A phrase is words between blanks, matched whatever their case: `a|b` is either word, `word?` may be missing, and ` ... `
(once) stands for up to eight words of the same sentence. Where a phrase has such a gap, what follows it is the mention,
and what stands before it only has to be there: in "the heart is not enlarged" the phrase `heart ... enlarged` finds
"enlarged", which "not" negates.
"""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from radlens.core.errors import SpecError, unknown_name
from radlens.core.validation import first_problem
from radlens.labels.rules_text import normalise

SHIPPED = Path(__file__).with_name("phrases.toml")
GAP = "..."
_MOST = 512


def expand(phrase: str) -> list[str]:
    """Every plain wording of a phrase without a gap: alternatives and optional words written out, normalised."""
    choices = []
    for word in phrase.split():
        options = word.removesuffix("?").split("|") if word != "?" else ["?"]
        choices.append([*options, ""] if word.endswith("?") and word != "?" else options)
    return list(dict.fromkeys(normalise(" ".join(words)) for words in itertools.product(*choices)))


def segments(phrase: str) -> list[str]:
    """The one or two parts of a phrase around its gap."""
    return [part.strip() for part in f" {phrase} ".split(f" {GAP} ")]


def _plain(phrase: str) -> str:
    if GAP in phrase:
        raise ValueError(f"phrase {phrase!r} may not hold a gap `{GAP}`: only phrases of a label may")
    return _checked(phrase)


def _checked(phrase: str) -> str:
    parts = segments(phrase)
    if len(parts) > 2 or (GAP in phrase and len(parts) < 2):
        raise ValueError(f"phrase {phrase!r} may hold one gap, ` {GAP} ` between blanks")
    for part in parts:
        size = 1
        for word in part.split():
            size *= word.count("|") + 1 + word.endswith("?")
        if size > _MOST:
            raise ValueError(f"phrase {phrase!r} stands for {size} wordings; expected at most {_MOST}")
        if not all(expand(part)):
            raise ValueError(f"phrase {phrase!r} can be empty; expected at least one word on each side of a gap")
    return phrase


_Plain = tuple[Annotated[str, AfterValidator(_plain)], ...]
_Gapped = tuple[Annotated[str, AfterValidator(_checked)], ...]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    replace: bool = False

    def joined(self, other: Any) -> Any:
        """This table with the other's lists behind its own; or the other alone, where that says `replace`."""
        if other is None or other.replace:
            return other or self
        lists = {k: (*v, *getattr(other, k)) for k, v in self if isinstance(v, tuple)}
        changed = {k: v for k, v in other if k in other.model_fields_set and not isinstance(v, tuple)}
        return self.model_copy(update={**lists, **changed})


class LabelPhrases(_Table):
    """Phrases of one label.

    present: mentions of the finding, judged by their context. uncertain: mentions that are uncertain in themselves.
    absent: wordings that deny the finding in themselves ("normal heart size"). excluded: wordings that hold a mention
    and mean something else. pathology: whether the finding bars "No Finding".
    """

    present: _Gapped = Field(default=(), strict=False)
    uncertain: _Gapped = Field(default=(), strict=False)
    absent: _Gapped = Field(default=(), strict=False)
    excluded: _Gapped = Field(default=(), strict=False)
    pathology: bool = True


class Context(_Table):
    """Phrases that change what the mentions around them say, in the terms of NegEx.

    preceding: act on mentions after them, following: on those before them, as far as the sentence goes or up to a
    phrase of `termination`. pseudo: hold such a phrase and do not act.
    """

    preceding: _Plain = Field(default=(), strict=False)
    following: _Plain = Field(default=(), strict=False)
    pseudo: _Plain = Field(default=(), strict=False)
    termination: _Plain = Field(default=(), strict=False)


class Phrases(BaseModel):
    """All tables.

    hypothetical: what is wondered about and not read from the film; its mentions do not count. termination: ends the
    reach of every context. alternatives: stand between two choices and make the mentions directly beside them
    uncertain.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    label: dict[str, LabelPhrases] = Field(default_factory=dict)
    negation: Context | None = None
    uncertainty: Context | None = None
    hypothetical: Context | None = None
    termination: _Plain = ()
    alternatives: _Plain = ()


def read_phrases(own: Path | None, labels: Collection[str]) -> Phrases:
    """The shipped tables, joined by a user's own file.

    labels: those that the user's file may name. Raises `SpecError` with the file and the key.
    """
    shipped = _read(SHIPPED)
    if own is None:
        return shipped
    theirs = _read(own)
    for name in theirs.label:
        if name not in labels:
            raise SpecError(f"phrases {own}: label.{unknown_name('label', name, labels)}")
    for name, table in theirs.label.items():
        if not table.present and not table.uncertain and (table.replace or name not in shipped.label):
            raise SpecError(f"phrases {own}: label.{name}: expected phrases in `present` or `uncertain`, found none.")
    tables = {
        name: shipped.label[name].joined(theirs.label.get(name)) if name in shipped.label else theirs.label[name]
        for name in (*shipped.label, *(n for n in theirs.label if n not in shipped.label))
    }
    contexts = {
        name: getattr(shipped, name).joined(getattr(theirs, name))
        for name in ("negation", "uncertainty", "hypothetical")
    }
    further = {name: (*getattr(shipped, name), *getattr(theirs, name)) for name in ("termination", "alternatives")}
    return shipped.model_copy(update={"label": tables, **further, **contexts})


def _read(path: Path) -> Phrases:
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise SpecError(f"phrases {path}: cannot be read ({error.strerror}).") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SpecError(f"phrases {path} is not valid TOML: {error}.") from error
    try:
        return Phrases.model_validate(values)
    except ValidationError as error:
        raise SpecError(f"phrases {path}: {first_problem(error, Phrases)}") from error
