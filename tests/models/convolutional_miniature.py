"""Miniature models of open_clip with a convolutional image tower, random weights that keep numbers near one."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import torch
from open_clip.model import CLIP
from safetensors.torch import load_file, save_file
from torch import Tensor

TIMM = {
    "resnet": {"timm_model_name": "test_resnet", "timm_pool": "avg", "timm_proj": "linear"},
    "resnet, perceptron": {"timm_model_name": "resnet10t", "timm_pool": "avg", "timm_proj": "mlp"},
    "resnet, own classifier": {"timm_model_name": "test_resnet", "timm_pool": "avg", "timm_proj": ""},
    "convnext": {"timm_model_name": "test_convnext", "timm_pool": "avg", "timm_proj": "linear"},
    "resnet, pooled by attention": {"timm_model_name": "resnet10t", "timm_pool": "rot_attn", "timm_proj": ""},
}
OPEN_CLIP = "open_clip's resnet"
CNNS = (*TIMM, OPEN_CLIP)
CLIP_VISION = {"image_size": 160, "layers": [1, 1, 2, 1], "width": 8, "head_width": 32}
CLIP_TEXT = {"context_length": 20, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}


def build(folder: Path, kind: str, *, pixels: int = 160) -> Path:
    """Write a model folder in open_clip's layout: 160 pixels, five rows and columns at the end, 24 dimensions."""
    if kind == OPEN_CLIP:
        vision: dict[str, Any] = CLIP_VISION | {"image_size": pixels}
        folder.mkdir(parents=True)
        config = {"model_cfg": {"embed_dim": 24, "vision_cfg": vision, "text_cfg": CLIP_TEXT}, "preprocess_cfg": {}}
        (folder / "open_clip_config.json").write_text(json.dumps(config))
        state = CLIP(24, dict(vision), dict(CLIP_TEXT)).state_dict()
    else:
        miniature = runpy.run_path(str(Path(__file__).parents[1] / "miniature.py"))
        miniature["build_miniature"](folder, vision=TIMM[kind] | {"image_size": pixels})
        state = load_file(folder / "open_clip_model.safetensors")
    generator = torch.Generator().manual_seed(0)
    drawn = {name: _drawn(name, tensor, generator) for name, tensor in state.items()}
    save_file(drawn, folder / "open_clip_model.safetensors")
    return folder


def _drawn(name: str, tensor: Tensor, generator: torch.Generator) -> Tensor:
    if not name.startswith("visual.") or not tensor.is_floating_point():
        return tensor.contiguous()
    drawn = torch.randn(tensor.shape, generator=generator)
    if name.endswith("running_var"):
        return 0.5 + drawn.abs()
    if tensor.ndim < 2:
        return 0.2 * drawn + name.endswith("weight")
    return drawn * (2 / tensor[0].numel()) ** 0.5
