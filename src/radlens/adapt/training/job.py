"""What is to be trained and how, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from radlens.adapt.losses import LossSpec
from radlens.adapt.training.augmentation import Augmentation
from radlens.core.classifier import Encoder
from radlens.core.heads import Head

Precision = Literal["float32", "bf16", "fp16"]
Logger = Literal["csv", "tensorboard", "mlflow"]


def as_it_is(tower: nn.Module) -> None:
    """Nothing to merge."""


@dataclass(frozen=True)
class TrainingJob:
    """One training of an image tower and a linear head.

    setting: its name, for messages. options: the setting's own, as JSON holds them: a training that was begun goes on
    under the same ones alone. choose: prepares the encoder's tower (its own copy; adapters are put in here) and returns
    the names of the parameters that train. merge: makes the tower plain again afterwards.
    batch_size: images a step, over all processes and accumulated pieces. epochs: with the warm-up's. patience: None
    trains all epochs. ema: decay of the averaged weights, None without. layer_decay: 1 treats all depths alike.
    """

    setting: str
    options: Mapping[str, Any]
    choose: Callable[[Encoder], Collection[str]]
    loss: LossSpec
    sampler: str
    sampler_cap: int
    learning_rate: float
    unfrozen_factor: float
    weight_decay: float
    warm_up_epochs: int
    epochs: int
    batch_size: int
    patience: int | None
    accumulate: int = 1
    precision: Precision = "float32"
    augmentation: Augmentation | None = None
    ema: float | None = None
    layer_decay: float = 1.0
    activation_checkpointing: bool = False
    keep_checkpoints: bool = False
    checkpoint_minutes: float = 15.0
    loggers: tuple[Logger, ...] = ("csv",)
    merge: Callable[[nn.Module], None] = as_it_is


@dataclass(frozen=True)
class Trained:
    """The head, the tensors of the tower that changed, and the facts for the card."""

    head: Head
    image_tensors: Mapping[str, Tensor]
    card: Mapping[str, Any]
