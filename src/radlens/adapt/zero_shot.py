"""Zero-shot: the head is made of text embeddings; nothing is trained."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from radlens.core.classifier import Classifier, Head
from radlens.core.errors import ModelError
from radlens.core.parts import AdaptationTask, Floats, Setting
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
        labels = task.vocabulary.labels
        if self.rule == "paper":
            prompts = {label.name: {"positive": [label.name]} for label in labels}
        else:
            prompts = {x.name: {"positive": list(x.positive), "negative": list(x.negative)} for x in labels}
        sentences = list(dict.fromkeys(text for sides in prompts.values() for side in sides.values() for text in side))
        embedded = dict(zip(sentences, _unit(task.encode_texts(sentences), sentences), strict=True))
        rows = []
        for sides in prompts.values():
            means = [np.mean([embedded[text] for text in side], axis=0) for side in sides.values()]
            rows.append(means[0] - means[1] if len(means) == 2 else means[0])
        weight = torch.from_numpy(np.stack(rows).astype(np.float32))
        scale = task.logit_scale if self.rule == "pair" else 1.0
        card = {
            "options": self.model_dump(),
            "prompts": prompts,
            "train_seconds": 0.0,
            "trainable_parameters": 0,
        }
        return Classifier(
            setting="zero-shot",
            head=Head(weight, torch.zeros(len(labels)), normalise=True, scale=scale),
            vocabulary=task.vocabulary,
            encoder=task.encoder,
            thresholds=np.full(len(labels), 0.5) if self.rule == "paper" else None,
            card=card,
        )


def _unit(embeddings: Floats, sentences: list[str]) -> npt.NDArray[np.float64]:
    """(T, D) rows of length one, in float64 so that means of many prompts lose nothing."""
    exact = embeddings.astype(np.float64)
    lengths = np.linalg.norm(exact, axis=1)
    wrong = np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))
    if len(wrong):
        raise ModelError(
            f"expected a finite, non-zero text embedding of the prompt {sentences[int(wrong[0])]!r}, found one of "
            f"length {lengths[wrong[0]]:g}; check the model's weights and tokenizer."
        )
    return np.asarray(exact / lengths[:, None], dtype=np.float64)
