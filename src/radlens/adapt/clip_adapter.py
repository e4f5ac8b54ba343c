"""CLIP-Adapter: a bottleneck beside the image embedding, before the zero-shot classifier."""

from __future__ import annotations

import math
import time

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from radlens.adapt.calibration import calibrate
from radlens.adapt.embedding_training import (
    Data,
    EmbeddingTraining,
    Training,
    checked,
    in_parts,
    label_facts,
    one_thread,
    train,
    trainable,
)
from radlens.adapt.prompt_weights import prompt_pairs, prompt_weights
from radlens.core.classifier import Classifier
from radlens.core.heads import ResidualHead
from radlens.core.parts import AdaptationTask
from radlens.core.registry import register

RATIOS = (0.2, 0.4, 0.6, 0.8)


@register("settings", "clip-adapter")
class ClipAdapter(EmbeddingTraining):
    """A bottleneck of two layers changes the image embedding before zero-shot's directions score it.

    Gao et al., "CLIP-Adapter", IJCV 2024: x' = ratio * A(x) + (1 - ratio) * x, A(x) = relu(up relu(down x)), in a
    multi-label form: logits are the logit scale x (mean cosine to positive - mean cosine to negative prompts), each
    trained by its own cross-entropy. Zero-shot logits are not calibrated, which such a loss needs: a slope shared by
    labels is fitted once at the start (on train), and a bias per label is fitted there and then trained with the rest.
    A label without training positives is left out of the loss: its direction stays, its bias is that of the start.

    ratio: how much of the embedding the bottleneck makes; without it the best on validation of 0.2, 0.4, 0.6, 0.8.
    reduction: the bottleneck is so many times narrower than the embedding. train_weights: zero-shot's directions are
    trained too.
    """

    ratio: float | None = Field(None, gt=0, lt=1)
    reduction: float = Field(4, ge=1, allow_inf_nan=False)
    train_weights: bool = False

    def fit(self, task: AdaptationTask) -> Classifier:
        """Train on split `train`, stop and choose the ratio by split `val`.

        Raises `DataError` where train has no positive, val no assessed target, or an embedding is not finite.
        """
        begun = time.perf_counter()
        splits = checked(task, "train", "clip-adapter"), checked(task, "val", "clip-adapter")
        prompts = prompt_pairs(task.vocabulary)
        weight = torch.from_numpy(prompt_weights(prompts, task.encode_texts))
        ratios = RATIOS if self.ratio is None else (self.ratio,)
        with one_thread():
            made = [self._train(task, splits, weight, ratio, index, len(ratios)) for index, ratio in enumerate(ratios)]
        task.progress(len(ratios) * self.epochs, len(ratios) * self.epochs)
        head, training = min(made, key=lambda one: one[1].stopping_loss)
        trained = (head.down, head.up, head.bias, *((head.weight,) if self.train_weights else ()))
        card = {
            "options": self.model_dump(),
            "prompts": prompts,
            "train_seconds": time.perf_counter() - begun,
            "trainable_parameters": sum(tensor.numel() for tensor in trained),
            "ratio": head.ratio,
            "ratios_tried": [{"ratio": h.ratio, "validation_bce": t.val_bce} for h, t in made],
            "slope": head.scale / task.logit_scale,
            **label_facts(task),
            **training.card(),
        }
        return Classifier("clip-adapter", head, task.vocabulary, task.encoder, card=card)

    def _train(
        self, task: AdaptationTask, splits: tuple[Data, Data], weight: Tensor, ratio: float, index: int, ratios: int
    ) -> tuple[ResidualHead, Training]:
        (x, _), (val_x, val_targets) = splits[0].tensors(), splits[1].tensors()
        head = self._start(task, weight, ratio)
        with torch.no_grad():
            fitted = calibrate(in_parts(head, x).numpy(), splits[0].targets)
        head.scale *= fitted.slope
        head.bias.copy_(torch.from_numpy(fitted.bias))
        trained = [head.down, head.up, head.bias, *([head.weight] if self.train_weights else [])]
        for tensor in trained:
            tensor.requires_grad_()
        training = train(
            self,
            trained,
            lambda rows: head(x[rows]),
            lambda: in_parts(head, val_x),
            torch.from_numpy(trainable(splits[0].targets)),
            val_targets,
            generator=np.random.default_rng(task.seed),
            on_epoch=lambda epoch: task.progress(index * self.epochs + epoch, ratios * self.epochs),
            image_ids=splits[0].image_ids,
            setting="clip-adapter",
        )
        for tensor in trained:
            tensor.requires_grad_(False)
        return head, training

    def _start(self, task: AdaptationTask, weight: Tensor, ratio: float) -> ResidualHead:
        """Zero-shot behind a bottleneck of random weights, drawn as `nn.Linear` draws them."""
        dimension = weight.shape[1]
        hidden = max(1, round(dimension / self.reduction))
        generator = torch.Generator().manual_seed(task.seed)
        down, up = torch.empty(hidden, dimension), torch.empty(dimension, hidden)
        for tensor in (down, up):
            nn.init.kaiming_uniform_(tensor, a=math.sqrt(5), generator=generator)
        return ResidualHead(
            weight.clone(), torch.zeros(len(weight)), down, up, ratio=ratio, scale=float(task.logit_scale)
        )
