"""Linear probe: one linear layer on frozen embeddings."""

from __future__ import annotations

import time
from dataclasses import asdict

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field

from radlens.adapt.logistic import Epoch, fit_logistic
from radlens.core.classifier import Classifier, Head
from radlens.core.errors import DataError
from radlens.core.parts import AdaptationTask, Floats, Setting
from radlens.core.registry import register


@register("settings", "linear-probe")
class LinearProbe(Setting):
    """One linear layer trained on cached, un-normalised image embeddings; the encoder stays as it is.

    The protocol of Sadman et al. (BIOKDD 2025): binary cross-entropy over assessed entries, AdamW, cosine schedule,
    early stopping on the validation loss, the best epoch's weights kept. The layer starts from zero: the loss is
    convex, so that the start does not matter and needs no seed; the seed of the study shuffles the batches.

    learning_rate: at the start of the cosine. weight_decay: decoupled, on all parameters, the bias too.
    epochs: at most so many. batch_size: images a step. patience: epochs without a lower
    validation loss before it stops.
    standardise: train on embeddings of zero mean and unit variance (over the training images; folded back into the
    head), which the paper does not.
    """

    learning_rate: float = Field(1e-3, gt=0, allow_inf_nan=False)
    weight_decay: float = Field(1e-2, ge=0, allow_inf_nan=False)
    epochs: int = Field(100, ge=1)
    batch_size: int = Field(24, ge=1)
    patience: int = Field(10, ge=1)
    standardise: bool = False

    def fit(self, task: AdaptationTask) -> Classifier:
        """Train on split `train`, stop by split `val`.

        A label without an assessed training target keeps weight 0 and is listed in the card under `not_estimable`.
        Raises `DataError` when a split has no assessed target, or an embedding is not finite.
        """
        begun = time.perf_counter()
        train, val = _split(task, "train"), _split(task, "val")
        centre = np.zeros(train[0].shape[1])
        spread = np.ones(train[0].shape[1])
        if self.standardise:
            centre, spread = train[0].mean(axis=0, dtype=np.float64), train[0].std(axis=0, dtype=np.float64)
            spread[spread == 0] = 1
            train, val = (_standardised(x, centre, spread) for x in (train, val))

        def on_epoch(epoch: Epoch) -> None:
            task.progress(epoch.epoch, self.epochs)

        found = fit_logistic(
            train,
            val,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            epochs=self.epochs,
            batch_size=self.batch_size,
            patience=self.patience,
            generator=np.random.default_rng(task.seed),
            on_epoch=on_epoch,
        )
        # stopped early: the bar is full all the same
        task.progress(len(found.history), len(found.history))
        weight = found.weight / spread
        bias = found.bias - weight @ centre
        names = task.vocabulary.names
        targets = task.targets["train"]
        card = {
            "options": self.model_dump(),
            "train_seconds": time.perf_counter() - begun,
            "trainable_parameters": found.weight.size + found.bias.size,
            "epochs_run": len(found.history),
            "best_epoch": found.best.epoch,
            "validation_bce": found.best.val_bce,
            "not_estimable": [n for n, t in zip(names, targets.T, strict=True) if np.isnan(t).all()],
            "no_training_positives": [n for n, t in zip(names, targets.T, strict=True) if not (t == 1).any()],
            "history": [asdict(epoch) for epoch in found.history],
        }
        return Classifier(
            setting="linear-probe",
            head=Head(
                torch.from_numpy(weight.astype(np.float32)),
                torch.from_numpy(bias.astype(np.float32)),
                normalise=False,
            ),
            vocabulary=task.vocabulary,
            encoder=task.encoder,
            card=card,
        )


def _split(task: AdaptationTask, split: str) -> tuple[Floats, Floats]:
    embeddings, targets = task.embeddings[split], task.targets[split]
    if np.isnan(targets).all():
        raise DataError(
            f"linear-probe expected at least one assessed label in the {split} split, found none among its "
            f"{len(targets)} images; give the split more labelled images."
        )
    wrong = np.flatnonzero(~np.isfinite(embeddings).all(axis=1))
    if len(wrong):
        raise DataError(
            f"linear-probe expected finite embeddings, found {len(wrong)} of {len(embeddings)} in the {split} split "
            f"that are not (the first is image {int(wrong[0]) + 1} of the split); check the model's weights, or "
            "embed in float32."
        )
    return embeddings, targets


def _standardised(
    data: tuple[Floats, Floats], centre: npt.NDArray[np.float64], spread: npt.NDArray[np.float64]
) -> tuple[Floats, Floats]:
    return ((data[0] - centre) / spread).astype(np.float32), data[1]
