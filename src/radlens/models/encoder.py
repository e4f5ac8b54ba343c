"""An open_clip model, or one in its form, as the `Encoder` that all rooms work with."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from radlens.core.errors import ExplainError, ModelError
from radlens.core.store import fingerprint
from radlens.core.transform import ImageTransform
from radlens.models.image_tower import ImageTower, image_tower, run_blocks
from radlens.models.prompts import LearnedContext
from radlens.models.tokenizer import Tokenizer, trim_padding


class OpenClipEncoder:
    """Image and text tower of an open_clip model, frozen and in evaluation mode.

    model: open_clip's module, or one with the same `visual`, `logit_scale`, `encode_image` and `encode_text`; for
    settings that train it. pad: id of the padding token where the text tower does not look at padding, None where it
    does (then texts keep their full length).
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Tokenizer,
        transform: ImageTransform,
        card: Mapping[str, Any],
        pad: int | None,
    ) -> None:
        self.model = cast(Any, model)
        self.model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.transform = transform
        self.card = card
        self.name = str(card["name"])
        self.fingerprint = str(card["fingerprint"])
        self.dimension = int(card["dimension"])
        self.logit_scale = float(self.model.logit_scale.detach().cpu().double().exp())
        self.pad = pad
        tower = image_tower(self.model.visual)
        self.grid = tower.grid if tower else (0, 0)
        self.prefix_tokens = tower.prefix_tokens if tower else 0
        self._tower = tower
        self._projects = True

    @property
    def image_module(self) -> nn.Module:
        """The model's image tower."""
        return cast(nn.Module, self.model.visual)

    def with_image_tensors(self, tensors: Mapping[str, Tensor]) -> OpenClipEncoder:
        """An encoder with an image tower of its own, these tensors in it; the text tower is shared.

        A name or shape that the tower does not have raises `ModelError`.
        """
        model = copy.copy(self.model)
        # a shallow copy of a module shares its table of parts
        model._modules = dict(self.model._modules)
        model.visual = copy.deepcopy(self.model.visual)
        own = model.visual.state_dict()
        for name, tensor in tensors.items():
            if name not in own or own[name].shape != tensor.shape:
                found = f"of shape {tuple(tensor.shape)}"
                expected = f"shape {tuple(own[name].shape)}" if name in own else "no tensor of that name"
                raise ModelError(f"the image tower of {self.name} has {expected} for {name!r}, found one {found}.")
        model.visual.load_state_dict(dict(tensors), strict=False)
        values = {name: tensor.detach().float().cpu().numpy() for name, tensor in sorted(tensors.items())}
        changed = fingerprint(self.fingerprint, values) if tensors else self.fingerprint
        card = dict(self.card) | {"fingerprint": changed}
        copied = OpenClipEncoder(model, self.tokenizer, self.transform, card, self.pad)
        return copied if self._projects else copied.without_projection()

    def without_projection(self) -> OpenClipEncoder:
        """The same tower, its features before the projection; `ModelError` where no such features are known."""
        if self._tower is None or not self._tower.width:
            raise ModelError(f"the image tower of {self.name} has no features before a projection; use the projection.")
        card = dict(self.card) | {
            "fingerprint": fingerprint(self.fingerprint, "without projection"),
            "dimension": self._tower.width,
        }
        cut = OpenClipEncoder(self.model, self.tokenizer, self.transform, card, self.pad)
        cut._projects = False
        return cut

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return cast(torch.device, self.model.logit_scale.device)

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """Transformer blocks, or stages of a convolutional tower; a tower without either raises `ExplainError`."""
        return self._looked_into().blocks

    def encode_images(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) as `transform` makes them -> (B, D), un-normalised, differentiable.

        Without gradients the last block is run for the class token alone: equal, and cheaper.
        """
        if self._tower is None or (torch.is_grad_enabled() and self._projects):
            return cast(Tensor, self.model.encode_image(pixels))
        return self._pooled(self._tower, run_blocks(self._tower, self._tower.tokens(pixels)))

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """T sentences -> (T, D), un-normalised. Padded only as far as the longest needs, which changes nothing."""
        if not texts:
            return torch.empty(0, self.dimension, device=self.device)
        ids = self.tokenizer(list(texts))
        if self.pad is not None:
            ids = trim_padding(ids, self.pad)
        return cast(Tensor, self.model.encode_text(ids.to(self.device)))

    def prompt_tower(self) -> LearnedContext:
        """The text tower for learned context; one without a table of word embeddings raises `ModelError`."""
        return LearnedContext(self.model, self.tokenizer, self.pad, self.name)

    def tokens(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) -> the input of the first block: (B, prefix + patches, C), or maps (B, C, h, w)."""
        return self._looked_into().tokens(pixels)

    def pool(self, tokens: Tensor) -> Tensor:
        """Output of the last block, or its class token alone (B, 1, C), -> (B, D).

        The class token alone raises `ValueError` where the tower pools over patches.
        """
        tower = self._looked_into()
        if tokens.shape[1] == 1 and not tower.class_token_only:
            raise ValueError(f"{self.name} pools over all tokens; give pool() the whole output of the last block.")
        return self._pooled(tower, tokens)

    def _pooled(self, tower: ImageTower, tokens: Tensor) -> Tensor:
        features = tower.features(tokens)
        return tower.project(features) if self._projects else features

    def _looked_into(self) -> ImageTower:
        if self._tower is None:
            kind = type(getattr(self.model.visual, "trunk", self.model.visual)).__name__
            raise ExplainError(
                f"the image tower of {self.name} is a {kind}, neither a plain vision transformer nor a ResNet or "
                "ConvNeXt, so that it has no blocks to draw saliency from; leave out `explain`, or choose a model with "
                "a vision transformer."
            )
        return self._tower
