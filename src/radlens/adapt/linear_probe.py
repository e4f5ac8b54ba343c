"""Linear probe: one linear layer on frozen embeddings."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator

from radlens.adapt.logistic import binary_cross_entropy
from radlens.adapt.losses import LossField, LossSpec
from radlens.adapt.probe_data import ProbeData, probe_data
from radlens.adapt.probe_solvers import Found, Heads, Request, fit_convex, fit_minibatches
from radlens.core.classifier import Classifier, Features
from radlens.core.errors import RadlensError, SpecError
from radlens.core.parts import AdaptationTask, Setting
from radlens.core.registry import register

Decay = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_OF_ADAMW = ("learning_rate", "epochs", "batch_size", "patience", "hidden", "loss", "sampler", "sampler_cap")


@register("settings", "linear-probe")
class LinearProbe(Setting):
    """One linear layer trained on cached, un-normalised image embeddings; the encoder stays as it is.

    By default the protocol of Sadman et al. (BIOKDD 2025): binary cross-entropy over assessed entries, AdamW, cosine
    schedule, early stopping on the validation loss, the best epoch's weights kept. The layer starts from zero: the loss
    is convex, so that the start does not matter and needs no seed; the seed of the study shuffles the batches.

    solver: `adamw` is that protocol. `lbfgs` goes to the optimum of each label's mean cross-entropy + weight_decay / 2
    x |w|^2. `closed-form` is ridge regression of targets 1 and -1 with the same penalty on their mean squared error,
    made probabilities by Platt scaling on exact leave-one-out scores. Both use each label's assessed images alone, take
    the whole split at once and need no seed; a label whose targets are all alike gets weight 0.
    learning_rate: at the start of the cosine. weight_decay: with adamw decoupled, on all parameters, the bias too; the
    bias is free with the other solvers. Of a list, validation cross-entropy chooses: with adamw one for all labels,
    with the others for each label that has 10 validation positives, and one for the rest (without any validation
    positive the largest for all).
    epochs: at most so many. batch_size: images a step. patience: epochs without a lower validation loss before it
    stops.
    standardise: train on embeddings of zero mean and unit variance (over the training images; folded back into the
    head), which the paper does not. features: `trunk` is what the image tower has before its projection.
    hidden: units of a hidden layer (GELU). loss: a name of the table of losses, or a mapping of name and its options;
    validation goes by plain cross-entropy all the same. sampler: `plain`, or `class-aware` with sampler_cap draws of an
    image in an epoch at most.
    """

    batched: ClassVar[bool] = True
    solver: Literal["adamw", "lbfgs", "closed-form"] = "adamw"
    learning_rate: float = Field(default=1e-3, gt=0, allow_inf_nan=False)
    weight_decay: Decay | Annotated[tuple[Decay, ...], Field(min_length=1)] = 1e-2
    epochs: int = Field(default=100, ge=1)
    batch_size: int = Field(default=24, ge=1)
    patience: int = Field(default=10, ge=1)
    standardise: bool = False
    features: Features = "projection"
    hidden: int | None = Field(default=None, ge=1)
    loss: LossField = LossSpec()
    sampler: Literal["plain", "class-aware"] = "plain"
    sampler_cap: int = Field(default=4, ge=1)

    @model_validator(mode="after")
    def _used(self) -> Self:
        given = [option for option in _OF_ADAMW if option in self.model_fields_set]
        if self.solver != "adamw" and given:
            raise SpecError(
                f"linear-probe with solver: {self.solver} does not use {', '.join(given)}; leave that out, or use "
                "solver: adamw."
            )
        if self.sampler == "plain" and "sampler_cap" in self.model_fields_set:
            raise SpecError(
                "linear-probe with sampler: plain does not use sampler_cap; leave it out, or use class-aware."
            )
        return self

    def fit(self, task: AdaptationTask) -> Classifier:
        """Train on split `train`, stop and choose by split `val`.

        With adamw a label without an assessed training target keeps weight 0. It is listed in the card under
        `not_estimable`. Raises `DataError` when a split has no assessed target, an embedding is not finite, or the
        loss runs away.
        """
        (made,) = self.fit_together([self], [task])
        if isinstance(made, RadlensError):
            raise made
        return made

    @classmethod
    def fit_together(cls, parts: Sequence[Self], tasks: Sequence[AdaptationTask]) -> list[Classifier | RadlensError]:
        """Parts that differ in loss, seed, learning rate and weight decay alone are trained as one batched problem.

        `train_seconds` of such a part is its share of the time; `trained_together` says how many heads shared it.
        """
        groups: dict[tuple[Any, ...], list[int]] = {}
        for number, part in enumerate(parts):
            groups.setdefault(part._shared() or (number,), []).append(number)
        made: dict[int, Classifier | RadlensError] = {}
        found: Sequence[Found | RadlensError]
        for numbers in groups.values():
            task = tasks[numbers[0]]
            data = probe_data(task, parts[numbers[0]].features, parts[numbers[0]].standardise)
            begun = time.perf_counter()
            requests = [parts[number]._request(tasks[number].seed) for number in numbers]
            if parts[numbers[0]].solver == "adamw":
                found = fit_minibatches(requests, data, task.progress)
            else:
                found = [fit_convex(requests[0], parts[numbers[0]].solver, data, task)]
            seconds = (time.perf_counter() - begun) / len(numbers)
            for number, each in zip(numbers, found, strict=True):
                if isinstance(each, RadlensError):
                    made[number] = each
                else:
                    made[number] = parts[number]._classifier(tasks[number], data, each, seconds)
        return [made[number] for number in range(len(parts))]

    def _shared(self) -> tuple[Any, ...] | None:
        """What parts that are trained together have in common; None for one that is trained alone."""
        if self.solver != "adamw" or self.hidden is not None or self.sampler != "plain":
            return None
        return self.epochs, self.batch_size, self.patience, self.features, self.standardise

    def _decays(self) -> tuple[float, ...]:
        return self.weight_decay if isinstance(self.weight_decay, tuple) else (self.weight_decay,)

    def _request(self, seed: int) -> Request:
        return Request(
            heads=Heads(self.hidden, self.loss, self.sampler, self.sampler_cap),
            learning_rate=self.learning_rate,
            decays=self._decays(),
            epochs=self.epochs,
            batch_size=self.batch_size,
            patience=self.patience,
            seed=seed,
        )

    def _classifier(self, task: AdaptationTask, data: ProbeData, found: Found, seconds: float) -> Classifier:
        names, targets = task.vocabulary.names, task.targets["train"]
        with torch.no_grad():
            bce = binary_cross_entropy(
                found.head(torch.from_numpy(np.ascontiguousarray(data.val[0]))).numpy(), data.val[1]
            )
        card = {
            "options": self.model_dump(),
            "train_seconds": seconds,
            "trainable_parameters": sum(tensor.numel() for tensor in found.head.state_dict().values()),
            "validation_bce": bce,
            "not_estimable": [n for n, t in zip(names, targets.T, strict=True) if np.isnan(t).all()],
            "no_training_positives": [n for n, t in zip(names, targets.T, strict=True) if not (t == 1).any()],
            **found.card,
        }
        return Classifier(
            setting="linear-probe",
            head=data.unfolded(found.head),
            vocabulary=task.vocabulary,
            encoder=data.encoder,
            features=self.features,
            card=card,
        )
