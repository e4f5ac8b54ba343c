"""Probes that need autograd: a hidden layer, or a sampler that does not show every image once."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from radlens.adapt.logistic import Epoch, binary_cross_entropy
from radlens.adapt.losses import LossSpec, make_loss
from radlens.adapt.samplers import epoch_order
from radlens.core.errors import DataError
from radlens.core.heads import Head, PerceptronHead
from radlens.core.parts import Floats

Split = tuple[Floats, Floats]


@dataclass(frozen=True)
class Protocol:
    """How it is trained. hidden: units of the hidden layer, None for a linear head. cap: see the samplers."""

    hidden: int | None
    loss: LossSpec
    sampler: str
    cap: int
    learning_rate: float
    weight_decay: float
    epochs: int
    batch_size: int
    patience: int


@dataclass(frozen=True)
class PerceptronFit:
    """The head of the epoch with the least validation loss, and every epoch's losses.

    An epoch's train loss is plain masked cross-entropy over what it drew, each entry before its step.
    """

    head: Head
    best: Epoch
    history: tuple[Epoch, ...]


def fit_perceptron(
    train: Split, val: Split, protocol: Protocol, seed: int, on_epoch: Callable[[Epoch], None] = lambda epoch: None
) -> PerceptronFit:
    """AdamW, cosine schedule and early stopping on plain validation cross-entropy, as `fit_logistic` has them.

    train, val: embeddings (N, D) and targets (N, L) float32, NaN = not assessed. The last layer starts from zero, the
    hidden one as `nn.Linear` does; its draws and the batches follow `seed`. A loss that is not finite raises
    `DataError`.
    """
    x, targets = (torch.from_numpy(np.ascontiguousarray(part)) for part in train)
    val_x = torch.from_numpy(np.ascontiguousarray(val[0]))
    head = _start(x.shape[1], targets.shape[1], protocol.hidden, seed)
    tensors = [tensor.requires_grad_() for tensor in head.state_dict(keep_vars=True).values()]
    optimiser = torch.optim.AdamW(tensors, lr=protocol.learning_rate, weight_decay=protocol.weight_decay)
    loss = make_loss(protocol.loss, train[1])
    kept, best, history = [tensor.detach().clone() for tensor in tensors], Epoch(0, math.inf, math.inf), []
    for epoch in range(1, protocol.epochs + 1):
        now = loss.at((epoch - 1) / protocol.epochs)
        for group in optimiser.param_groups:
            group["lr"] = protocol.learning_rate * (1 + math.cos(math.pi * (epoch - 1) / protocol.epochs)) / 2
        order = torch.from_numpy(epoch_order(protocol.sampler, train[1], epoch, seed, protocol.cap))
        seen = []
        for rows in torch.split(order, protocol.batch_size):
            with torch.enable_grad():
                logits = head(x[rows])
                optimiser.zero_grad()
                now(logits, targets[rows]).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            seen.append(logits.detach())
        with torch.no_grad():
            validated = head(val_x).numpy()
        last = Epoch(
            epoch,
            binary_cross_entropy(torch.cat(seen).numpy(), targets[order].numpy()),
            binary_cross_entropy(validated, val[1]),
        )
        if not (math.isfinite(last.train_bce) and math.isfinite(last.val_bce)):
            raise DataError(runaway(last))
        history.append(last)
        on_epoch(last)
        if last.val_bce < best.val_bce:
            best, kept = last, [tensor.detach().clone() for tensor in tensors]
        elif epoch - best.epoch >= protocol.patience:
            break
    with torch.no_grad():
        for tensor, value in zip(tensors, kept, strict=True):
            tensor.requires_grad_(False).copy_(value)
    return PerceptronFit(head, best, tuple(history))


def runaway(last: Epoch) -> str:
    """The sentence for a loss that is not finite."""
    return (
        f"the linear probe's loss is not finite in epoch {last.epoch} (train {last.train_bce}, validation "
        f"{last.val_bce}); use a lower learning_rate, or standardise: true for embeddings of a large scale."
    )


def _start(dimension: int, labels: int, hidden: int | None, seed: int) -> Head:
    if hidden is None:
        return Head(torch.zeros(labels, dimension), torch.zeros(labels), normalise=False)
    generator = torch.Generator().manual_seed(seed)
    weight = torch.empty(hidden, dimension)
    nn.init.kaiming_uniform_(weight, a=math.sqrt(5), generator=generator)
    bias = torch.empty(hidden).uniform_(-(dimension**-0.5), dimension**-0.5, generator=generator)
    return PerceptronHead(torch.zeros(labels, hidden), torch.zeros(labels), weight, bias)
