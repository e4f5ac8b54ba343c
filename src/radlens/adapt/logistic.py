"""Multi-label logistic regression by minibatch AdamW, written out: one matrix, no autograd, no data loader.

A step on 24 x 512 numbers is so small that an optimiser's and a data loader's bookkeeping costs ten times its
arithmetic. Weights and bias are one (L, D + 1) matrix, the gradient of the cross-entropy is closed-form, and every
buffer is made once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

from radlens.core.errors import DataError
from radlens.core.parts import Floats

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


@dataclass(frozen=True)
class Epoch:
    """Losses of one epoch: train is the mean over its batches' entries, each before its step; val is after the last."""

    epoch: int
    train_bce: float
    val_bce: float


@dataclass(frozen=True)
class LogisticFit:
    """weight (L, D) and bias (L,) of the epoch with the least validation loss, and every epoch's losses."""

    weight: Floats
    bias: Floats
    best: Epoch
    history: tuple[Epoch, ...]


def binary_cross_entropy(logits: Floats, targets: Floats) -> float:
    """Mean of log(1 + exp(z)) - t z over the entries whose target is not NaN; (N, L) both. NaN if there is none."""
    assessed = ~np.isnan(targets)
    count = int(assessed.sum())
    if count == 0:
        return math.nan
    # log(1 + exp(z)) = max(z, 0) + log(1 + exp(-|z|)) cannot overflow
    losses = np.maximum(logits, 0) + np.log(1 + np.exp(-np.abs(logits))) - np.nan_to_num(targets) * logits
    return float(losses.sum(where=assessed, dtype=np.float64)) / count


def fit_logistic(
    train: tuple[Floats, Floats],
    val: tuple[Floats, Floats],
    *,
    learning_rate: float,
    weight_decay: float,
    epochs: int,
    batch_size: int,
    patience: int,
    generator: np.random.Generator,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> LogisticFit:
    """Minimise masked binary cross-entropy; what torch's AdamW over `nn.Linear` does, started from zero.

    train, val: embeddings (N, D) and targets (N, L) float32, NaN = not assessed. Decoupled weight decay acts on all
    parameters, the bias too (AdamW's plain default; Loshchilov and Hutter, ICLR 2019). The learning rate follows a
    cosine from `learning_rate` to 0 over `epochs`, one value an epoch. Each epoch draws one permutation from
    `generator`; the last batch may be smaller. Stops when `patience` epochs in a row bring no lower validation loss.
    A label without any assessed target keeps weight 0. A loss that is not finite raises `DataError`.
    """
    embeddings, targets = train
    count, dimension = embeddings.shape
    labels = targets.shape[1]
    inputs = _with_ones(embeddings)
    val_inputs = _with_ones(val[0])
    assessed = ~np.isnan(targets)
    signs = np.where(assessed, 2 * targets - 1, 0).astype(np.float32)
    starts = np.arange(0, count, batch_size)

    weight = np.zeros((labels, dimension + 1), np.float32)
    gradient, step, first, second = (np.zeros_like(weight) for _ in range(4))
    batch = np.empty((min(batch_size, count), dimension + 1), np.float32)
    logits = np.empty((count, labels), np.float32)
    errors = np.empty((len(batch), labels), np.float32)
    best_weight, best, history = weight.copy(), Epoch(0, math.inf, math.inf), []
    updates, threads = 0, ThreadpoolController()
    for epoch in range(1, epochs + 1):
        rate = learning_rate * (1 + math.cos(math.pi * (epoch - 1) / epochs)) / 2
        kept = 1 - rate * weight_decay
        order = generator.permutation(count)
        epoch_signs = signs[order]
        epoch_share = _half_share(assessed[order], starts)
        # a loss that runs away is told below, in a sentence, and not as numpy's warnings
        # handing a product of this size to a second thread takes longer than the product
        with np.errstate(over="ignore", invalid="ignore"), threads.limit(limits=1, user_api="blas"):
            for start in starts.tolist():
                rows = order[start : start + batch_size]
                x, error = batch[: len(rows)], errors[: len(rows)]
                z = logits[start : start + batch_size]
                inputs.take(rows, axis=0, out=x, mode="clip")
                np.dot(x, weight.T, out=z)
                # sigmoid(z) - t = (tanh(z / 2) - (2 t - 1)) / 2; the half is in epoch_share
                np.multiply(z, 0.5, out=error)
                np.tanh(error, out=error)
                error -= epoch_signs[start : start + batch_size]
                error *= epoch_share[start : start + batch_size]
                np.dot(error.T, x, out=gradient)
                # moments without their factors (1 - beta), which the step's two scalars carry instead
                updates += 1
                root = math.sqrt((1 - BETA2) / (1 - BETA2**updates))
                first *= BETA1
                first += gradient
                second *= BETA2
                np.multiply(gradient, gradient, out=gradient)
                second += gradient
                np.sqrt(second, out=step)
                step += EPSILON / root
                np.divide(first, step, out=step)
                step *= rate * (1 - BETA1) / ((1 - BETA1**updates) * root)
                weight *= kept
                weight -= step
            last = Epoch(
                epoch,
                binary_cross_entropy(logits, targets[order]),
                binary_cross_entropy(val_inputs @ weight.T, val[1]),
            )
        if not (math.isfinite(last.train_bce) and math.isfinite(last.val_bce)):
            raise DataError(
                f"the linear probe's loss is not finite in epoch {epoch} (train {last.train_bce}, validation "
                f"{last.val_bce}); use a lower learning_rate, or standardise: true for embeddings of a large scale."
            )
        history.append(last)
        on_epoch(last)
        if last.val_bce < best.val_bce:
            best = last
            best_weight[:] = weight
        elif epoch - best.epoch >= patience:
            break
    return LogisticFit(best_weight[:, :-1].copy(), best_weight[:, -1].copy(), best, tuple(history))


def _with_ones(embeddings: Floats) -> Floats:
    """(N, D) -> (N, D + 1): a last column of ones carries the bias."""
    return np.hstack([embeddings, np.ones((len(embeddings), 1), np.float32)], dtype=np.float32)


def _half_share(assessed: npt.NDArray[np.bool_], starts: npt.NDArray[np.int64]) -> Floats:
    """(N, L): half of what an assessed entry counts in its batch's mean; 0 where it was not assessed."""
    counts = np.add.reduceat(assessed.sum(axis=1), starts)
    of_row = np.repeat(np.maximum(counts, 1), np.diff(np.append(starts, len(assessed))))
    return (assessed * (0.5 / of_row)[:, None]).astype(np.float32)
