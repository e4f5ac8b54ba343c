"""What a linear probe learns from: features of both splits, checked, standardised if asked for; and the way back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from radlens.core.classifier import Encoder, Features, own_encoder
from radlens.core.errors import DataError, SpecError
from radlens.core.heads import Head, PerceptronHead
from radlens.core.parts import AdaptationTask, Floats

Doubles = npt.NDArray[np.float64]
Split = tuple[Floats, Floats]


@dataclass(frozen=True)
class ProbeData:
    """train and val: features (N, D) and targets (N, L) float32, NaN = not assessed.

    The features are those of `encoder` less centre (D,), divided by spread (D,).
    """

    train: Split
    val: Split
    centre: Doubles
    spread: Doubles
    encoder: Encoder | None

    def linear(self, weight: Floats | Doubles, bias: Floats | Doubles) -> Head:
        """A head for features as the encoder gives them from one (L, D), (L,) for those in `train`."""
        wide = weight / self.spread
        plain = (wide.astype(np.float32), (bias - wide @ self.centre).astype(np.float32))
        return Head(torch.from_numpy(plain[0]), torch.from_numpy(plain[1]), normalise=False)

    def unfolded(self, head: Head) -> Head:
        """The same for a head, linear or with a hidden layer, that was trained on the features in `train`."""
        if not isinstance(head, PerceptronHead):
            return self.linear(head.weight.numpy(), head.bias.numpy())
        first = self.linear(head.hidden_weight.numpy(), head.hidden_bias.numpy())
        return PerceptronHead(head.weight, head.bias, first.weight, first.bias)


def probe_data(task: AdaptationTask, features: Features, standardise: bool) -> ProbeData:
    """Raises `DataError` when a split has no assessed target, or an embedding is not finite.

    standardise: to zero mean and unit variance over train; a constant feature is only shifted. features: `trunk` needs
    a task that can make them, `SpecError` otherwise.
    """
    found = task.embeddings
    encoder = task.encoder
    if features == "trunk":
        if task.trunk is None:
            raise SpecError("linear-probe with features: trunk needs a model whose images are at hand; use projection.")
        found = task.trunk()
        encoder = None if encoder is None else own_encoder(encoder, {}, features)
    train, val = _split(task, found["train"], "train"), _split(task, found["val"], "val")
    centre, spread = np.zeros(train[0].shape[1]), np.ones(train[0].shape[1])
    if standardise:
        centre, spread = train[0].mean(axis=0, dtype=np.float64), train[0].std(axis=0, dtype=np.float64)
        spread[spread == 0] = 1
        train, val = (_standardised(x, centre, spread) for x in (train, val))
    return ProbeData(train, val, centre, spread, encoder)


def _split(task: AdaptationTask, embeddings: Floats, split: str) -> Split:
    targets = task.targets[split]
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


def _standardised(data: Split, centre: Doubles, spread: Doubles) -> Split:
    return ((data[0] - centre) / spread).astype(np.float32), data[1]
