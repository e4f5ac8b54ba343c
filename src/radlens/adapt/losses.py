"""The training losses by name, what each is and where it comes from, and how a study asks for one.

In the formulas z is a logit, t its target, p = sigmoid(z), softplus(u) = log(1 + exp(u)), n1 and n0 the positives and
negatives of a label among the assessed training targets (0 is taken as 1).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from radlens.adapt.objective import focusing_losses, logistic_losses
from radlens.adapt.objective.loss import Counts, Loss
from radlens.core.errors import SpecError, unknown_name
from radlens.core.parts import Floats


@dataclass(frozen=True)
class LossEntry:
    """A line of the table. make: from training counts and the options it names; formula and source for reports."""

    make: Callable[..., Loss]
    options: tuple[str, ...]
    formula: str
    source: str


LOSSES: dict[str, LossEntry] = {
    "bce": LossEntry(logistic_losses.bce, (), "-t log p - (1 - t) log(1 - p)", "binary cross-entropy"),
    "weighted-bce": LossEntry(
        logistic_losses.weighted_bce,
        ("max_positive_weight",),
        "-w t log p - (1 - t) log(1 - p), w = min(n0 / n1, max_positive_weight)",
        "King and Zeng, Political Analysis 2001, section 4.2; the cap is ours",
    ),
    "focal": LossEntry(
        lambda counts, gamma, alpha: focusing_losses.FocalLoss(gamma, alpha),
        ("gamma", "alpha"),
        "-alpha t (1 - p)^gamma log p - (1 - alpha) (1 - t) p^gamma log(1 - p)",
        "Lin et al., ICCV 2017, equation 5",
    ),
    "asymmetric": LossEntry(
        lambda counts, gamma_neg, gamma_pos, clip: focusing_losses.AsymmetricLoss(gamma_neg, gamma_pos, clip),
        ("gamma_neg", "gamma_pos", "clip"),
        "-t (1 - p)^gamma_pos log p - (1 - t) m^gamma_neg log(1 - m), m = max(p - clip, 0)",
        "Ben-Baruch et al., ICCV 2021, equations 4 to 7",
    ),
    "class-balanced": LossEntry(
        logistic_losses.class_balanced,
        ("beta",),
        "-w1 t log p - w0 (1 - t) log(1 - p), w = (1 - beta) / (1 - beta^n), scaled to w1 + w0 = 2",
        "Cui et al., CVPR 2019, equations 2 and 5, each label as two classes",
    ),
    "distribution-balanced": LossEntry(
        logistic_losses.distribution_balanced,
        ("map_alpha", "map_beta", "map_mu", "negative_scale", "bias_scale"),
        "r [t softplus(v - z) + (1 - t) softplus(negative_scale (z - v)) / negative_scale], "
        "v = bias_scale log(n0 / n1), r = map_alpha + sigmoid(map_beta (c - map_mu)), "
        "c = (1 / n1) / sum of 1 / n1 over the image's positives",
        "Wu et al., ECCV 2020, equations 3 to 9",
    ),
    "ldam": LossEntry(
        logistic_losses.margin,
        ("max_margin", "scale", "beta", "defer"),
        "w1 t softplus(-scale (z - m1)) + w0 (1 - t) softplus(scale (z + m0)), m = max_margin (least n / n)^(1/4), "
        "w = 1, from `defer` of the training on as in class-balanced",
        "Cao et al., NeurIPS 2019, equations 11 to 13 and algorithm 1, each label as two classes",
    ),
    "logit-adjusted": LossEntry(
        logistic_losses.logit_adjusted,
        ("tau",),
        "bce of z + tau log(n1 / n0)",
        "Menon et al., ICLR 2021, equation 10, each label as two classes",
    ),
}


class LossSpec(BaseModel):
    """A loss by name, with its own options; an option of another loss is refused. `LOSSES` says who uses which.

    max_positive_weight: the most that a positive weighs. gamma, alpha: focal. gamma_neg, gamma_pos, clip: asymmetric.
    beta: of the effective number (class-balanced; ldam after `defer`). map_alpha, map_beta, map_mu: from ratio to
    weight; negative_scale: steepness for negatives; bias_scale: of the labels' own bias (distribution-balanced).
    max_margin, scale, defer: ldam. tau: logit-adjusted. Written out (`model_dump`) it holds what its loss uses.
    Raises `SpecError` for an unknown name and for an option that the loss does not use.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str = "bce"
    max_positive_weight: float = Field(default=20.0, gt=0)
    gamma: float = Field(default=2.0, ge=0)
    alpha: float = Field(default=0.25, ge=0, le=1)
    gamma_neg: float = Field(default=4.0, ge=0)
    gamma_pos: float = Field(default=1.0, ge=0)
    clip: float = Field(default=0.05, ge=0, lt=1)
    beta: float = Field(default=0.9999, ge=0, lt=1)
    map_alpha: float = Field(default=0.1, ge=0)
    map_beta: float = Field(default=10.0, gt=0)
    map_mu: float = 0.2
    negative_scale: float = Field(default=2.0, gt=0)
    bias_scale: float = Field(default=0.05, ge=0)
    max_margin: float = Field(default=0.5, ge=0)
    scale: float = Field(default=1.0, gt=0)
    defer: float = Field(default=0.8, ge=0, le=1)
    tau: float = Field(default=1.0, ge=0)

    @model_validator(mode="after")
    def _own_options(self) -> LossSpec:
        if self.name not in LOSSES:
            raise SpecError(unknown_name("loss", self.name, LOSSES))
        used = LOSSES[self.name].options
        for option in sorted(self.model_fields_set - {"name", *used}):
            others = ", ".join(name for name, entry in LOSSES.items() if option in entry.options)
            takes = f"takes {', '.join(used)}" if used else "takes no options"
            raise SpecError(f"loss {self.name!r} does not use {option!r} (it {takes}; {option!r} belongs to {others}).")
        return self

    @model_serializer(mode="wrap")
    def _used(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in dump(self).items() if key in ("name", *LOSSES[self.name].options)}

    @property
    def options(self) -> dict[str, float]:
        """What its loss uses, defaults filled in."""
        return {option: getattr(self, option) for option in LOSSES[self.name].options}


def loss_spec(value: Any) -> Any:
    """For a field `loss`: a plain string is the loss of that name; anything else is left for pydantic to check."""
    return LossSpec(name=value) if isinstance(value, str) else value


LossField = Annotated[LossSpec, BeforeValidator(loss_spec)]
"""Type of a setting's option `loss`."""


def make_loss(spec: LossSpec, targets: Floats) -> Loss:
    """The loss for these training targets (N, L), NaN = not assessed. Raises `DataError` for a value beside 1, 0, NaN.

    A label without training positives, or without negatives, counts 1 for the empty class: its numbers are finite.
    """
    return LOSSES[spec.name].make(Counts.of(targets), **spec.options)
