"""Convolutional image towers by their stages: timm's ResNet and ConvNeXt, and the ResNet of open_clip."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from timm.models.convnext import ConvNeXt
from timm.models.resnet import ResNet
from torch import Tensor, nn

from radlens.core.errors import ModelError

_STAGES = ("layer1", "layer2", "layer3", "layer4")
Step = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class ConvolutionalTower:
    """An `ImageTower` whose blocks are its stages and whose tokens are maps (B, C, h, w), no two stages' alike.

    stem: (B, 3, H, W) -> the first stage's input. pooling: the last stage's output -> features. grid: of the last
    stage. channels: C of the last stage's output.
    """

    blocks: Sequence[nn.Module]
    stem: Step
    pooling: Step
    projection: Step
    width: int
    grid: tuple[int, int]
    channels: int
    prefix_tokens: int = 0
    class_token_only: bool = False

    def tokens(self, pixels: Tensor) -> Tensor:
        return self.stem(pixels)

    def features(self, tokens: Tensor) -> Tensor:
        """The last stage's output (B, C, h, w) -> (B, F); that of another stage raises `ModelError`."""
        if tokens.shape[1] != self.channels:
            raise ModelError(
                f"a convolutional image tower can be read after its last stage alone ({self.channels} channels, found "
                f"{tokens.shape[1]}), so that what follows its stages cannot be told apart; leave out what asks for it "
                "(last_k_blocks, layer_decay, the trust check randomisation)."
            )
        return self.pooling(tokens)

    def project(self, features: Tensor) -> Tensor:
        return self.projection(features)


def convolutional_tower(visual: Any) -> ConvolutionalTower | None:
    """The stages of an image tower of open_clip; None where it is none of these. One image runs, to learn its sizes."""
    trunk: Any = getattr(visual, "trunk", None)
    if type(visual) is TimmModel and type(trunk) is ResNet:
        return _measured(
            visual,
            _stages(trunk),
            lambda pixels: trunk.maxpool(trunk.act1(trunk.bn1(trunk.conv1(pixels)))),
            trunk.forward_head,
            visual.head,
            _width(visual),
        )
    if type(visual) is TimmModel and type(trunk) is ConvNeXt:
        return _measured(
            visual,
            list(trunk.stages),
            trunk.stem,
            lambda maps: trunk.forward_head(trunk.norm_pre(maps)),
            visual.head,
            _width(visual),
        )
    if type(visual) is ModifiedResNet:
        # its pooling ends in the projection
        return _measured(visual, _stages(visual), visual.stem, visual.attnpool, nn.Identity(), 0)
    return None


def _stages(trunk: Any) -> list[nn.Module]:
    return [getattr(trunk, name) for name in _STAGES]


def _width(visual: Any) -> int:
    """Features that open_clip's projection is given; 0 where pooling and projection are one, or the trunk's own."""
    parts = set(dict(visual.head.named_children()))
    return int(visual.trunk.num_features) if parts & {"proj", "mlp"} and "pool" not in parts else 0


def _measured(
    visual: Any, blocks: list[nn.Module], stem: Step, pooling: Step, projection: Step, width: int
) -> ConvolutionalTower:
    size = visual.image_size
    height, across = size if isinstance(size, tuple | list) else (size, size)
    first = next(cast(nn.Module, visual).parameters())
    with torch.no_grad():
        maps = stem(torch.zeros(1, 3, height, across, device=first.device, dtype=first.dtype))
        for block in blocks:
            maps = block(maps)
    channels, rows, columns = maps.shape[1:]
    return ConvolutionalTower(blocks, stem, pooling, projection, width, (rows, columns), channels)
