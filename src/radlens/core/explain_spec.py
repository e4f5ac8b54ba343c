"""What a study asks of its heatmaps."""

from __future__ import annotations

from typing import Any, Literal, get_args

from pydantic import Field, field_validator, model_validator

from radlens.core.strict import Named, Strict

Check = Literal["deletion", "insertion", "road", "randomisation", "stability", "seeds", "text"]
"""Checks of the trust card that run the model again; `lift` and `class-specific` read the maps alone and always run."""
CHECKS: tuple[Check, ...] = get_args(Check)


class TrustSpec(Strict):
    """How far a heatmap's trustworthiness is tested.

    checks: what runs the model again (default: all); what is left out is named as not tested, and no map is believed
    without it. pairs: at most so many image-label pairs of a label take part, of different patients where there are.
    steps: of a deletion or insertion curve.
    """

    checks: tuple[Check, ...] = CHECKS
    pairs: int = Field(default=12, ge=1)
    steps: int = Field(default=7, ge=2, le=196)


class ExplainSpec(Named):
    """Which maps to draw, and the regions to score them against; further keys are the annotation format's options.

    images: at most so many of the test split. tuning_images: at most so many of the validation split, on whose regions
    the maps' threshold is chosen. trust: true, or a mapping, tests whether the maps may be believed by running the
    model again on changed images; it takes a multiple of the maps' own time.
    """

    annotations: str | None = None
    format: str | None = None
    methods: tuple[str, ...] = Field(default=("grad-cam",), min_length=1)
    layers: tuple[int | str, ...] = Field(default=(-1, -3, -5), min_length=1)
    images: int = Field(default=64, ge=1)
    tuning_images: int = Field(default=16, ge=0)
    trust: TrustSpec | None = None

    @field_validator("trust", mode="before")
    @classmethod
    def _switched(cls, value: Any) -> Any:
        if isinstance(value, bool):
            return {} if value else None
        return value

    @model_validator(mode="after")
    def _both(self) -> ExplainSpec:
        if (self.annotations is None) != (self.format is None):
            raise ValueError("annotations and format go together")
        for key, values in (("methods", self.methods), ("layers", self.layers)):
            if len(set(values)) < len(values):
                raise ValueError(f"{key} names one of them twice: {list(values)}")
        return self
