"""A model's card: where it comes from, what its files must be, its licence. One TOML file in `cards/`."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from radlens.core.errors import ModelError
from radlens.core.validation import first_problem


class CardFile(BaseModel):
    """A file that the card knows: its size, and sha256 -> what revision that is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    bytes: int | None = None
    sha256: dict[str, str] = {}


class ModelCard(BaseModel):
    """What is known of a model before its weights are read.

    Exactly one of `hub` (`hf-hub:owner/name`, at `revision`) and `folder` (relative to the card's file).
    environment: name of an environment variable that may name a local folder to be used instead.
    measured: figures that its makers measured, free in form.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    summary: str
    title: str
    loader: str = "open-clip"
    hub: str | None = Field(default=None, pattern=r"^hf-hub:[^/\s]+/[^/\s]+$")
    revision: str | None = None
    folder: str | None = None
    environment: str | None = None
    url: str | None = None
    licence: str
    citation: str
    files: tuple[CardFile, ...] = ()
    measured: dict[str, Any] = {}

    @model_validator(mode="after")
    def _one_place(self) -> ModelCard:
        if (self.hub is None) == (self.folder is None):
            raise ValueError("give exactly one of hub and folder")
        return self


def read_card(path: Path) -> ModelCard:
    """Read a card; one that is not as described raises `ModelError`."""
    try:
        return ModelCard.model_validate(tomllib.loads(path.read_text("utf-8")))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"model card {path} cannot be read: {error}") from error
    except ValidationError as error:
        raise ModelError(f"model card {path}: {first_problem(error, ModelCard)}") from error
