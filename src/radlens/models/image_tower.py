"""One view of the image towers whose blocks can be looked into: vision transformers, and convolutional towers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer as OpenClipVisionTransformer
from timm.models.vision_transformer import VisionTransformer as TimmVisionTransformer
from torch import Tensor, nn

from radlens.core.class_token import class_token_block, is_plain_block
from radlens.models.convolutional_tower import convolutional_tower
from radlens.models.in_place_blocks import can_run_in_place, run_in_place
from radlens.models.transformers_tower import TransformersImageTower


class ImageTower(Protocol):
    """An image tower in three steps: `tokens`, `blocks`, then `features` and `project`.

    Tokens are (B, prefix + patches, C); those of a convolutional tower are (B, C, h, w), another shape at every stage.
    """

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches; of a convolutional tower, those of its last stage."""
        ...

    @property
    def prefix_tokens(self) -> int:
        """Tokens before the patches."""
        ...

    @property
    def class_token_only(self) -> bool:
        """Whether `features` looks at nothing but the class token."""
        ...

    @property
    def blocks(self) -> Sequence[nn.Module]: ...

    def tokens(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, prefix + patches, C), the input of the first block."""
        ...

    def features(self, tokens: Tensor) -> Tensor:
        """Output of the blocks -> (B, F), before the projection; also (B, 1, C) -> (B, F) where `class_token_only`."""
        ...

    def project(self, features: Tensor) -> Tensor:
        """(B, F) -> (B, D)."""
        ...

    @property
    def width(self) -> int:
        """F; 0 where there are no features before the projection."""
        ...


@dataclass(frozen=True)
class TimmTower:
    """timm's VisionTransformer inside open_clip's TimmModel."""

    visual: Any

    @property
    def grid(self) -> tuple[int, int]:
        embed = self.visual.trunk.patch_embed
        rows, columns = (s // p for s, p in zip(self.visual.image_size, embed.patch_size, strict=True))
        return rows, columns

    @property
    def prefix_tokens(self) -> int:
        return int(self.visual.trunk.num_prefix_tokens)

    @property
    def class_token_only(self) -> bool:
        trunk = self.visual.trunk
        return trunk.global_pool == "token" and trunk.attn_pool is None and trunk.cls_token is not None

    @property
    def blocks(self) -> Sequence[nn.Module]:
        return cast(Sequence[nn.Module], self.visual.trunk.blocks)

    def tokens(self, pixels: Tensor) -> Tensor:
        trunk = self.visual.trunk
        return cast(Tensor, trunk.norm_pre(trunk.patch_drop(trunk._pos_embed(trunk.patch_embed(pixels)))))

    def features(self, tokens: Tensor) -> Tensor:
        trunk = self.visual.trunk
        return cast(Tensor, trunk.forward_head(trunk.norm(tokens)))

    def project(self, features: Tensor) -> Tensor:
        return cast(Tensor, self.visual.head(features))

    @property
    def width(self) -> int:
        return int(self.visual.trunk.num_features)


@dataclass(frozen=True)
class OpenClipTower:
    """open_clip's own VisionTransformer."""

    visual: Any

    @property
    def grid(self) -> tuple[int, int]:
        rows, columns = self.visual.grid_size
        return int(rows), int(columns)

    @property
    def prefix_tokens(self) -> int:
        return 1

    @property
    def class_token_only(self) -> bool:
        return self.visual.pool_type == "tok" and self.visual.attn_pool is None

    @property
    def blocks(self) -> Sequence[nn.Module]:
        return cast(Sequence[nn.Module], self.visual.transformer.resblocks)

    def tokens(self, pixels: Tensor) -> Tensor:
        return cast(Tensor, self.visual._embeds(pixels))

    def features(self, tokens: Tensor) -> Tensor:
        pooled, _ = self.visual._pool(tokens)
        return cast(Tensor, pooled)

    def project(self, features: Tensor) -> Tensor:
        return features if self.visual.proj is None else cast(Tensor, features @ self.visual.proj)

    @property
    def width(self) -> int:
        return int(self.visual.conv1.out_channels)


def image_tower(visual: Any) -> ImageTower | None:
    """The view of an image tower; None where it is none that is known (a Swin, a hybrid, ...)."""
    if isinstance(visual, TransformersImageTower):
        return visual
    if type(visual) is TimmModel and type(visual.trunk) is TimmVisionTransformer:
        return TimmTower(visual)
    if type(visual) is OpenClipVisionTransformer and visual.transformer.batch_first:
        return OpenClipTower(visual)
    return convolutional_tower(visual)


def run_blocks(tower: ImageTower, tokens: Tensor) -> Tensor:
    """All blocks in order; of the last one only the class token where nothing else is looked at (exact, cheaper)."""
    *before, last = tower.blocks
    if can_run_in_place(before, tokens):
        tokens = run_in_place(before, tokens)
    else:
        for block in before:
            tokens = block(tokens)
    if tower.class_token_only and is_plain_block(last):
        return class_token_block(last, tokens)
    return cast(Tensor, last(tokens))
