"""A linear probe that starts at zero-shot's directions and is drawn towards them."""

from __future__ import annotations

import math
import time
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field, field_validator
from torch.nn.functional import normalize

from radlens.adapt.calibration import calibrate
from radlens.adapt.embedding_training import checked, label_facts, masked_bce, trainable
from radlens.adapt.logistic_lbfgs import ExactFit, LogisticProblem
from radlens.adapt.probe_grid import choose, label_losses, told
from radlens.adapt.prompt_weights import prompt_pairs, prompt_weights
from radlens.core.classifier import Classifier, Head
from radlens.core.parts import AdaptationTask, Floats, Setting
from radlens.core.registry import register

STRENGTHS = (math.inf, 10.0, 1.0, 1e-1, 1e-2, 1e-3, 1e-4)


@register("settings", "text-init-probe")
class TextInitProbe(Setting):
    """Logistic regression on unit-length embeddings whose penalty draws each label towards its zero-shot direction.

    For each label the optimum of: mean cross-entropy over its assessed images + strength / 2 x v x |w - w0|^2, the bias
    free. w0 is zero-shot's direction x the encoder's logit scale x a slope that all labels share, fitted on train
    before; v is the mean variance of a coordinate of the unit-length embeddings of train, so that a strength means the
    same for every encoder. An infinite strength is zero-shot with its slope and biases fitted, strength 0 the probe
    without a penalty.

    strengths: tried on validation, where the least cross-entropy chooses for each label with 10 validation positives,
    and one for all others together. fallback: what holds for all labels when validation has no positive at all.
    A label without training positives (or without negatives) keeps w0, its bias such that its mean logit on train is
    the log odds of (positives + 1/2) to (negatives + 1/2); one without any assessed image has its mean probability at
    a half. There is nothing random in it: the seed does not matter.
    """

    strengths: tuple[Annotated[float, Field(ge=0)], ...] = Field(default=STRENGTHS, min_length=1)
    fallback: float = Field(default=1.0, ge=0)

    @field_validator("strengths")
    @classmethod
    def _strongest_first(cls, strengths: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(sorted(set(strengths), reverse=True))

    def fit(self, task: AdaptationTask) -> Classifier:
        """Fit on split `train`, choose the strengths by split `val`.

        Raises `DataError` where train has no positive, val no assessed target, or an embedding is not finite.
        """
        begun = time.perf_counter()
        train, val = checked(task, "train", "text-init-probe"), checked(task, "val", "text-init-probe")
        x, val_x = _unit(train.embeddings), _unit(val.embeddings)
        prompts = prompt_pairs(task.vocabulary)
        direction = task.logit_scale * prompt_weights(prompts, task.encode_texts).astype(np.float64)
        slope = calibrate((x @ direction.T).astype(np.float32), trainable(train.targets)).slope
        centre = slope * direction
        problem = LogisticProblem(x, train.targets, centre)
        variance = max(problem.variance, 1e-30)
        strengths = sorted({*self.strengths, self.fallback}, reverse=True)
        fits: list[ExactFit] = []
        for number, strength in enumerate(strengths, 1):
            fits.append(problem.fit(np.full(len(centre), strength * variance), fits[-1] if fits else None))
            task.progress(number, len(strengths))
        losses = [label_losses(val_x @ fit.weight.T + fit.bias, val.targets) for fit in fits]
        # a fallback that is not among the strengths is not chosen by validation
        offered = [loss if s in self.strengths else loss + np.inf for loss, s in zip(losses, strengths, strict=True)]
        choice = choose(offered, val.targets, fallback=strengths.index(self.fallback))
        known = int((~np.isnan(val.targets)).sum())
        labels = np.arange(len(centre))
        weight = np.stack([fit.weight for fit in fits])[choice.index, labels]
        bias = np.stack([fit.bias for fit in fits])[choice.index, labels]
        head = Head(
            torch.from_numpy(weight.astype(np.float32)), torch.from_numpy(bias.astype(np.float32)), normalise=True
        )
        names = task.vocabulary.names
        kept = sorted(set(labels.tolist()) - set(problem.free.tolist()))
        card: dict[str, Any] = {
            "options": {"strengths": [told(s) for s in self.strengths], "fallback": told(self.fallback)},
            "prompts": prompts,
            "train_seconds": time.perf_counter() - begun,
            "trainable_parameters": weight.size + bias.size,
            "slope": slope,
            "variance": variance,
            "strengths": choice.card(names, strengths),
            "tried": [
                {"strength": told(strength), "validation_bce": float(loss.sum()) / known}
                for strength, loss in zip(strengths, losses, strict=True)
            ],
            "converged": all(fit.converged for fit in fits),
            "zero_shot_direction_kept": {names[i]: {"bias": float(bias[i])} for i in kept},
            **label_facts(task),
            "epochs_run": 0,
            "best_epoch": 0,
            "validation_bce": masked_bce(head(torch.from_numpy(val.embeddings)), torch.from_numpy(val.targets)),
            "history": [],
        }
        return Classifier("text-init-probe", head, task.vocabulary, task.encoder, card=card)


def _unit(embeddings: Floats) -> Floats:
    """Rows of length one, as a head with `normalise` makes them."""
    return np.asarray(normalize(torch.from_numpy(np.ascontiguousarray(embeddings)), dim=-1).numpy())
