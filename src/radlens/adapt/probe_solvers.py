"""The ways in which a linear probe is fitted, and how the best of several weight decays is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch

from radlens.adapt.logistic import Epoch, fit_logistic
from radlens.adapt.logistic_lbfgs import ExactFit, LogisticProblem
from radlens.adapt.logistic_ridge import fit_ridge
from radlens.adapt.losses import LossSpec
from radlens.adapt.perceptron_probe import Protocol, fit_perceptron
from radlens.adapt.probe_bank import Variant, fit_bank
from radlens.adapt.probe_data import Doubles, ProbeData
from radlens.adapt.probe_grid import choose, label_losses
from radlens.core.errors import DataError
from radlens.core.heads import Head
from radlens.core.parts import AdaptationTask, Floats, Progress


@dataclass(frozen=True)
class Heads:
    """What is trained, on which loss, from which draws."""

    hidden: int | None = None
    loss: LossSpec = field(default_factory=LossSpec)
    sampler: str = "plain"
    cap: int = 4

    @property
    def plain(self) -> bool:
        """Linear, every image once an epoch."""
        return self.hidden is None and self.sampler == "plain"


@dataclass(frozen=True)
class Request:
    """One probe: of its decays the best on validation is wanted."""

    heads: Heads
    learning_rate: float
    decays: tuple[float, ...]
    epochs: int
    batch_size: int
    patience: int
    seed: int


@dataclass(frozen=True)
class Found:
    """A head for the features in `ProbeData`, and what the card says of how it came about."""

    head: Head
    card: dict[str, Any]


@dataclass(frozen=True)
class _Tried:
    head: Head
    decay: float
    best: Epoch
    history: tuple[Epoch, ...]


def fit_minibatches(requests: Sequence[Request], data: ProbeData, progress: Progress) -> list[Found | DataError]:
    """AdamW; requests that are more than one are plain and share epochs, batch size and patience.

    One plain head on cross-entropy is fitted by `fit_logistic`, several by `fit_bank`; of these one that fails leaves
    its error in its place, and the others are kept.
    """
    first = requests[0]
    if not first.heads.plain:
        return [_chosen([_perceptron(first, decay, data, place, progress) for place, decay in enumerate(first.decays)])]
    if len(requests) == len(first.decays) == 1 and first.heads.loss.name == "bce":
        return [_chosen([_alone(first, data, progress)])]
    variants = [Variant(r.heads.loss, r.seed, r.learning_rate, decay) for r in requests for decay in r.decays]
    fits = fit_bank(
        data.train,
        data.val,
        variants,
        epochs=first.epochs,
        batch_size=first.batch_size,
        patience=first.patience,
        progress=progress,
    )
    found: list[Found | DataError] = []
    start = 0
    for request in requests:
        own = fits[start : start + len(request.decays)]
        start += len(request.decays)
        tried = [
            _Tried(_head(f.weight, f.bias), f.variant.weight_decay, f.best, f.history) for f in own if f.failed is None
        ]
        if tried:
            chosen = _chosen(tried)
            chosen.card["trained_together"] = len(variants)
            found.append(chosen)
        else:
            of = f"{request.heads.loss.name}, seed {request.seed}, learning rate {request.learning_rate:g}"
            found.append(DataError(f"linear-probe ({of}): {own[0].failed}"))
    return found


def _alone(request: Request, data: ProbeData, progress: Progress) -> _Tried:
    fit = fit_logistic(
        data.train,
        data.val,
        learning_rate=request.learning_rate,
        weight_decay=request.decays[0],
        epochs=request.epochs,
        batch_size=request.batch_size,
        patience=request.patience,
        generator=np.random.default_rng(request.seed),
        on_epoch=lambda epoch: progress(epoch.epoch, request.epochs),
    )
    # stopped early: the bar is full all the same
    progress(len(fit.history), len(fit.history))
    return _Tried(_head(fit.weight, fit.bias), request.decays[0], fit.best, fit.history)


def _perceptron(request: Request, decay: float, data: ProbeData, place: int, progress: Progress) -> _Tried:
    total = len(request.decays) * request.epochs
    protocol = Protocol(
        request.heads.hidden,
        request.heads.loss,
        request.heads.sampler,
        request.heads.cap,
        request.learning_rate,
        decay,
        request.epochs,
        request.batch_size,
        request.patience,
    )
    done = place * request.epochs
    fit = fit_perceptron(
        data.train, data.val, protocol, request.seed, lambda epoch: progress(done + epoch.epoch, total)
    )
    progress(done + request.epochs, total)
    return _Tried(fit.head, decay, fit.best, fit.history)


def _chosen(tried: Sequence[_Tried]) -> Found:
    """The decay of least validation loss, one for all labels."""
    best = min(tried, key=lambda one: one.best.val_bce)
    card: dict[str, Any] = {
        "epochs_run": len(best.history),
        "best_epoch": best.best.epoch,
        "validation_bce": best.best.val_bce,
        "history": [asdict(epoch) for epoch in best.history],
    }
    if len(tried) > 1:
        card["weight_decay_chosen"] = best.decay
        card["weight_decays_tried"] = [{"weight_decay": x.decay, "validation_bce": x.best.val_bce} for x in tried]
    return Found(best.head, card)


def fit_convex(request: Request, solver: str, data: ProbeData, task: AdaptationTask) -> Found:
    """`lbfgs` or `closed-form`: every decay to its optimum, strongest first; validation chooses a label's own."""
    decays = sorted(set(request.decays), reverse=True)
    card: dict[str, Any] = {"epochs_run": 0, "best_epoch": 0, "history": []}
    if solver == "lbfgs":
        fits = lbfgs_path(LogisticProblem(*data.train), decays, task.progress)
        weight, bias = np.stack([f.weight for f in fits]), np.stack([f.bias for f in fits])
        card |= {"iterations": [f.iterations for f in fits], "converged": all(f.converged for f in fits)}
    else:
        ridge = fit_ridge(*data.train, decays)
        weight, bias = ridge.weight, ridge.bias
        task.progress(len(decays), len(decays))
    index = np.zeros(len(task.vocabulary), np.int64)
    if len(decays) > 1:
        losses = [
            label_losses(data.val[0] @ w.astype(np.float32).T + b, data.val[1])
            for w, b in zip(weight, bias, strict=True)
        ]
        choice = choose(losses, data.val[1], fallback=0)
        index = choice.index
        card["weight_decay_chosen"] = choice.card(task.vocabulary.names, decays)
        count = int((~np.isnan(data.val[1])).sum())
        card["weight_decays_tried"] = [
            {"weight_decay": decay, "validation_bce": float(loss.sum()) / count}
            for decay, loss in zip(decays, losses, strict=True)
        ]
    labels = np.arange(len(index))
    if solver == "closed-form":
        card["platt_slope"] = dict(zip(task.vocabulary.names, ridge.slope[index, labels].tolist(), strict=True))
    return Found(_head(weight[index, labels], bias[index, labels]), card)


def lbfgs_path(problem: LogisticProblem, strengths: Sequence[float], progress: Progress) -> list[ExactFit]:
    """The optimum for each strength, in their order, each begun at the one before; one strength for all labels."""
    fits: list[ExactFit] = []
    for number, strength in enumerate(strengths, 1):
        fits.append(problem.fit(np.full(len(problem.counts), strength), fits[-1] if fits else None))
        progress(number, len(strengths))
    return fits


def _head(weight: Floats | Doubles, bias: Floats | Doubles) -> Head:
    return Head(torch.from_numpy(weight.astype(np.float32)), torch.from_numpy(bias.astype(np.float32)), normalise=False)
