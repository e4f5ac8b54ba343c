"""Methods on other towers: open_clip's and transformers' against timm's of the same weights; refusals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from open_clip.transformer import VisionTransformer as OpenClipVisionTransformer
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel

from radlens.core.classifier import Classifier, Head
from radlens.core.errors import ExplainError
from radlens.core.parts import needs
from radlens.core.registry import parts
from radlens.explain.attention import recorder, stepping_into
from radlens.explain.drawing import Drawing, methods_named
from radlens.explain.maps import saliency_maps
from radlens.explain.sites import resolve_sites
from radlens.models.encoder import OpenClipEncoder
from radlens.models.transformers_clip import ImageBlock
from radlens.models.transformers_tower import TransformersClip

EVERY = tuple(parts("saliency"))
OF_ATTENTION = ("attention-rollout", "grad-eclip", "gradient-attention", "legrad", "value-map")
LAYERS = (-1, -3, 0)


class OpenClipTower(nn.Module):
    """open_clip's vision transformer behind the `Encoder` protocol, with the weights of a timm one."""

    name, fingerprint, dimension, grid, prefix_tokens, logit_scale = "open-clip-vit", "test", 16, (4, 4), 1, 20.0

    def __init__(self, timm_encoder: Any) -> None:
        super().__init__()
        self.visual = OpenClipVisionTransformer(64, 16, 32, layers=4, heads=4, mlp_ratio=4.0, output_dim=16).eval()
        self.transform = timm_encoder.transform
        trunk, visual = timm_encoder.trunk, self.visual
        pairs = [
            (visual.conv1.weight, trunk.patch_embed.proj.weight),
            (visual.class_embedding, trunk.cls_token[0, 0]),
            (visual.positional_embedding, trunk.pos_embed[0]),
            (visual.proj, timm_encoder.projection.weight.T),
        ]
        pairs += zip(visual.ln_pre.parameters(), trunk.norm_pre.parameters(), strict=True)
        pairs += zip(visual.ln_post.parameters(), trunk.norm.parameters(), strict=True)
        for own, other in zip(visual.transformer.resblocks, trunk.blocks, strict=True):
            # in both, parameters come in the order norm, attention (in, out), norm, perceptron (in, out)
            own_parts = (own.ln_1, own.attn, own.ln_2, own.mlp)
            other_parts = (other.norm1, other.attn, other.norm2, other.mlp)
            for one, two in zip(own_parts, other_parts, strict=True):
                pairs += zip(one.parameters(), two.parameters(), strict=True)
        with torch.no_grad():
            for own, other in pairs:
                own.copy_(other)

    @property
    def device(self) -> torch.device:
        return self.visual.proj.device

    @property
    def blocks(self) -> list[nn.Module]:
        return list(self.visual.transformer.resblocks)

    def encode_images(self, pixels: Tensor) -> Tensor:
        return self.visual(pixels)

    def tokens(self, pixels: Tensor) -> Tensor:
        return self.visual._embeds(pixels)

    def pool(self, tokens: Tensor) -> Tensor:
        return self.visual._pool(tokens)[0] @ self.visual.proj


def transformers_tower(timm_encoder: Any) -> Any:
    """transformers' vision tower behind the `Encoder` protocol, with the weights of a timm one."""
    sizes = {"hidden_size": 32, "intermediate_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4}
    vision = sizes | {"image_size": 64, "patch_size": 16, "hidden_act": "gelu", "layer_norm_eps": 1e-5}
    text = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "vocab_size": 10}
    config = CLIPConfig(vision_config=vision, text_config=text, projection_dim=16)
    config._attn_implementation = "sdpa"
    clip = CLIPModel(config).eval()
    own, trunk = clip.vision_model, timm_encoder.trunk
    for index, other in enumerate(trunk.blocks):
        own.encoder.layers[index] = block = ImageBlock(config.vision_config)
        pairs = [(block.layer_norm1, other.norm1), (block.layer_norm2, other.norm2)]
        pairs += [(block.self_attn.out_proj, other.attn.proj), (block.mlp.fc1, other.mlp.fc1)]
        for one, two in (*pairs, (block.mlp.fc2, other.mlp.fc2)):
            one.load_state_dict(two.state_dict())
        parts = (block.self_attn.q_proj, block.self_attn.k_proj, block.self_attn.v_proj)
        weights, biases = other.attn.qkv.weight.chunk(3), other.attn.qkv.bias.chunk(3)
        for one, weight, bias in zip(parts, weights, biases, strict=True):
            one.load_state_dict({"weight": weight, "bias": bias})
    own.pre_layrnorm.load_state_dict(trunk.norm_pre.state_dict())
    own.post_layernorm.load_state_dict(trunk.norm.state_dict())
    clip.visual_projection.load_state_dict(timm_encoder.projection.state_dict())
    with torch.no_grad():
        own.embeddings.class_embedding.copy_(trunk.cls_token[0, 0])
        own.embeddings.position_embedding.weight.copy_(trunk.pos_embed[0])
        own.embeddings.patch_embedding.weight.copy_(trunk.patch_embed.proj.weight)
    told = {"name": "transformers-vit", "fingerprint": "test", "dimension": 16}
    return OpenClipEncoder(TransformersClip(clip.eval()), lambda texts: torch.zeros(0), timm_encoder.transform, told, 0)


MAKERS: dict[str, Callable[[Any], Any]] = {"open_clip": OpenClipTower, "transformers": transformers_tower}


def draw(classifier: Classifier, pixels: Tensor, names: tuple[str, ...] = EVERY) -> np.ndarray[Any, Any]:
    sites = resolve_sites(classifier.encoder, LAYERS)  # type: ignore[arg-type]
    return Drawing(classifier, sites, methods_named(names))(pixels)


@pytest.mark.parametrize("maker", MAKERS)
def test_other_transformers_give_the_maps_of_timms(
    maker: str, make_encoder: Callable[..., Any], make_classifier: Callable[..., Classifier], pixels: Tensor
) -> None:
    # transformers' patch embedding has no bias
    encoder = make_encoder(pre_norm=True, norm_layer=partial(nn.LayerNorm, eps=1e-5))
    timm = make_classifier(encoder)
    other = replace(timm, encoder=MAKERS[maker](encoder))
    torch.testing.assert_close(other.logits(pixels), timm.logits(pixels), rtol=1e-4, atol=1e-4)
    ours, theirs = draw(other, pixels), draw(timm, pixels)
    for at, name in enumerate(EVERY):
        assert theirs[:, :, at].any()
        scale = theirs[:, :, at].max()
        np.testing.assert_allclose(ours[:, :, at], theirs[:, :, at], rtol=1e-2, atol=1e-4 * scale, err_msg=name)


@pytest.mark.parametrize("name", OF_ATTENTION)
def test_a_tower_without_class_token_pooling_is_refused(
    name: str, make_encoder: Callable[..., Any], make_classifier: Callable[..., Classifier], pixels: Tensor
) -> None:
    classifier = make_classifier(make_encoder(pool="avg"))
    with pytest.raises(ExplainError, match=rf"^{name} cannot be drawn for test-vit: .* class token"):
        draw(classifier, pixels, ("grad-cam", name))
    others = tuple(sorted(set(EVERY) - set(OF_ATTENTION)))
    assert draw(classifier, pixels[:1], others).any()


class WithoutFusedAttention(nn.Module):
    """Attention that PyTorch's functions do not come by."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(32)

    def forward(self, tokens: Tensor) -> Tensor:
        normed = self.norm1(tokens)
        return tokens + (normed @ normed.transpose(1, 2)).softmax(-1) @ normed


def test_attention_that_cannot_be_read_is_refused(
    make_encoder: Callable[..., Any], make_classifier: Callable[..., Classifier], pixels: Tensor
) -> None:
    encoder = make_encoder()
    encoder.trunk.blocks = nn.Sequential(*(WithoutFusedAttention() for _ in range(4)))
    classifier = make_classifier(encoder)
    with pytest.raises(ExplainError, match=r"^block 0 of test-vit runs PyTorch's fused attention 0 times, expected"):
        draw(classifier, pixels, ("legrad",))
    assert draw(classifier, pixels, ("grad-cam", "input-gradient")).any()
    masked = nn.MultiheadAttention(32, 4, batch_first=True)
    tokens = torch.randn(1, 5, 32)
    with pytest.raises(ExplainError, match="masked"), stepping_into(masked, "block", recorder([])):
        masked(tokens, tokens, tokens, attn_mask=torch.zeros(5, 5), need_weights=False)


@pytest.mark.parametrize("written_out", [False, True])
def test_leaves_the_tower_as_it_was(classifier: Classifier, pixels: Tensor, written_out: bool) -> None:
    encoder: Any = classifier.encoder
    expected = draw(classifier, pixels, OF_ATTENTION)
    for block in encoder.trunk.blocks:
        block.attn.fused_attn = not written_out
    encoder.train()
    np.testing.assert_allclose(draw(classifier, pixels, OF_ATTENTION), expected, rtol=1e-3, atol=1e-4)
    block = encoder.trunk.blocks[1]

    def fail() -> None:
        with stepping_into(block, "block 1", recorder([])):
            block(torch.zeros(1, 17, 32))
            raise RuntimeError("on the way")

    with pytest.raises(RuntimeError, match="on the way"):
        fail()
    assert all(block.attn.fused_attn is not written_out for block in encoder.trunk.blocks)
    assert encoder.training and all(weight.requires_grad for weight in encoder.parameters())
    assert not any(module._forward_hooks for module in encoder.modules())
    found: list[Any] = []
    with stepping_into(block, "block 1", recorder(found)):
        block(torch.zeros(1, 17, 32))
    block(torch.zeros(1, 17, 32))
    assert len(found) == 1


def test_a_site_inside_a_block_gives_methods_of_attention_their_block(classifier: Classifier, pixels: Tensor) -> None:
    encoder: Any = classifier.encoder
    names = ("grad-cam", *OF_ATTENTION)
    inside, plain = (
        Drawing(classifier, resolve_sites(encoder, layers), methods_named(names))(pixels)
        for layers in (("blocks.1", "blocks.2.mlp", "blocks.3.attn.qkv"), (1, 2, 3))
    )
    np.testing.assert_allclose(inside[:, :, 1:], plain[:, :, 1:], rtol=1e-3, atol=1e-4 * plain[:, :, 1:].max())
    assert np.abs(inside[:, :, 0] - plain[:, :, 0]).max() > 0.1


@pytest.mark.parametrize(
    ("quantities", "over"),
    [(("activation",), "site"), (("gradients",), "blocks"), (("keys",), "image"), (("pixel_gradients",), "classifier")],
)
def test_a_method_cannot_need_what_it_is_never_handed(quantities: Any, over: Any) -> None:
    with pytest.raises(ValueError, match=f"over '{over}' cannot need '{quantities[0]}'"):
        needs(*quantities, over=over)


def test_maps_flag_the_negative_control_and_repeat_what_has_no_depth(classifier: Classifier, pixels: Tensor) -> None:
    ids = ("a", "b", "c")
    methods = ("attention-rollout", "input-gradient", "legrad")
    maps = saliency_maps(classifier, [pixels], ids, methods, (-1, -2, -3))
    assert maps.maps.shape == (3, 5, 3, 3, 4, 4) and maps.maps.dtype == np.float16
    flagged = {at for at, why in maps.flags.items() if why == "label-invariant"}
    assert flagged == {(image, label, 0, layer) for image in range(3) for label in range(5) for layer in range(3)}
    np.testing.assert_array_equal(maps.maps[:, :, 1, 1], maps.maps[:, :, 1, 0])
    assert np.abs(maps.maps[:, :, 2, 1] - maps.maps[:, :, 2, 0]).max() > 0.1
    alone = saliency_maps(classifier, [pixels], ids, ("attention-rollout",), (-1, -2, -3))
    np.testing.assert_array_equal(alone.maps[:, :, 0], maps.maps[:, :, 0])


@pytest.mark.parametrize("name", sorted(set(EVERY) - {"attention-rollout"}))
def test_a_label_without_weights_has_a_constant_map(name: str, classifier: Classifier, pixels: Tensor) -> None:
    weight = classifier.head.weight.clone()
    weight[2] = 0
    head = Head(weight, torch.tensor([0.0, 0, -3, 0, 0]), normalise=True)
    maps = saliency_maps(replace(classifier, head=head), [pixels], ("a", "b", "c"), (name,), (-1, -2))
    assert not maps.maps[:, 2].any() and maps.maps[:, 0].any()
    assert all(maps.flags[image, 2, 0, layer] == "constant" for image in range(3) for layer in range(2))


def test_bfloat16_agrees(classifier: Classifier, pixels: Tensor) -> None:
    names = tuple(sorted(set(EVERY) - {"grad-cam-plus-plus", "occlusion", "smooth-grad"}))
    sites = resolve_sites(classifier.encoder, (-1, -2))  # type: ignore[arg-type]
    full, half = (
        Drawing(classifier, sites, methods_named(names), precision=precision)(pixels)  # type: ignore[arg-type]
        for precision in ("float32", "bfloat16")
    )
    for at, name in enumerate(names):
        one, two = full[:, :, at].ravel(), half[:, :, at].ravel()
        assert one @ two / np.linalg.norm(one) / np.linalg.norm(two) > 0.98, name
