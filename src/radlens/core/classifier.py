"""The one thing that every setting ends in: an image encoder and a head, differentiable from pixels to logits."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from radlens.core.errors import ModelError
from radlens.core.heads import Head as Head
from radlens.core.heads import make_head
from radlens.core.store import write_json, writing
from radlens.core.transform import ImageTransform
from radlens.core.vocabulary import Vocabulary, vocabulary_from_dict

Features = Literal["projection", "trunk"]


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
    """Rows and columns of image patches; of a convolutional tower, those of its last stage."""
    prefix_tokens: int
    """Tokens before the patches (the class token)."""
    logit_scale: float
    """exp of the learned temperature: what a cosine is multiplied with."""
    card: Mapping[str, Any]
    """Source, licence, citation, parameters: what a reader of the report must know."""

    @property
    def device(self) -> torch.device: ...

    @property
    def image_module(self) -> nn.Module:
        """The image tower, its parameters frozen: what a setting that changes the encoder changes."""
        ...

    def with_image_tensors(self, tensors: Mapping[str, Tensor]) -> Encoder:
        """An encoder whose image tower is a copy with these tensors (names of `image_module.state_dict()`).

        All else is shared. Its fingerprint follows from this one's and the tensors; without tensors it is a copy that
        may be trained. A name or shape that the tower does not have raises `ModelError`.
        """
        ...

    def without_projection(self) -> Encoder:
        """The same image tower, its features before the last projection (dimension and fingerprint differ).

        An encoder without such a projection raises `ModelError`.
        """
        ...

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """Transformer blocks in order, each (B, prefix + patches, C) -> the same shape.

        Of a convolutional tower (`tokens` has 4 dimensions, `prefix_tokens` is 0): its stages, each (B, C, h, w) ->
        maps of another size and number of channels.
        """
        ...

    def encode_images(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) as `transform` makes them -> (B, D), un-normalised, differentiable."""
        ...

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """T sentences -> (T, D), un-normalised."""
        ...

    def tokens(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) -> the input of the first block: (B, prefix + patches, C), or maps (B, C, h, w)."""
        ...

    def pool(self, tokens: Tensor) -> Tensor:
        """Output of the last block (or its class token alone, (B, 1, C)) -> (B, D). Another stage's output raises."""
        ...


@dataclass(frozen=True)
class Classifier:
    """An encoder, a head, and what is known of them.

    encoder: None while only embeddings are at hand (scoring cached embeddings needs no tower).
    image_tensors: tensors of the image tower that the setting changed, by name; empty where the encoder is as it was.
    features: what the head reads, the `projection` (the encoder's embedding) or the `trunk` before it.
    thresholds: (L,) on probabilities, chosen on validation; None until chosen.
    card: the setting and its options, encoder fingerprint, training facts (seconds, epochs, parameters).
    """

    setting: str
    head: Head
    vocabulary: Vocabulary
    encoder: Encoder | None = None
    image_tensors: Mapping[str, Tensor] = field(default_factory=dict)
    features: Features = "projection"
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

    def save(self, folder: Path) -> tuple[Path, ...]:
        """Write `head.safetensors`, `card.json` and, where the encoder was changed, `encoder.safetensors`; their paths.

        Each file is written whole or not at all, and the card last.
        """
        written = [folder / "head.safetensors"]
        with writing(written[0]) as aside:
            save_file(_plain(self.head.state_dict()), aside)
        if self.image_tensors:
            written.append(folder / "encoder.safetensors")
            with writing(written[-1]) as aside:
                save_file(_plain(self.image_tensors), aside)
        thresholds = None if self.thresholds is None else self.thresholds.tolist()
        card = dict(self.card) | {
            "setting": self.setting,
            "head": {"kind": self.head.kind, **self.head.options()},
            "features": self.features,
            "changes_encoder": bool(self.image_tensors),
            "thresholds": thresholds,
            "vocabulary": self.vocabulary.to_dict(),
        }
        write_json(folder / "card.json", card)
        return *written, folder / "card.json"


def load_classifier(folder: Path, encoder: Encoder | None = None) -> Classifier:
    """Read what `Classifier.save` wrote. An encoder other than the one it was made with raises `ModelError`.

    encoder: the model as it is released; the classifier's own changes to it are read from the folder.
    """
    try:
        card = json.loads((folder / "card.json").read_text("utf-8"))
        described = dict(card.pop("head"))
        head = make_head(described.pop("kind"), load_file(folder / "head.safetensors"), described)
        tensors = load_file(folder / "encoder.safetensors") if card.pop("changes_encoder") else {}
        made_with = card.get("encoder", {}).get("fingerprint")
        vocabulary = vocabulary_from_dict(card.pop("vocabulary"), str(folder / "card.json"))
        setting, thresholds, features = card.pop("setting"), card.pop("thresholds"), card.pop("features")
    except (OSError, SafetensorError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"{folder} is not a classifier folder (expected card.json and head.safetensors): {error}"
        ) from error
    if head.labels != len(vocabulary):
        raise ModelError(
            f"classifier {folder} has a head of {head.labels} labels, but its card.json names {len(vocabulary)}; "
            "its files are not of one save."
        )
    if encoder is not None and made_with != encoder.fingerprint:
        raise ModelError(
            f"classifier {folder} was made with an encoder of fingerprint {made_with}, but this one has "
            f"{encoder.fingerprint}; load the model it was made with."
        )
    limits = None if thresholds is None else np.asarray(thresholds, np.float64)
    own = None if encoder is None else own_encoder(encoder, tensors, features)
    return Classifier(
        setting, head, vocabulary, own, image_tensors=tensors, features=features, thresholds=limits, card=card
    )


def own_encoder(encoder: Encoder, image_tensors: Mapping[str, Tensor], features: Features) -> Encoder:
    """The encoder that a classifier's head reads: changed by its tensors, and cut before the projection if it says."""
    if image_tensors:
        encoder = encoder.with_image_tensors(image_tensors)
    return encoder.without_projection() if features == "trunk" else encoder


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    # a copy each: safetensors refuses tensors that share memory
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
