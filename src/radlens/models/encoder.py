"""An open_clip model as the `Encoder` that all rooms work with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from radlens.core.errors import ExplainError
from radlens.core.transform import ImageTransform
from radlens.models.image_tower import ImageTower, image_tower, run_blocks
from radlens.models.tokenizer import Tokenizer, trim_padding


class OpenClipEncoder:
    """Image and text tower of an open_clip model, frozen and in evaluation mode.

    model: open_clip's module, for settings that train it. pad: id of the padding token where the text tower masks
    padding, None where it does not (then texts keep their full length).
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

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return cast(torch.device, self.model.logit_scale.device)

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """Transformer blocks in order; an image tower without such blocks raises `ExplainError`."""
        return self._looked_into().blocks

    def encode_images(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) as `transform` makes them -> (B, D), un-normalised, differentiable.

        Without gradients the last block is run for the class token alone: equal, and cheaper.
        """
        if self._tower is None or torch.is_grad_enabled():
            return cast(Tensor, self.model.encode_image(pixels))
        return self._tower.pool(run_blocks(self._tower, self._tower.tokens(pixels)))

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """T sentences -> (T, D), un-normalised. Padded only as far as the longest needs, which changes nothing."""
        if not texts:
            return torch.empty(0, self.dimension, device=self.device)
        ids = self.tokenizer(list(texts))
        if self.pad is not None:
            ids = trim_padding(ids, self.pad)
        return cast(Tensor, self.model.encode_text(ids.to(self.device)))

    def tokens(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, prefix + patches, C): the input of the first block."""
        return self._looked_into().tokens(pixels)

    def pool(self, tokens: Tensor) -> Tensor:
        """Output of the last block, or its class token alone (B, 1, C), -> (B, D).

        The class token alone raises `ValueError` where the tower pools over patches.
        """
        tower = self._looked_into()
        if tokens.shape[1] == 1 and not tower.class_token_only:
            raise ValueError(f"{self.name} pools over all tokens; give pool() the whole output of the last block.")
        return tower.pool(tokens)

    def _looked_into(self) -> ImageTower:
        if self._tower is None:
            kind = type(getattr(self.model.visual, "trunk", self.model.visual)).__name__
            raise ExplainError(
                f"the image tower of {self.name} is a {kind}, not a plain vision transformer, so that it has no blocks "
                "to draw saliency from; leave out `explain`, or choose a model with a vision transformer."
            )
        return self._tower
