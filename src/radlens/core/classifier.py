"""The one thing that every setting ends in: an image encoder and a head, differentiable from pixels to logits."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from radlens.core.errors import ModelError
from radlens.core.store import write_json, writing
from radlens.core.transform import ImageTransform
from radlens.core.vocabulary import Vocabulary, vocabulary_from_dict


@runtime_checkable
class Encoder(Protocol):
    """An image tower and a text tower that meet in one space of D dimensions. Frozen unless a setting says so."""

    name: str
    fingerprint: str
    """Changes with anything that changes an embedding: weights, configuration, transform, tokenizer."""
    dimension: int
    """D, the length of an embedding."""
    transform: ImageTransform
    grid: tuple[int, int]
    """Rows and columns of image patches."""
    prefix_tokens: int
    """Tokens before the patches (the class token)."""
    logit_scale: float
    """exp of the learned temperature: what a cosine is multiplied with."""
    card: Mapping[str, Any]
    """Source, licence, citation, parameters: what a reader of the report must know."""

    @property
    def device(self) -> torch.device: ...

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """Transformer blocks in order, each (B, prefix + patches, C) -> the same shape."""
        ...

    def encode_images(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) as `transform` makes them -> (B, D), un-normalised, differentiable."""
        ...

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """T sentences -> (T, D), un-normalised."""
        ...

    def tokens(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, prefix + patches, C): the input of the first block."""
        ...

    def pool(self, tokens: Tensor) -> Tensor:
        """Output of the last block (or its class token alone, (B, 1, C)) -> (B, D)."""
        ...


class Head(nn.Module):
    """Embeddings to logits: `scale * x @ weight.T + bias`, x un-normalised or (`normalise`) of unit length.

    weight (L, D), bias (L,). Zero-shot: normalise, weight = mean positive - mean negative unit text embedding, scale =
    the encoder's logit scale. Linear probe: un-normalised, scale 1.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor, *, normalise: bool, scale: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        self.normalise = normalise
        self.scale = scale

    def forward(self, embeddings: Tensor) -> Tensor:
        """(N, D) -> (N, L)."""
        if self.normalise:
            embeddings = nn.functional.normalize(embeddings, dim=-1)
        return self.scale * (embeddings @ self.weight.T) + self.bias


@dataclass(frozen=True)
class Classifier:
    """An encoder, a head, and what is known of them.

    encoder: None while only embeddings are at hand (scoring cached embeddings needs no tower).
    thresholds: (L,) on probabilities, chosen on validation; None until chosen.
    card: the setting and its options, encoder fingerprint, training facts (seconds, epochs, parameters).
    """

    setting: str
    head: Head
    vocabulary: Vocabulary
    encoder: Encoder | None = None
    thresholds: npt.NDArray[np.float64] | None = None
    card: Mapping[str, Any] = field(default_factory=dict)

    def logits(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, L), differentiable from pixels."""
        if self.encoder is None:
            raise ValueError("this classifier has no encoder attached; use head(embeddings) or attach one.")
        embeddings = self.encoder.encode_images(pixels)
        return self.head.to(embeddings.device)(embeddings.float())  # type: ignore[no-any-return]

    def probabilities(self, embeddings: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """(N, D) embeddings -> (N, L): sigmoid of the head's logits, in float64, where logits tie only above 37."""
        with torch.no_grad():
            # a copy: the classifier's own head stays on the device of its encoder
            head = copy.deepcopy(self.head).cpu()
            logits = head(torch.from_numpy(np.ascontiguousarray(embeddings, np.float32)))
            return torch.sigmoid(logits.double()).numpy()

    def save(self, folder: Path) -> None:
        """Write `head.safetensors` and `card.json`, each whole or not at all."""
        with writing(folder / "head.safetensors") as aside:
            save_file({k: v.detach().cpu().contiguous() for k, v in self.head.state_dict().items()}, aside)
        thresholds = None if self.thresholds is None else self.thresholds.tolist()
        head = {"normalise": self.head.normalise, "scale": self.head.scale}
        card = dict(self.card) | {
            "setting": self.setting,
            "head": head,
            "thresholds": thresholds,
            "vocabulary": self.vocabulary.to_dict(),
        }
        write_json(folder / "card.json", card)


def load_classifier(folder: Path, encoder: Encoder | None = None) -> Classifier:
    """Read what `Classifier.save` wrote. An encoder other than the one it was made with raises `ModelError`."""
    try:
        card = json.loads((folder / "card.json").read_text("utf-8"))
        state = load_file(folder / "head.safetensors")
        head = Head(state["weight"], state["bias"], **card.pop("head"))
        made_with = card.get("encoder", {}).get("fingerprint")
        vocabulary = vocabulary_from_dict(card.pop("vocabulary"), str(folder / "card.json"))
        setting, thresholds = card.pop("setting"), card.pop("thresholds")
    except (OSError, SafetensorError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"{folder} is not a classifier folder (expected card.json and head.safetensors): {error}"
        ) from error
    labels = len(vocabulary)
    if head.weight.ndim != 2 or len(head.weight) != labels or head.bias.shape != (labels,):
        raise ModelError(
            f"classifier {folder} has a head of shape {tuple(head.weight.shape)} and a bias of shape "
            f"{tuple(head.bias.shape)}, but its card.json names {labels} labels; its two files are not of one save."
        )
    if encoder is not None and made_with != encoder.fingerprint:
        raise ModelError(
            f"classifier {folder} was made with an encoder of fingerprint {made_with}, but this one has "
            f"{encoder.fingerprint}; load the model it was made with."
        )
    limits = None if thresholds is None else np.asarray(thresholds, np.float64)
    return Classifier(setting, head, vocabulary, encoder, limits, card)
