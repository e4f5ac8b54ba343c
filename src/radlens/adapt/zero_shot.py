"""Zero-shot: the head is made of text embeddings; nothing is trained."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

from radlens.adapt.prompt_weights import prompt_pairs, prompt_weights
from radlens.core.classifier import Classifier, Head
from radlens.core.parts import AdaptationTask, Setting
from radlens.core.registry import register


@register("settings", "zero-shot")
class ZeroShot(Setting):
    """No training: each image is compared with sentences that state a finding and sentences that deny it.

    rule: `pair` scores a label by logit scale x (mean cosine to its positive prompts - mean cosine to its negative
    ones); thresholds are chosen later, on validation. `paper` is the rule of Sadman et al. (BIOKDD 2025):
    sigmoid(cosine to the label's name) > 0.5, which says yes to every cosine above 0; its thresholds are fixed.
    """

    rule: Literal["pair", "paper"] = "pair"

    def fit(self, task: AdaptationTask) -> Classifier:
        """Embed the prompts. A prompt whose embedding is zero or not finite raises `ModelError`."""
        labels = len(task.vocabulary)
        prompts = prompt_pairs(task.vocabulary)
        if self.rule == "paper":
            prompts = {name: {"positive": [name]} for name in prompts}
        weight = torch.from_numpy(prompt_weights(prompts, task.encode_texts))
        scale = task.logit_scale if self.rule == "pair" else 1.0
        card = {
            "options": self.model_dump(),
            "prompts": prompts,
            "train_seconds": 0.0,
            "trainable_parameters": 0,
        }
        return Classifier(
            setting="zero-shot",
            head=Head(weight, torch.zeros(labels), normalise=True, scale=scale),
            vocabulary=task.vocabulary,
            encoder=task.encoder,
            thresholds=np.full(labels, 0.5) if self.rule == "paper" else None,
            card=card,
        )
