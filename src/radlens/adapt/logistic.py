"""Multi-label logistic regression by minibatch AdamW, written out: one matrix, no autograd, no data loader.

A step on 24 x 512 numbers is so small that an optimiser's and a data loader's bookkeeping costs ten times its
arithmetic. Weights and bias are one (L, D + 1) matrix, the gradient of the cross-entropy is closed-form, every buffer
and every view of it is made once, and the optimiser's decays are scalars (`logistic_steps`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg.blas import sgemm
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

from radlens.adapt.logistic_steps import BETA1 as BETA1
from radlens.adapt.logistic_steps import BETA2 as BETA2
from radlens.adapt.logistic_steps import EPSILON as EPSILON
from radlens.adapt.logistic_steps import AdamW
from radlens.core.errors import DataError
from radlens.core.parts import Floats

BLOCK = 64
"""Rows of a product that is not a step's: few enough for the kernels that need no packing."""
LOSS_BLOCK = 4096


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
    return _mean_loss(logits, signs_of(targets), 1.0)


def signs_of(targets: Floats) -> Floats:
    """1 for target 1, -1 for target 0, 0 for NaN, float32."""
    return np.nan_to_num(2 * targets - 1).astype(np.float32, copy=False)


def _mean_loss(scaled: Floats, signs: Floats, scale: float) -> float:
    """Mean of log(1 + exp(-sign * scale * scaled)) over entries with a sign; NaN if there is none."""
    total, count = 0.0, 0
    for start in range(0, len(signs), LOSS_BLOCK):
        sign = signs[start : start + LOSS_BLOCK]
        known = int(np.count_nonzero(sign))
        against = sign * scaled[start : start + LOSS_BLOCK]
        against *= -scale
        # log(1 + exp(u)) = max(u, 0) + log(1 + exp(-|u|)) cannot overflow
        losses = np.abs(against)
        np.negative(losses, out=losses)
        np.exp(losses, out=losses)
        losses += 1
        np.log(losses, out=losses)
        losses += np.maximum(against, 0, out=against)
        # an entry without a sign has come to log 2; it is left out
        total += float(
            losses.sum(dtype=np.float64) if known == sign.size else losses.sum(where=sign != 0, dtype=np.float64)
        )
        count += known
    return total / count if count else math.nan


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
    dimension = train[0].shape[1]
    threads = ThreadpoolController()
    run = _Run(_with_ones(train[0]), train[1], batch_size)
    val_inputs, val_signs = _with_ones(val[0]), signs_of(val[1])
    best_weight, best, history = run.weight.copy(), Epoch(0, math.inf, math.inf), []
    for epoch in range(1, epochs + 1):
        rate = learning_rate * (1 + math.cos(math.pi * (epoch - 1) / epochs)) / 2
        # a loss that runs away is told below, in a sentence, and not as numpy's warnings
        # handing a product of this size to a second thread takes longer than the product
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"), threads.limit(limits=1, user_api="blas"):
            train_bce = run.epoch(generator.permutation(len(train[0])), rate, weight_decay)
            last = Epoch(epoch, train_bce, _mean_loss(_logits(val_inputs, run.weight), val_signs, 1.0))
        if not (math.isfinite(last.train_bce) and math.isfinite(last.val_bce)):
            raise DataError(
                f"the linear probe's loss is not finite in epoch {epoch} (train {last.train_bce}, validation "
                f"{last.val_bce}); use a lower learning_rate, or standardise: true for embeddings of a large scale."
            )
        history.append(last)
        on_epoch(last)
        if last.val_bce < best.val_bce:
            best = last
            best_weight[:] = run.weight
        elif epoch - best.epoch >= patience:
            break
    return LogisticFit(best_weight[:, :dimension].copy(), best_weight[:, dimension].copy(), best, tuple(history))


class _Run:
    """Training data, weights (L, wide) and every view of a buffer that a step needs."""

    def __init__(self, inputs: Floats, targets: Floats, batch_size: int) -> None:
        count, labels = targets.shape
        self.inputs, self.signs = inputs, signs_of(targets)
        self.optimiser = AdamW((labels, inputs.shape[1]))
        self.weight = self.optimiser.weight
        self.null = bool((self.signs == 0).any())
        self.order = np.zeros(count, np.int64)
        # what an epoch permutes; halved logits are what tanh wants
        self.epoch_signs, self.halves = np.empty_like(self.signs), np.empty((count, labels), np.float32)
        self.assessed = np.ones((count, labels), np.float32)
        self.starts = np.arange(0, count, batch_size)
        batch = np.empty((min(batch_size, count), inputs.shape[1]), np.float32)
        errors = np.empty((len(batch), labels), np.float32)
        self.steps = []
        for start in self.starts.tolist():
            here = slice(start, min(start + batch_size, count))
            x, error = batch[: here.stop - start], errors[: here.stop - start]
            self.steps.append(
                (
                    self.order[here],
                    x,
                    x.T,
                    self.halves[here],
                    self.halves[here].T,
                    error,
                    error.T,
                    self.epoch_signs[here],
                    self.assessed[here],
                )
            )

    def epoch(self, order: npt.NDArray[np.int64], rate: float, weight_decay: float) -> float:
        """One pass in this order; the mean loss of all entries, each before its step."""
        self.order[:] = order
        self.signs.take(order, axis=0, out=self.epoch_signs, mode="clip")
        if self.null:
            np.not_equal(self.epoch_signs, 0, out=self.assessed, casting="unsafe")
        counts = np.add.reduceat((self.epoch_signs != 0).sum(axis=1), self.starts)
        shares = (0.5 / np.maximum(counts, 1)).tolist()
        optimiser, take, null = self.optimiser, self.inputs.take, self.null
        weights, gradient, step = self.weight.T, optimiser.gradient.T, optimiser.step
        optimiser.begin(rate, weight_decay)
        for share, (rows, x, columns, half, half_columns, error, error_columns, signs, assessed) in zip(
            shares, self.steps, strict=True
        ):
            take(rows, axis=0, out=x, mode="clip")
            # BLAS counts columns first: these are half = 0.5 * weight_scale * x @ weight.T, gradient = error.T @ x
            sgemm(0.5 * optimiser.scale, weights, columns, 0.0, half_columns, 1, 0, 1)
            # sigmoid(z) - t = (tanh(z / 2) - (2 t - 1)) / 2; the half is in share
            np.tanh(half, error)
            np.subtract(error, signs, error)
            if null:
                np.multiply(error, assessed, error)
            sgemm(share, columns, error_columns, 0.0, gradient, 0, 1, 1)
            step()
        optimiser.settle()
        return _mean_loss(self.halves, self.epoch_signs, 2.0)


def _logits(inputs: Floats, weight: Floats) -> Floats:
    """(N, L)."""
    logits = np.empty((len(inputs), len(weight)), np.float32)
    for start in range(0, len(inputs), BLOCK):
        np.dot(inputs[start : start + BLOCK], weight.T, out=logits[start : start + BLOCK])
    return logits


def _with_ones(embeddings: Floats) -> Floats:
    """(N, D) -> (N, wide): a column of ones carries the bias; zeros fill up to a width that vectors like."""
    count, dimension = embeddings.shape
    inputs = np.zeros((count, -(-(dimension + 1) // 8) * 8), np.float32)
    inputs[:, :dimension] = embeddings
    inputs[:, dimension] = 1
    return inputs
