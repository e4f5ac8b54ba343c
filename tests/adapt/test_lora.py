"""LoRA: what is added, what it becomes when merged, and where it cannot be put."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from radlens.adapt.lora import Lora, add_adapters, merge_adapters
from radlens.core.errors import ModelError
from radlens.core.parts import AdaptationTask
from radlens.models.encoder import OpenClipEncoder

TOY = runpy.run_path(str(Path(__file__).parent / "training_toy.py"))
SHORT: dict[str, Any] = {"epochs": 4, "batch_size": 12, "learning_rate": 1e-2}


@pytest.fixture(scope="module")
def encoder(miniature: Path) -> OpenClipEncoder:
    found: OpenClipEncoder = TOY["read_encoder"](miniature)
    return found


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_merged_equals_unmerged_and_the_formula(encoder: OpenClipEncoder, dropout: float) -> None:
    own = encoder.with_image_tensors({})
    names = add_adapters(own, rank=3, alpha=6, dropout=dropout, seed=0)
    # two layers a block, two matrices each
    assert len(names) == 6 * 2 * 2
    pixels = torch.randn(3, 3, 160, 160, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        # B begins at 0: nothing is added yet
        torch.testing.assert_close(own.encode_images(pixels), encoder.encode_images(pixels), atol=1e-5, rtol=0)
        generator = torch.Generator().manual_seed(2)
        added = dict(own.image_module.named_parameters())
        for name in names:
            added[name].normal_(0, 0.1, generator=generator)
        before = own.encode_images(pixels)
        assert (before - encoder.encode_images(pixels)).abs().max() > 0.1
        place = "trunk.blocks.4.attn.qkv"
        a, b = (added[f"{place}.lora_{part}.default.weight"].clone() for part in "AB")
        merge_adapters(own.image_module)
        torch.testing.assert_close(own.encode_images(pixels), before, atol=1e-5, rtol=1e-5)
    released, merged = (x.image_module.state_dict() for x in (encoder, own))
    assert merged.keys() == released.keys()
    torch.testing.assert_close(merged[f"{place}.weight"], released[f"{place}.weight"] + 6 / 3 * b @ a)
    assert type(own.image_module.get_submodule(place)) is nn.Linear


def test_trains_the_attention_alone_and_tells_how_little(encoder: OpenClipEncoder) -> None:
    task: AdaptationTask = TOY["make_task"](encoder, None, 36, 16)
    made = Lora(**SHORT, rank=4, dropout=0.1).fit(task)
    ends = {name.partition("attn.")[2] for name in made.image_tensors}
    assert ends == {"qkv.weight", "proj.weight"} and len(made.image_tensors) == 12
    width, head = 64, 2 * 25
    assert made.card["trainable_parameters"] == 6 * 4 * (width + 3 * width + width + width) + head
    assert made.card["total_parameters"] == sum(p.numel() for p in encoder.image_module.parameters()) + head
    assert made.card["best_epoch"] > 1
    pixels = torch.from_numpy(np.stack([encoder.transform(task.images["val"][row]) for row in range(16)]))
    targets = torch.from_numpy(task.targets["val"])
    with torch.no_grad():
        loss = nn.functional.binary_cross_entropy_with_logits(made.logits(pixels), targets).item()
    assert made.card["validation_bce"] == pytest.approx(loss, abs=1e-5)


def test_another_kind_of_attention_is_refused(miniature_parts: dict[str, Any], tmp_path: Path) -> None:
    own = {"layers": 2, "width": 32, "head_width": 16, "patch_size": 16, "image_size": 32}
    encoder = TOY["read_encoder"](miniature_parts["build_miniature"](tmp_path / "own", vision=own))
    with pytest.raises(ModelError, match=r"`qkv` and `proj` of timm's vision transformers, which .* does not have"):
        Lora(**SHORT).fit(TOY["make_task"](encoder, None, 24, 12))
