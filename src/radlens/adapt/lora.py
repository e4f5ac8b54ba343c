"""LoRA: low-rank additions to the attention of the image encoder, merged into its weights in the end."""

from __future__ import annotations

import re

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from pydantic import Field
from torch import nn

from radlens.adapt.training.options import EncoderSetting
from radlens.core.classifier import Classifier, Encoder
from radlens.core.errors import ModelError
from radlens.core.parts import AdaptationTask
from radlens.core.registry import register

_ATTENTION = re.compile(r".*\battn\.(qkv|proj)")


@register("settings", "lora")
class Lora(EncoderSetting):
    """Trains low-rank additions to the attention (qkv and output projection) of every block, with the head.

    A weight W becomes W + alpha / rank x B A with A (rank, in) and B (out, rank); Hu et al., ICLR 2022, by peft. B
    starts at 0. What is saved is the merged weight: a classifier needs no peft. The additions train at the head's rate.

    rank, alpha: of each addition. dropout: on what goes into it, while training.
    """

    unfrozen_factor: float = Field(default=1.0, gt=0, le=1)
    rank: int = Field(default=8, ge=1)
    alpha: float = Field(default=16.0, gt=0, allow_inf_nan=False)
    dropout: float = Field(default=0.0, ge=0, lt=1)

    def fit(self, task: AdaptationTask) -> Classifier:
        """Train on split `train`, stop by split `val`; see `train_encoder` for what is refused.

        An image tower whose attention has no linear layers `qkv` and `proj` raises `ModelError`.
        """

        def choose(encoder: Encoder) -> set[str]:
            return add_adapters(encoder, self.rank, self.alpha, self.dropout, task.seed)

        return self.trained("lora", task, choose, merge=merge_adapters)


def add_adapters(encoder: Encoder, rank: int, alpha: float, dropout: float, seed: int) -> set[str]:
    """Put additions into the encoder's own image tower; the names of their parameters. A is drawn from the seed."""
    tower = encoder.image_module
    targets = [name for name, m in tower.named_modules() if _ATTENTION.fullmatch(name) and type(m) is nn.Linear]
    if not targets:
        raise ModelError(
            f"lora adds to the linear layers `qkv` and `proj` of timm's vision transformers, which the image tower of "
            f"{encoder.name} does not have; use bitfit, layernorm-tuning or fine-tune with last_k_blocks."
        )
    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=targets)  # type: ignore[arg-type]
    devices = [torch.cuda.current_device()] if encoder.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        inject_adapter_in_model(config, tower)
    tower.eval()
    return {name for name, _ in tower.named_parameters() if ".lora_" in name}


def merge_adapters(tower: nn.Module) -> None:
    """Make every addition part of the weight it was added to, and the tower what it was made of."""
    for name, layer in list(tower.named_modules()):
        if isinstance(layer, BaseTunerLayer):
            layer.merge()
            place, _, last = name.rpartition(".")
            setattr(tower.get_submodule(place), last, layer.get_base_layer())
