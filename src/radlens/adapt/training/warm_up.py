"""The head alone, while the encoder is frozen: on embeddings, since a frozen encoder gives the same ones every time."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils import skip_init
from torch.optim import AdamW

from radlens.adapt.objective.loss import Loss
from radlens.adapt.training.job import TrainingJob
from radlens.adapt.training.stream import Order, steps_of
from radlens.adapt.training.validation import bce_sum
from radlens.core.errors import DataError
from radlens.core.parts import AdaptationTask


def new_head(task: AdaptationTask) -> nn.Linear:
    """PyTorch's own random start (uniform within 1 / sqrt(D)), drawn from the task's seed.

    A label without any known training target never gets a gradient: it starts, and stays, at 0.
    """
    targets = task.targets["train"]
    dimension = task.embeddings["train"].shape[1]
    # its own start would draw from the global generator
    head: nn.Linear = skip_init(nn.Linear, dimension, targets.shape[1])  # type: ignore[no-untyped-call]
    generator, reach = torch.Generator().manual_seed(task.seed), 1 / math.sqrt(dimension)
    never = torch.from_numpy(np.isnan(targets).all(axis=0))
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.uniform_(-reach, reach, generator=generator)
            parameter[never] = 0
    return head


def warm_up(
    head: nn.Linear, task: AdaptationTask, job: TrainingJob, loss: Loss, order: Order
) -> Iterator[dict[str, Any]]:
    """Train the head for the job's warm-up epochs, at the full rate; yields each epoch's entry of the history."""
    inputs, targets = (torch.from_numpy(part["train"]) for part in (task.embeddings, task.targets))
    val = torch.from_numpy(task.embeddings["val"]), torch.from_numpy(task.targets["val"])
    optimiser = AdamW(head.parameters(), lr=job.learning_rate, weight_decay=job.weight_decay)
    taken = 0
    for epoch in range(1, job.warm_up_epochs + 1):
        begun, total, assessed = time.perf_counter(), 0.0, 0
        rows_in_order = order(epoch)
        steps = steps_of(rows_in_order, job.batch_size)
        for step, rows in enumerate(steps):
            known = targets[rows]
            count = int((~known.isnan()).sum())
            if not count:
                continue
            value = loss.at((epoch - 1 + step / len(steps)) / job.epochs)(head(inputs[rows]), known)
            optimiser.zero_grad()
            value.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            total, assessed = total + float(value.detach()) * count, assessed + count
        bce = bce_sum(head(val[0]), val[1]).bce
        if not math.isfinite(total):
            raise DataError(
                f"{job.setting}: the loss is not finite in epoch {epoch}, in which the head trains alone on the "
                "embeddings; use a lower learning_rate, or embed in float32."
            )
        seconds, taken = time.perf_counter() - begun, taken + len(steps)
        yield {
            "epoch": epoch,
            "phase": "head",
            "step": taken,
            "train_loss": total / max(1, assessed),
            "val_bce": bce,
            "learning_rate": job.learning_rate,
            "seconds": seconds,
            "images_per_second": len(rows_in_order) / seconds,
        }
