"""transformers' CLIP in the form that our encoder knows: an image tower with blocks, a text tower, a temperature."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from torch import Tensor, nn


class TransformersImageTower(nn.Module):
    """CLIPVisionModel and its projection; an `ImageTower` by itself. Weights keep the names of the released file."""

    def __init__(self, vision_model: nn.Module, visual_projection: nn.Module) -> None:
        super().__init__()
        self.vision_model = vision_model
        self.visual_projection = visual_projection

    @property
    def _parts(self) -> Any:
        return self.vision_model

    @property
    def grid(self) -> tuple[int, int]:
        embed = self._parts.embeddings
        side = int(embed.image_size) // int(embed.patch_size)
        return side, side

    @property
    def prefix_tokens(self) -> int:
        return 1

    @property
    def class_token_only(self) -> bool:
        return True

    @property
    def blocks(self) -> Sequence[nn.Module]:
        return cast(Sequence[nn.Module], self._parts.encoder.layers)

    @property
    def width(self) -> int:
        return int(self._parts.embeddings.embed_dim)

    def tokens(self, pixels: Tensor) -> Tensor:
        return cast(Tensor, self._parts.pre_layrnorm(self._parts.embeddings(pixels)))

    def features(self, tokens: Tensor) -> Tensor:
        return cast(Tensor, self._parts.post_layernorm(tokens[:, 0]))

    def project(self, features: Tensor) -> Tensor:
        return cast(Tensor, self.visual_projection(features))

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, D)."""
        tokens = self.tokens(pixels)
        for block in self.blocks:
            tokens = block(tokens)
        return self.project(self.features(tokens))


class TransformersTextTower(nn.Module):
    """CLIPTextModel and its projection."""

    def __init__(self, text_model: nn.Module, text_projection: nn.Module) -> None:
        super().__init__()
        self.text_model = text_model
        self.text_projection = text_projection

    @property
    def token_embedding(self) -> nn.Module:
        """The table of word embeddings."""
        return cast(nn.Module, cast(Any, self.text_model).embeddings.token_embedding)

    def forward(self, ids: Tensor) -> Tensor:
        """Token ids (T, length) -> (T, D). What follows the end of a sentence changes nothing."""
        return cast(Tensor, self.text_projection(self.text_model(input_ids=ids).pooler_output))


class TransformersClip(nn.Module):
    """Both towers under the names that open_clip gives them. clip: transformers' CLIPModel, whose parts it takes."""

    def __init__(self, clip: Any) -> None:
        super().__init__()
        self.visual = TransformersImageTower(clip.vision_model, clip.visual_projection)
        self.text = TransformersTextTower(clip.text_model, clip.text_projection)
        self.logit_scale: nn.Parameter = clip.logit_scale

    def encode_image(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, D), un-normalised."""
        return cast(Tensor, self.visual(pixels))

    def encode_text(self, ids: Tensor) -> Tensor:
        """Token ids (T, length) -> (T, D), un-normalised."""
        return cast(Tensor, self.text(ids))
