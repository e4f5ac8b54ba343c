"""The options that all settings share that train an encoder."""

from __future__ import annotations

import abc
from collections.abc import Callable, Collection
from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import nn

from radlens.adapt.losses import LossField, LossSpec
from radlens.adapt.training.augmentation import Augmentation
from radlens.adapt.training.job import Logger, Precision, TrainingJob, as_it_is
from radlens.adapt.training.train import train_encoder
from radlens.core.classifier import Classifier, Encoder
from radlens.core.parts import AdaptationTask, Setting


class EncoderSetting(Setting):
    """A setting that trains (a part of) the image tower with a linear head on its un-normalised embeddings.

    learning_rate: of the head while it trains alone. unfrozen_factor: what the rate is multiplied with when the encoder
    joins. warm_up_epochs: of the head alone, on the study's embeddings; the rest starts with a fresh optimiser. epochs:
    at most so many, the warm-up's among them. batch_size: images a step, all processes together. patience: epochs
    without a lower validation loss before it stops; null trains all. weight_decay: decoupled, on all that trains.
    loss, sampler, sampler_cap: see the tables of losses and samplers.
    augmentation: `none`, `radiograph` (small turns, shifts, changes of size and of grey values, noise), or its amounts.
    It acts once the encoder trains; validation images are never changed. Flips are off unless asked for.
    precision: `float32`, `bf16`, or `fp16` (CUDA). accumulate: pieces that a step is cut into, one after another.
    activation_checkpointing: computes activations twice. Both give the same result with less memory.
    ema: decay of a moving average of the weights, which is then what is validated and kept.
    keep_checkpoints: leave them when done. checkpoint_minutes: how often to save within an epoch (0: after every step).
    loggers: `csv` writes training.csv; `tensorboard` and `mlflow` where they are installed.
    """

    collective: ClassVar[bool] = True

    learning_rate: float = Field(default=1e-3, gt=0, allow_inf_nan=False)
    unfrozen_factor: float = Field(default=0.1, gt=0, le=1)
    weight_decay: float = Field(default=1e-2, ge=0, allow_inf_nan=False)
    warm_up_epochs: int = Field(default=1, ge=0)
    epochs: int = Field(default=30, ge=1)
    batch_size: int = Field(default=24, ge=1)
    patience: int | None = Field(default=5, ge=1)
    loss: LossField = LossSpec()
    sampler: str = "plain"
    sampler_cap: int = Field(default=4, ge=1)
    augmentation: Literal["none", "radiograph"] | Augmentation = "none"
    precision: Precision = "float32"
    accumulate: int = Field(default=1, ge=1)
    activation_checkpointing: bool = False
    ema: float | None = Field(default=None, gt=0, lt=1)
    keep_checkpoints: bool = False
    checkpoint_minutes: float = Field(default=15.0, ge=0, allow_inf_nan=False)
    loggers: tuple[Logger, ...] = ("csv",)

    @abc.abstractmethod
    def fit(self, task: AdaptationTask) -> Classifier: ...

    def trained(
        self,
        name: str,
        task: AdaptationTask,
        choose: Callable[[Encoder], Collection[str]],
        *,
        layer_decay: float = 1.0,
        merge: Callable[[nn.Module], None] = as_it_is,
        facts: dict[str, Any] | None = None,
    ) -> Classifier:
        """Train what `choose` names (see `TrainingJob`); facts: more for the card."""
        preset = {"none": None, "radiograph": Augmentation()}
        augmentation = preset[self.augmentation] if isinstance(self.augmentation, str) else self.augmentation
        shared = {field: getattr(self, field) for field in EncoderSetting.model_fields if field != "augmentation"}
        job = TrainingJob(
            setting=name,
            options=self.model_dump(mode="json"),
            choose=choose,
            merge=merge,
            augmentation=augmentation,
            layer_decay=layer_decay,
            **shared,
        )
        found = train_encoder(job, task)
        encoder = task.encoder.with_image_tensors(found.image_tensors) if task.encoder and found.image_tensors else None
        return Classifier(
            setting=name,
            head=found.head,
            vocabulary=task.vocabulary,
            encoder=encoder or task.encoder,
            image_tensors=found.image_tensors,
            card=dict(found.card) | (facts or {}),
        )
