"""A data set's card: licence, citation, how to get it, its true counts and its files. One TOML file in `cards/`."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from radlens.core.errors import DataError, SpecError, unknown_name
from radlens.core.validation import first_problem

Access = Literal["open", "registration", "credentialed"]
Kind = Literal["reports", "png", "dicom", "labels"]

_FOLDER = Path(__file__).parent / "cards"
_Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
_Count = Annotated[int, Field(ge=0, strict=True)]


class ExpectedCounts(BaseModel):
    """How many there are in the whole data set, as published or as counted; None where nobody has said."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    images: _Count | None = None
    patients: _Count | None = None
    studies: _Count | None = None
    reports: _Count | None = None


class DataFile(BaseModel):
    """One file to download.

    name: plain file name that it gets. size: bytes. sha256: 64 hexadecimal digits. Both only where really known.
    unpacked: bytes that its members take, where known. what: one phrase. extract: whether it is an archive to unpack.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$")]
    url: Annotated[str, StringConstraints(pattern=r"^https?://[^/\s]+/\S+$")]
    kind: Kind
    what: _Text
    size: Annotated[int, Field(gt=0, strict=True)] | None = None
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None = None
    unpacked: Annotated[int, Field(gt=0, strict=True)] | None = None
    extract: bool = False


class DatasetCard(BaseModel):
    """What is known of a data set before it is read.

    access: who may download it. how_to_get: one sentence. expected: its true counts. file: what `radlens data fetch`
    downloads; empty where that needs a person's agreement.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: _Text
    licence: _Text
    citation: _Text
    homepage: Annotated[str, StringConstraints(pattern=r"^https?://\S+$")]
    access: Access
    how_to_get: _Text
    expected: ExpectedCounts = ExpectedCounts()
    file: tuple[DataFile, ...] = ()

    @model_validator(mode="after")
    def _names(self) -> DatasetCard:
        names = [file.name for file in self.file]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"file {twice[0]!r} stands twice")
        return self


def cards() -> dict[str, Path]:
    """The shipped cards by data set's name, in alphabetical order; none of them is read."""
    return {path.stem: path for path in sorted(_FOLDER.glob("*.toml"))}


def load_card(name: str) -> DatasetCard:
    """The card of a data set. An unknown name raises `SpecError` with the nearest name and the list."""
    known = cards()
    if name not in known:
        raise SpecError(unknown_name("data set card", name, known))
    return read_card(known[name])


def read_card(path: Path) -> DatasetCard:
    """Read a card; one that is not as described raises `DataError`."""
    try:
        return DatasetCard.model_validate(tomllib.loads(path.read_text("utf-8")))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"data set card {path} cannot be read: {error}") from error
    except ValidationError as error:
        raise DataError(f"data set card {path}: {first_problem(error, DatasetCard)}") from error
