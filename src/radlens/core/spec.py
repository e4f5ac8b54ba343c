"""A study file, typed: what was asked for, and nothing else."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from radlens.core.errors import SpecError
from radlens.core.explain_spec import ExplainSpec as ExplainSpec
from radlens.core.registry import get
from radlens.core.split_spec import SplitSpec as SplitSpec
from radlens.core.strict import Named, Strict
from radlens.core.validation import first_problem, known_keys


class LabelerSpec(Named):
    """`name:` of a labeler and its own options."""

    name: str


class CohortSpec(Named):
    """`dataset:` and that data set's options; `labeler:` makes the labels from the reports (a name, or a mapping)."""

    dataset: str
    labeler: LabelerSpec | None = None

    @field_validator("labeler", mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


class ModelSpec(Strict):
    """Exactly one of: a card's name, a folder in Hugging Face layout, a hub id. `weights`: a local folder of a card."""

    name: str | None = None
    path: str | None = None
    hub: str | None = None

    @model_validator(mode="after")
    def _one(self) -> ModelSpec:
        if sum(value is not None for value in (self.name, self.path, self.hub)) != 1:
            raise ValueError("give exactly one of name, path, hub")
        return self


@dataclass(frozen=True)
class Variant:
    """One fit of a setting: its options with one choice of each swept one, and its seed.

    title: name of its results. group: the same without the seed. family: title of the setting it belongs to.
    """

    name: str
    title: str
    group: str
    family: str
    options: Mapping[str, Any]
    seed: int


class SettingSpec(Named):
    """`name:` of a setting and its own options; `as:` another name for its results (default: the setting's name).

    seeds: fit it once for each, instead of once with the study's own. sweep: option -> values; every combination is
    fitted.
    """

    name: str
    alias: str | None = Field(default=None, alias="as", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    seeds: tuple[Annotated[int, Field(ge=0)], ...] | None = Field(default=None, min_length=1)
    sweep: dict[str, tuple[Any, ...]] | None = None

    @property
    def title(self) -> str:
        """Name of its results."""
        return self.alias or self.name

    @model_validator(mode="after")
    def _distinct(self) -> SettingSpec:
        if self.seeds is not None and len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds names one of them twice: {list(self.seeds)}")
        for key, values in (self.sweep or {}).items():
            if not values:
                raise ValueError(f"sweep: {key} has no values")
            if key in self.options():
                raise ValueError(f"{key} stands both as an option and in sweep")
        return self

    def variants(self, seed: int) -> list[Variant]:
        """Every fit that this asks for, in order; `seed` is the study's."""
        keys = list(self.sweep or {})
        found = []
        for values in itertools.product(*(enumerate((self.sweep or {})[key]) for key in keys)):
            chosen = {key: value for key, (_, value) in zip(keys, values, strict=True)}
            words = [f"{key}-{_word(value, place)}" for key, (place, value) in zip(keys, values, strict=True)]
            for each in self.seeds if self.seeds is not None else (seed,):
                seeded = [f"seed-{each}"] if self.seeds is not None and len(self.seeds) > 1 else []
                group = ".".join([self.title, *words])
                title = ".".join([group, *seeded])
                found.append(Variant(self.name, title, group, self.title, self.options() | chosen, each))
        return found


def _word(value: Any, place: int) -> str:
    """A value as part of a name; a mapping by its own name, or its place in the list."""
    if isinstance(value, dict):
        value = value.get("name", place + 1)
    text = re.sub(r"[^A-Za-z0-9._+-]+", "-", str(value)).strip("-.")
    return text or str(place + 1)


class ComputeSpec(Strict):
    """Where and how the encoder runs."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["float32", "bfloat16"] = "float32"
    batch_size: int = Field(default=32, ge=1)
    workers: int = Field(default=2, ge=1)
    devices: int = Field(default=1, ge=1, description="processes of this machine that share encoding and training")


class EvaluateSpec(Strict):
    """How probabilities become decisions, and how figures get their intervals.

    thresholds, all chosen on validation: `validation` (best F1, shrunk for rare labels), `fixed` (value, default 0.5),
    `paper` (0.5), `recall` (at least value, default 0.9), `prevalence` (as many as in training), `half-f1` (half of the
    best F1, on calibrated probabilities). replicates: of the bootstrap over patients; 0 for none. alpha: share of
    findings that conformal risk control may miss. subgroups: columns of the cohort to compare (default: view, sex, age
    and site where it has them).
    """

    thresholds: Literal["validation", "fixed", "paper", "recall", "prevalence", "half-f1"] = "validation"
    value: float | None = Field(default=None, gt=0, lt=1)
    replicates: int = Field(default=1000, ge=0)
    alpha: float = Field(default=0.1, gt=0, lt=1)
    subgroups: tuple[str, ...] | None = None

    @model_validator(mode="after")
    def _used(self) -> EvaluateSpec:
        if self.value is not None and self.thresholds not in ("fixed", "recall"):
            raise ValueError(f"value is for thresholds fixed and recall, not {self.thresholds}")
        if 0 < self.replicates < 200:
            raise ValueError(f"replicates must be 0 or at least 200, found {self.replicates}")
        return self


class StudySpec(Strict):
    """A whole study. Relative paths start from `folder`, the study file's own."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    cohort: CohortSpec
    split: SplitSpec = SplitSpec()
    model: ModelSpec
    settings: tuple[SettingSpec, ...] = Field(min_length=1)
    explain: ExplainSpec | None = None
    evaluate: EvaluateSpec = EvaluateSpec()
    compute: ComputeSpec = ComputeSpec()
    seed: int = Field(default=0, ge=0)
    folder: Path = Field(default=Path(), exclude=True)

    @field_validator("settings", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        if not isinstance(value, list | tuple):
            return value
        return [{"name": item} if isinstance(item, str) else item for item in value]

    @model_validator(mode="after")
    def _titles(self) -> StudySpec:
        titles = [variant.title for setting in self.settings for variant in setting.variants(self.seed)]
        twice = sorted({title for title in titles if titles.count(title) > 1})
        if twice:
            raise ValueError(f"setting {twice[0]!r} stands twice; give one of them another name with `as:`")
        if "baseline" in titles:
            raise ValueError("a setting cannot be called 'baseline', which the localisation table uses")
        return self


def read_study(path: Path, overrides: list[str] | None = None) -> StudySpec:
    """Read a study file; `overrides` are `key.path=value`, the value in YAML. Raises `SpecError` in one sentence."""
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise SpecError(f"cannot read the study file {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise SpecError(f"the study file {path} is not UTF-8 text.") from error
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        raise SpecError(f"{path}{where} is not valid YAML: {getattr(error, 'problem', error)}.") from error
    if not isinstance(values, dict):
        raise SpecError(
            f"{path} must be a mapping with name, cohort, model and settings; found {type(values).__name__}."
        )
    for override in overrides or []:
        _override(values, override)
    return study_from_dict(values, path.parent, str(path))


def study_from_dict(values: dict[str, Any], folder: Path, where: str = "study") -> StudySpec:
    """Check plain values. Raises `SpecError` naming the first wrong key, with the nearest one that exists."""
    if "folder" in values:
        # a field for the code alone: from a file it would be overwritten in silence
        known = ", ".join(known_keys(StudySpec, ()))
        raise SpecError(f"{where}: unknown key 'folder'. Known: {known}.")
    try:
        return StudySpec.model_validate({**values, "folder": folder})
    except ValidationError as error:
        raise SpecError(f"{where}: {first_problem(error, StudySpec)}") from error


def build_part(kind: str, name: str, options: dict[str, Any]) -> Any:
    """The registered part with its options checked. Raises `SpecError` for an unknown name or option."""
    part = get(kind, name)
    try:
        return part(**options)
    except ValidationError as error:
        raise SpecError(f"{kind.removesuffix('s')} {name!r}: {first_problem(error, part)}") from error


def _override(values: dict[str, Any], override: str) -> None:
    key, sign, text = override.partition("=")
    steps = key.split(".")
    if not sign or not all(steps):
        raise SpecError(f"--set expects key.path=value, found {override!r}.")
    for step in steps[:-1]:
        inner = values.setdefault(step, {})
        if not isinstance(inner, dict):
            raise SpecError(f"--set {override}: {step!r} is not a mapping.")
        values = inner
    try:
        values[steps[-1]] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SpecError(f"--set {override}: the value is not valid YAML.") from error
