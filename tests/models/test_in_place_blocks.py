"""Transformer blocks run in place, against the blocks themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from torch import nn

from radlens.models.in_place_blocks import can_run_in_place, run_in_place


def make_blocks(**options: Any) -> nn.Sequential:
    torch.manual_seed(0)
    model = timm.create_model(
        "vit_tiny_patch16_224", img_size=64, embed_dim=48, depth=3, num_heads=4, num_classes=0, **options
    )
    for parameter in model.blocks.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model.blocks.eval()


def tokens() -> torch.Tensor:
    return torch.randn(5, 17, 48, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("options", [{}, {"qkv_bias": False}, {"mlp_ratio": 2.0}, {"proj_bias": False}])
def test_equal_to_the_blocks_and_leaves_its_input_alone(options: dict[str, Any]) -> None:
    blocks, given = make_blocks(**options), tokens()
    before = given.clone()
    with torch.inference_mode():
        assert can_run_in_place(blocks, given)
        found = run_in_place(list(blocks), given)
        torch.testing.assert_close(found, blocks(given), rtol=1e-5, atol=1e-4)
    assert torch.equal(given, before)
    assert run_in_place([], given) is given


def wrapped(blocks: nn.Sequential) -> None:
    blocks[1].attn.qkv = nn.Sequential(blocks[1].attn.qkv)


def hooked(blocks: nn.Sequential) -> None:
    blocks[2].mlp.fc1.register_forward_hook(lambda *_: None)


def relu(blocks: nn.Sequential) -> None:
    blocks[0].mlp.act = nn.ReLU()


@pytest.mark.parametrize("change", [wrapped, hooked, relu, lambda blocks: blocks[1].train()])
def test_an_unusual_block_says_no(change: Callable[[nn.Sequential], None]) -> None:
    blocks = make_blocks()
    change(blocks)
    with torch.inference_mode():
        assert not can_run_in_place(blocks, tokens())


@pytest.mark.parametrize("options", [{"init_values": 0.1}, {"qk_norm": True}])
def test_an_unusual_architecture_says_no(options: dict[str, Any]) -> None:
    with torch.inference_mode():
        assert not can_run_in_place(make_blocks(**options), tokens())


def test_gradients_and_other_precisions_say_no() -> None:
    blocks = make_blocks()
    assert not can_run_in_place(blocks, tokens())
    with torch.inference_mode():
        assert not can_run_in_place(blocks, tokens().bfloat16())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert not can_run_in_place(blocks, tokens())
