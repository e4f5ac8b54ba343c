"""CoOp: prompts whose words before the label's name are learned."""

from __future__ import annotations

import math
import time
from contextlib import nullcontext
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import normalize

from radlens.adapt.calibration import calibrate
from radlens.adapt.embedding_training import (
    EmbeddingTraining,
    checked,
    in_parts,
    label_facts,
    one_thread,
    train,
    trainable,
)
from radlens.core.classifier import Classifier, Head
from radlens.core.errors import ModelError
from radlens.core.parts import AdaptationTask
from radlens.core.prompting import LearnsPrompts, PromptTower
from radlens.core.registry import register

_NEAREST = 3
_RANDOM_SPREAD = 0.02
_WIDE = 256


@register("settings", "coop")
class CoOp(EmbeddingTraining):
    """Context vectors in the place of words before a label's name, learned through the frozen text tower.

    Zhou et al., "Learning to Prompt for Vision-Language Models", IJCV 2022, in the multi-label form of DualCoOp (Sun et
    al., NeurIPS 2022): a positive and a negative prompt a label, logit = scale x (cosine to the positive - cosine to
    the negative), each trained by its own cross-entropy. Unlike there, a slope shared by labels is fitted once at the
    start (on train; the scale is the logit scale x this slope), and a bias per label is fitted there and trained along:
    labels differ in prevalence, which shared context cannot say. The result is a linear head of the learned prompts'
    embeddings; no text tower is needed to predict. A label without training positives is left out of the loss; shared
    context changes its prompts all the same.

    init: context starts at the embeddings of the words `positive` and `negative` (as many vectors as they have tokens),
    or at `random` (`context` vectors, normal, deviation 0.02). per_label: every label has context of its own.
    steps: an epoch is so many batches of equal size, none larger than batch_size. A step costs a pass through the text
    tower and back for two prompts a label, whatever the batch (BERT-base, 14 labels: 0.5 s on 2 cores, 1 s on one; at
    most 30 x 8 steps then take two minutes), while image embeddings are cached: hence few and large batches.
    """

    init: Literal["words", "random"] = "words"
    positive: str = Field("chest X-ray with", min_length=1)
    negative: str = Field("chest X-ray without", min_length=1)
    context: int = Field(4, ge=1)
    per_label: bool = False
    learning_rate: float = Field(2e-3, gt=0, allow_inf_nan=False)
    weight_decay: float = Field(0, ge=0, allow_inf_nan=False)
    epochs: int = Field(30, ge=1)
    batch_size: int = Field(1024, ge=1)
    patience: int = Field(5, ge=1)
    steps: int = Field(8, ge=1)

    def fit(self, task: AdaptationTask) -> Classifier:
        """Train on split `train`, stop by split `val`.

        Raises `DataError` where train has no positive, val no assessed target, or an embedding is not finite;
        `ModelError` where there is no text tower that takes context, or a name does not fit behind it.
        """
        begun = time.perf_counter()
        source, val = checked(task, "train", "coop"), checked(task, "val", "coop")
        tower, names = _tower(task.encoder), task.vocabulary.names
        sides = self._start(tower, len(names), task.seed)
        device = sides[0].device
        (x, _), (val_x, val_targets) = source.tensors(device), val.tensors(device)

        def directions() -> Tensor:
            positive, negative = (
                normalize(tower.encode(side.expand(len(names), -1, -1), names), dim=-1) for side in sides
            )
            return positive - negative

        def logits(embeddings: Tensor, directions: Tensor) -> Tensor:
            return scale * (normalize(embeddings, dim=-1) @ directions.T) + bias

        scale, bias = float(task.logit_scale), torch.zeros(len(names), device=device)
        with torch.no_grad():
            start = directions()
            plain = in_parts(lambda part: logits(part, start), x)
        fitted = calibrate(plain.cpu().numpy(), source.targets)
        scale *= fitted.slope
        bias.copy_(torch.from_numpy(fitted.bias))
        trained = [*sides, bias]
        for tensor in trained:
            tensor.requires_grad_()
        # a tower as wide as BERT's is worth more threads
        with nullcontext() if tower.width >= _WIDE else one_thread():
            training = train(
                # text features cost the same for any batch: as many batches as an epoch has steps
                self.model_copy(update={"batch_size": min(self.batch_size, math.ceil(len(x) / self.steps))}),
                trained,
                lambda rows: logits(x[rows], directions()),
                lambda: logits(val_x, directions()),
                torch.from_numpy(trainable(source.targets)).to(device),
                val_targets,
                generator=np.random.default_rng(task.seed),
                on_epoch=lambda epoch: task.progress(epoch, self.epochs),
                steps=self.steps,
                image_ids=source.image_ids,
                setting="coop",
            )
        task.progress(self.epochs, self.epochs)
        with torch.no_grad():
            head = Head(directions().cpu(), bias.detach().cpu(), normalise=True, scale=scale)
        card = {
            "options": self.model_dump(),
            "train_seconds": time.perf_counter() - begun,
            "trainable_parameters": sum(tensor.numel() for tensor in trained),
            "slope": fitted.slope,
            "learned_context": {
                side: self._told(tower, vectors.detach(), names)
                for side, vectors in zip(("positive", "negative"), sides, strict=True)
            },
            **label_facts(task),
            **training.card(),
        }
        return Classifier("coop", head, task.vocabulary, task.encoder, card=card)

    def _start(self, tower: PromptTower, labels: int, seed: int) -> tuple[Tensor, Tensor]:
        """Positive and negative context, (1 or L, M, W) each."""
        first, second = (tower.words(text) for text in (self.positive, self.negative))
        if self.init == "random":
            generator = torch.Generator().manual_seed(seed)
            first, second = (
                (_RANDOM_SPREAD * torch.randn(self.context, tower.width, generator=generator)).to(first) for _ in "+-"
            )
        copies = labels if self.per_label else 1
        return first.repeat(copies, 1, 1), second.repeat(copies, 1, 1)

    def _told(self, tower: PromptTower, vectors: Tensor, names: tuple[str, ...]) -> dict[str, Any]:
        """For each label (or for all) and each context vector the nearest words and their cosines."""
        owners = names if self.per_label else ("every label",)
        return {
            owner: [{word: round(cosine, 3) for word, cosine in found} for found in tower.nearest(of_owner, _NEAREST)]
            for owner, of_owner in zip(owners, vectors, strict=True)
        }


def _tower(encoder: object) -> PromptTower:
    if not isinstance(encoder, LearnsPrompts):
        raise ModelError("coop needs a model whose text tower takes learned context, as those of open_clip do.")
    return encoder.prompt_tower()
