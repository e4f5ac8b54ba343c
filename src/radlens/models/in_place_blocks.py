"""timm's transformer blocks on a processor without gradients: the same arithmetic in two buffers used over and over.

A block as timm writes it copies every bias into a fresh output, keeps the perceptron's input while its activation
is made, and adds each branch into a third tensor. On a processor, memory is what such a forward waits for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from timm.layers.mlp import Mlp
from torch import Tensor, nn
from torch.nn.functional import layer_norm, scaled_dot_product_attention

from radlens.core.class_token import is_plain_block


def can_run_in_place(blocks: Iterable[nn.Module], tokens: Tensor) -> bool:
    """Whether `run_in_place` gives what the blocks themselves would: float32 on a CPU, no gradient, nothing unusual.

    A norm or activation of another kind, a layer scale, dropout in training, a wrapped layer or a hook all say no.
    """
    return (
        tokens.device.type == "cpu"
        and tokens.dtype == torch.float32
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and all(_is_standard(block) for block in blocks)
    )


def run_in_place(blocks: Sequence[nn.Module], tokens: Tensor) -> Tensor:
    """(B, N, C) -> (B, N, C) through all blocks; `tokens` stays as it was. Equal to running them one by one."""
    if not blocks:
        return tokens
    batch, length, width = tokens.shape
    stream = tokens.reshape(batch * length, width).clone()
    first: Any = blocks[0]
    projected = stream.new_empty(len(stream), first.attn.qkv.out_features)
    hidden = stream.new_empty(len(stream), first.mlp.fc1.out_features)
    for module in blocks:
        block: Any = module
        attention, perceptron = block.attn, block.mlp
        _linear(attention.qkv, _normed(block.norm1, stream), projected)
        query, key, value = projected.view(batch, length, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = scaled_dot_product_attention(query, key, value, scale=attention.scale)
        _add_linear(attention.proj, mixed.transpose(1, 2).reshape(len(stream), -1), stream)
        _linear(perceptron.fc1, _normed(block.norm2, stream), hidden)
        torch.ops.aten.gelu_(hidden, approximate=perceptron.act.approximate)
        _add_linear(perceptron.fc2, hidden, stream)
    return stream.view(batch, length, width)


def _is_standard(module: nn.Module) -> bool:
    block: Any = module
    if module.training or not is_plain_block(module):
        return False
    attention, perceptron = block.attn, block.mlp
    if type(perceptron) is not Mlp or type(perceptron.act) is not nn.GELU:
        return False
    kinds: list[tuple[type[nn.Module], Any]] = [
        *((nn.Linear, layer) for layer in (attention.qkv, attention.proj, perceptron.fc1, perceptron.fc2)),
        *((nn.Identity, part) for part in (attention.q_norm, attention.k_norm, block.ls1, block.ls2, perceptron.norm)),
        # releases of timm before 1.0.16 have no norm here
        (nn.Identity, getattr(attention, "norm", nn.Identity())),
    ]
    if not all(type(part) is kind for kind, part in kinds) or not all(map(_is_layer_norm, (block.norm1, block.norm2))):
        return False
    return not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())


def _is_layer_norm(part: nn.Module) -> bool:
    # timm derives its own from PyTorch's, with the same arithmetic
    kinds = {(nn.LayerNorm.__module__, "LayerNorm"), ("timm.layers.norm", "LayerNorm")}
    return (type(part).__module__, type(part).__name__) in kinds


def _normed(norm: Any, stream: Tensor) -> Tensor:
    return layer_norm(stream, norm.normalized_shape, norm.weight, norm.bias, norm.eps)


def _linear(layer: Any, inputs: Tensor, out: Tensor) -> None:
    if layer.bias is None:
        torch.mm(inputs, layer.weight.t(), out=out)
    else:
        torch.addmm(layer.bias, inputs, layer.weight.t(), out=out)


def _add_linear(layer: Any, inputs: Tensor, stream: Tensor) -> None:
    if layer.bias is not None:
        stream.add_(layer.bias)
    stream.addmm_(inputs, layer.weight.t())
