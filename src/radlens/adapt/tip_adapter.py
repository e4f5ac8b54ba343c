"""Tip-Adapter: zero-shot, corrected by what the nearest training images were labelled."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import normalize

from radlens.adapt.cache_model import cache_values, choose_rows
from radlens.adapt.calibration import Calibration, calibrate
from radlens.adapt.embedding_training import (
    Data,
    EmbeddingTraining,
    checked,
    label_facts,
    masked_bce,
    one_thread,
    train,
    trainable,
)
from radlens.adapt.prompt_weights import prompt_pairs, prompt_weights
from radlens.core.classifier import Classifier, Head
from radlens.core.heads import CacheHead
from radlens.core.parts import AdaptationTask, Floats
from radlens.core.registry import register

ALPHAS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
BETAS = (2.0, 5.5, 16.0, 45.0, 128.0, 360.0)
"""Embeddings of radiographs lie close together, so that sharper kernels than the paper's are tried too."""


@register("settings", "tip-adapter")
class TipAdapter(EmbeddingTraining):
    """Zero-shot plus a cache of training images that speak for an image as loud as they are near to it.

    Zhang et al., "Tip-Adapter", ECCV 2022: logits = zero-shot + alpha * exp(-beta (1 - cosine to the cached images)) @
    values. The paper has one class an image; this is our multi-label form. A cached image says +1/positives or
    -1/negatives of a label, so that a label's cache logit is the mean affinity to its positives less that to its
    negatives: a null says nothing, prevalence has no say, and rare labels speak softer (x r / (r + 5), r images of the
    rarer side). Training-free: nothing follows a gradient. alpha, beta, one slope and a bias per label are chosen on
    validation by masked cross-entropy; for each pair of the grid slope and biases are fitted first, because zero-shot
    logits are not calibrated and would otherwise be compared by that.

    cache_per_label: up to so many positives and negatives of each label are cached, at random; with 14 labels at most
    14,336 images, 29 MB at 512 dimensions, however large the cohort. alpha: how loud the cache is, its spread over
    validation as a multiple of zero-shot's; beta: how near an image must be; without them the best of a grid.
    trained: then the keys (and biases) follow the gradient of the loss, each training image told by the others only;
    the keys stay of unit length (Tip-Adapter-F, which lets both go). A label without training positives is left out of
    that loss, and the cache says nothing of it.
    """

    cache_per_label: int = Field(512, ge=1)
    alpha: float | None = Field(None, ge=0, allow_inf_nan=False)
    beta: float | None = Field(None, gt=0, allow_inf_nan=False)
    trained: bool = False
    learning_rate: float = Field(1e-4, gt=0, allow_inf_nan=False)
    epochs: int = Field(20, ge=1)

    def fit(self, task: AdaptationTask) -> Classifier:
        """Cache images of split `train`, choose by split `val`.

        Raises `DataError` where train has no positive, val no assessed target, or an embedding is not finite.
        """
        begun = time.perf_counter()
        source, val = checked(task, "train", "tip-adapter"), checked(task, "val", "tip-adapter")
        prompts = prompt_pairs(task.vocabulary)
        weight = torch.from_numpy(prompt_weights(prompts, task.encode_texts))
        zero_shot = Head(weight, torch.zeros(len(weight)), normalise=True, scale=float(task.logit_scale))
        rows = choose_rows(source.targets, self.cache_per_label, np.random.default_rng(task.seed))
        keys = normalize(torch.from_numpy(source.embeddings[rows]), dim=-1)
        values = torch.from_numpy(cache_values(source.targets[rows]))
        tried = self._grid(zero_shot, keys, values, val)
        best = min(tried, key=lambda one: one.calibration.bce)
        head = best.head(zero_shot, keys, values)
        card: dict[str, Any] = {
            "options": self.model_dump(),
            "prompts": prompts,
            "trainable_parameters": 0,
            "fitted_on_validation": 3 + len(weight),
            "cached_images": len(rows),
            "cache_bytes": 4 * (keys.numel() + values.numel()),
            "alpha": best.alpha,
            "beta": best.beta,
            "slope": best.calibration.slope,
            "tried": [{"alpha": x.alpha, "beta": x.beta, "validation_bce": x.calibration.bce} for x in tried],
            **label_facts(task),
            "epochs_run": 0,
            "best_epoch": 0,
            "validation_bce": masked_bce(head(torch.from_numpy(val.embeddings)), torch.from_numpy(val.targets)),
            "history": [],
        }
        if self.trained:
            with one_thread():
                card |= self._train(task, head, source, val, rows)
        task.progress(self.epochs, self.epochs)
        card["train_seconds"] = time.perf_counter() - begun
        return Classifier("tip-adapter", head, task.vocabulary, task.encoder, card=card)

    def _grid(self, zero_shot: Head, keys: Tensor, values: Tensor, val: Data) -> list[_Tried]:
        x = torch.from_numpy(val.embeddings)
        plain = zero_shot(x).numpy()
        of_plain = _spread(plain)
        alphas: Sequence[float] = ALPHAS if self.alpha is None else (self.alpha,)
        if self.trained and self.alpha is None:
            # a silent cache has no gradient
            alphas = alphas[1:]
        tried = []
        for beta in BETAS if self.beta is None else (self.beta,):
            bare = CacheHead(
                torch.zeros_like(zero_shot.weight), zero_shot.bias, keys, values, alpha=1.0, beta=beta, scale=0.0
            )
            said = bare(x).numpy()
            of_said = _spread(said)
            factor = of_plain / of_said if of_said > 0 else 0.0
            tried += [
                _Tried(alpha, beta, factor, calibrate(plain + alpha * factor * said, val.targets)) for alpha in alphas
            ]
        return tried

    def _train(
        self, task: AdaptationTask, head: CacheHead, source: Data, val: Data, cached: np.ndarray[Any, Any]
    ) -> dict[str, Any]:
        (x, _), (val_x, val_targets) = source.tensors(), val.tensors()
        own = torch.full((len(x),), -1)
        own[torch.from_numpy(cached)] = torch.arange(len(cached))
        keys, bias = head.keys.clone().requires_grad_(), head.bias.requires_grad_()
        targets = torch.from_numpy(trainable(source.targets))
        sides = []
        for side in (head.values.clamp(min=0), head.values.clamp(max=0)):
            count = (side != 0).sum(dim=0)
            sides.append((side, torch.where(side != 0, count / (count - 1).clamp(min=1), 1.0)))
            # the only one of its kind has nobody else to be told from
            row, label = torch.nonzero((side != 0) & (count == 1), as_tuple=True)
            targets[torch.from_numpy(cached)[row], label] = torch.nan

        def train_logits(rows: Tensor) -> Tensor:
            head.keys = normalize(keys, dim=-1)
            near = head.affinities(x[rows])
            inside = torch.nonzero(own[rows] >= 0)[:, 0]
            near = near.index_put((inside, own[rows][inside]), torch.zeros(()))
            # what a mean loses by the image itself is a large part of it where few images are of its kind
            said = torch.zeros(len(rows), len(head.bias))
            for side, more in sides:
                factor = torch.ones_like(said).index_put((inside,), more[own[rows][inside]])
                said = said + factor * (near @ side)
            return Head.forward(head, x[rows]) + head.alpha * said

        def val_logits() -> Tensor:
            head.keys = normalize(keys, dim=-1)
            logits: Tensor = head(val_x)
            return logits

        training = train(
            self,
            [keys, bias],
            train_logits,
            val_logits,
            targets,
            val_targets,
            generator=np.random.default_rng(task.seed),
            on_epoch=lambda epoch: task.progress(epoch, self.epochs),
            image_ids=source.image_ids,
            setting="tip-adapter",
        )
        head.keys = normalize(keys.detach(), dim=-1)
        bias.requires_grad_(False)
        return training.card() | {"trainable_parameters": keys.numel() + bias.numel()}


@dataclass(frozen=True)
class _Tried:
    """One pair of the grid. factor: what makes the cache's spread that of zero-shot."""

    alpha: float
    beta: float
    factor: float
    calibration: Calibration

    def head(self, zero_shot: Head, keys: Tensor, values: Tensor) -> CacheHead:
        slope = self.calibration.slope
        return CacheHead(
            zero_shot.weight,
            torch.from_numpy(self.calibration.bias.astype(np.float32)),
            keys,
            values,
            alpha=slope * self.alpha * self.factor,
            beta=self.beta,
            scale=slope * zero_shot.scale,
        )


def _spread(logits: Floats) -> float:
    """Standard deviation about each label's mean, over all labels."""
    return float(np.sqrt(logits.astype(np.float64).var(axis=0).mean()))
