"""What stands around a training: its images, its loss, the other processes, and where it is saved."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from radlens.adapt.objective.loss import Loss
from radlens.adapt.training.checkpoint import Checkpoints
from radlens.adapt.training.stream import Images, Order
from radlens.core.crew import Crew


@dataclass(frozen=True)
class Surroundings:
    """What a training reads and tells.

    order: of an epoch's rows. identity: what the checkpoint is of. tell: progress in steps. pin: whether batches go to
    a GPU. keeps_best: whether the epoch of the least validation loss counts; else the last.
    """

    train: Images
    val: Images
    order: Order
    loss: Loss
    crew: Crew
    checkpoints: Checkpoints
    identity: Mapping[str, Any]
    tell: Callable[[int, int], None]
    workers: int
    pin: bool
    keeps_best: bool
