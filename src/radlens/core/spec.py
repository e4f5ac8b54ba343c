"""A study file, typed: what was asked for, and nothing else."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from radlens.core.cohort import GroupBy
from radlens.core.errors import SpecError
from radlens.core.registry import get
from radlens.core.validation import first_problem, known_keys


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Named(BaseModel):
    """A part by name, with the part's own options beside it (checked by the part)."""

    model_config = ConfigDict(extra="allow", frozen=True)

    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class LabelerSpec(_Named):
    """`name:` of a labeler and its own options."""

    name: str


class CohortSpec(_Named):
    """`dataset:` and that data set's options; `labeler:` makes the labels from the reports (a name, or a mapping)."""

    dataset: str
    labeler: LabelerSpec | None = None

    @field_validator("labeler", mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


class SplitSpec(_Strict):
    """How images are divided: drawn by shares, by folds, or as the data set or a file says.

    by: what is kept together; `study` and `image` may leak and are flagged. official: the split that the data set
    came with. file: a table with a column `split` and one of `image_id`, `study_id`, `patient_id`. folds: as many test
    splits that are disjoint and cover the cohort; the rest of each is divided by the shares of train and val. repeats:
    so many draws of other seeds. fold, repeat: which one this run is, from 1; without them a run does all in turn.
    """

    train: float = Field(default=0.7, gt=0, lt=1)
    val: float = Field(default=0.1, gt=0, lt=1)
    test: float = Field(default=0.2, gt=0, lt=1)
    by: GroupBy = "patient"
    official: bool = False
    file: str | None = None
    folds: int | None = Field(default=None, ge=2, le=100)
    fold: int | None = Field(default=None, ge=1)
    repeats: int = Field(default=1, ge=1, le=100)
    repeat: int | None = Field(default=None, ge=1)
    seed: int = Field(default=0, ge=0)

    @property
    def draws(self) -> int:
        """How many splits this asks for: folds x repeats, or 1 where one of them is chosen."""
        folds = 1 if self.folds is None or self.fold is not None else self.folds
        return folds * (1 if self.repeat is not None else self.repeats)

    def each(self) -> list[SplitSpec]:
        """One spec a draw, fold and repeat chosen."""
        repeats = [self.repeat] if self.repeat is not None or self.repeats == 1 else range(1, self.repeats + 1)
        folds = [self.fold] if self.fold is not None or self.folds is None else range(1, self.folds + 1)
        return [self.model_copy(update={"repeat": r, "fold": f}) for r in repeats for f in folds]

    @model_validator(mode="after")
    def _whole(self) -> SplitSpec:
        total = self.train + self.val + self.test
        if self.folds is None and abs(total - 1) > 1e-6:
            raise ValueError(f"train + val + test must be 1, found {total:g}")
        given = [name for name in ("official", "file", "folds") if getattr(self, name)]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} exclude each other")
        if (self.official or self.file) and self.repeats > 1:
            raise ValueError(f"repeats draws splits at random, {given[0]} does not")
        for name, most in (("fold", self.folds or 0), ("repeat", self.repeats)):
            chosen = getattr(self, name)
            if chosen is not None and chosen > most:
                raise ValueError(f"{name} is {chosen}, but there are {most or 'no'} {name}s")
        return self


class ModelSpec(_Strict):
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


class SettingSpec(_Named):
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


class ExplainSpec(_Named):
    """Which maps to draw, and the regions to score them against; further keys are the annotation format's options."""

    annotations: str | None = None
    format: str | None = None
    methods: tuple[str, ...] = Field(default=("grad-cam",), min_length=1)
    layers: tuple[int | str, ...] = Field(default=(-1, -3, -5), min_length=1)
    images: int = Field(default=64, ge=1, description="at most so many images of the test split are explained")

    @model_validator(mode="after")
    def _both(self) -> ExplainSpec:
        if (self.annotations is None) != (self.format is None):
            raise ValueError("annotations and format go together")
        for key, values in (("methods", self.methods), ("layers", self.layers)):
            if len(set(values)) < len(values):
                raise ValueError(f"{key} names one of them twice: {list(values)}")
        return self


class ComputeSpec(_Strict):
    """Where and how the encoder runs."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["float32", "bfloat16"] = "float32"
    batch_size: int = Field(default=32, ge=1)
    workers: int = Field(default=2, ge=1)
    devices: int = Field(default=1, ge=1, description="processes of this machine that share encoding and training")


class EvaluateSpec(_Strict):
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


class StudySpec(_Strict):
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
