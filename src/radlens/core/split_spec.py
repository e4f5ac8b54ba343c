"""How a study divides its images."""

from __future__ import annotations

from pydantic import Field, model_validator

from radlens.core.cohort import GroupBy
from radlens.core.strict import Strict


class SplitSpec(Strict):
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
