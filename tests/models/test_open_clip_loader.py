"""The open-clip loader against an independent rebuild, and against folders that are not what they should be."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import gelu
from transformers import BertConfig, BertModel

from radlens.core.classifier import Encoder
from radlens.core.errors import ModelError
from radlens.core.spec import ModelSpec
from radlens.core.store import Cache
from radlens.models.encoder import OpenClipEncoder
from radlens.models.loading import load_encoder, resolve

TEXTS = ["chest x-ray with pleural effusion", "no", "a normal heart, a normal lung, and no pneumonia of the lung"]


def load(folder: Path, tmp_path: Path) -> OpenClipEncoder:
    encoder = load_encoder(resolve(ModelSpec(path=str(folder)), Path(), Cache(tmp_path / "cache")), "cpu")
    assert isinstance(encoder, OpenClipEncoder)
    return encoder


@pytest.fixture
def copied(miniature: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(miniature, tmp_path / "copied"))


def bare_images(state: dict[str, torch.Tensor], name: str, pixels: torch.Tensor) -> torch.Tensor:
    """timm's own model, its class token, and a matrix."""
    trunk = timm.create_model(name, num_classes=0).eval()
    prefix = "visual.trunk."
    trunk.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
    return trunk.forward_features(pixels)[:, 0] @ state["visual.head.proj.weight"].T


def bare_texts(state: dict[str, torch.Tensor], config: BertConfig, ids: torch.Tensor) -> torch.Tensor:
    """transformers' own BERT, its first token, and two matrices."""
    bert = BertModel(config, add_pooling_layer=False).eval()
    prefix = "text.transformer."
    bert.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
    first = bert(ids, attention_mask=(ids != 0).long()).last_hidden_state[:, 0]
    return gelu(first @ state["text.proj.0.weight"].T) @ state["text.proj.2.weight"].T


def test_embeddings_equal_an_independent_rebuild(miniature: Path, tmp_path: Path) -> None:
    encoder = load(miniature, tmp_path)
    state = load_file(miniature / "open_clip_model.safetensors")
    pixels = torch.randn(3, 3, 160, 160, generator=torch.Generator().manual_seed(1))
    config = BertConfig(**json.loads((miniature / "text_config.json").read_text()))
    with torch.no_grad():
        torch.testing.assert_close(
            encoder.encode_images(pixels), bare_images(state, "test_vit", pixels), atol=1e-5, rtol=1e-5
        )
        ids = encoder.tokenizer(TEXTS)
        assert ids.shape == (3, 48)
        torch.testing.assert_close(encoder.encode_texts(TEXTS), bare_texts(state, config, ids), atol=1e-5, rtol=1e-5)
    assert encoder.logit_scale == pytest.approx(np.exp(3.0))


def test_the_encoder_is_what_the_protocol_says(miniature: Path, tmp_path: Path) -> None:
    encoder = load(miniature, tmp_path)
    assert isinstance(encoder, Encoder)
    assert (encoder.grid, encoder.prefix_tokens, encoder.dimension, len(encoder.blocks)) == ((10, 10), 1, 24, 6)
    assert encoder.transform.size == 160
    assert not encoder.model.training
    assert not any(p.requires_grad for p in encoder.model.parameters())
    assert encoder.card["parameters"] == sum(p.numel() for p in encoder.model.parameters())
    assert encoder.encode_texts([]).shape == (0, 24)


def test_tokens_blocks_and_pool_make_the_embedding(miniature: Path, tmp_path: Path) -> None:
    encoder = load(miniature, tmp_path)
    pixels = torch.randn(2, 3, 160, 160, generator=torch.Generator().manual_seed(2), requires_grad=True)
    tokens = encoder.tokens(pixels)
    assert tokens.shape == (2, 101, 64)
    for block in encoder.blocks:
        tokens = block(tokens)
    whole = encoder.encode_images(pixels)
    torch.testing.assert_close(encoder.pool(tokens), whole, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(encoder.pool(tokens[:, :1]), whole, atol=1e-6, rtol=1e-5)
    (gradient,) = torch.autograd.grad(whole.sum(), pixels)
    assert gradient.abs().max() > 0
    with torch.no_grad():  # the class-token-only last block
        torch.testing.assert_close(encoder.encode_images(pixels), whole, atol=2e-6, rtol=1e-5)


def test_trimmed_padding_changes_nothing(miniature: Path, tmp_path: Path) -> None:
    encoder = load(miniature, tmp_path)
    lengths: list[int] = []
    encoder.model.text.transformer.register_forward_pre_hook(
        lambda _module, _args, kwargs: lengths.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    with torch.no_grad():
        full = encoder.model.encode_text(encoder.tokenizer(TEXTS))
        trimmed = encoder.encode_texts(TEXTS)
    torch.testing.assert_close(trimmed, full, atol=1e-6, rtol=1e-6)
    assert lengths[0] == 48
    assert lengths[1] < 24


def test_the_state_is_the_file_s(miniature: Path, tmp_path: Path) -> None:
    state = load_file(miniature / "open_clip_model.safetensors")
    found = load(miniature, tmp_path).model.state_dict()
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], state[name]) for name in state)


def test_a_bin_with_the_keys_of_older_releases_loads_alike(copied: Path, miniature: Path, tmp_path: Path) -> None:
    state = load_file(copied / "open_clip_model.safetensors")
    state["text.transformer.embeddings.position_ids"] = torch.arange(64)[None]
    state["text.transformer.pooler.dense.weight"] = torch.zeros(32, 32)
    state["text.transformer.pooler.dense.bias"] = torch.zeros(32)
    torch.save(state, copied / "open_clip_pytorch_model.bin")
    (copied / "open_clip_model.safetensors").unlink()
    old, new = load(copied, tmp_path), load(miniature, tmp_path)
    assert old.fingerprint != new.fingerprint
    torch.testing.assert_close(old.encode_texts(TEXTS), new.encode_texts(TEXTS))


def test_half_precision_weights_are_computed_in_float32(copied: Path, tmp_path: Path) -> None:
    path = copied / "open_clip_model.safetensors"
    save_file({name: tensor.half() for name, tensor in load_file(path).items()}, path)
    encoder = load(copied, tmp_path)
    assert {p.dtype for p in encoder.model.parameters()} == {torch.float32}


def test_loading_twice_gives_one_fingerprint_and_other_content_another(copied: Path, tmp_path: Path) -> None:
    def fingerprint() -> str:
        return resolve(ModelSpec(path=str(copied)), Path(), Cache(tmp_path / "cache")).fingerprint

    first = fingerprint()
    assert fingerprint() == first
    config = copied / "open_clip_config.json"
    config.write_text(config.read_text().replace("0.4578275", "0.5"))
    assert fingerprint() != first


def test_open_clips_own_transformers_load(tmp_path: Path) -> None:
    from open_clip.model import CLIP

    folder = tmp_path / "clip"
    folder.mkdir()
    vision = {"image_size": 64, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16}
    text = {"context_length": 20, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    model = {"embed_dim": 12, "vision_cfg": vision, "text_cfg": text}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model, "preprocess_cfg": {}}))
    plain = CLIP(12, dict(vision), dict(text)).eval()
    save_file({k: v.contiguous() for k, v in plain.state_dict().items()}, folder / "open_clip_model.safetensors")
    encoder = load(folder, tmp_path)
    pixels = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(encoder.encode_images(pixels), plain.encode_image(pixels))
        texts = encoder.encode_texts(["chest x-ray", "a"])
        torch.testing.assert_close(texts, plain.encode_text(encoder.tokenizer(["chest x-ray", "a"])))
    assert (encoder.grid, len(encoder.blocks)) == ((4, 4), 2)


def test_code_in_the_folder_is_never_run(copied: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    (copied / "tokenization_own.py").write_text(f"open({str(ran)!r}, 'w').close()\nclass Own: ...\n")
    _edit(copied, lambda c: c["model_cfg"]["text_cfg"].update(tokenizer_kwargs={"trust_remote_code": True}))
    path = copied / "tokenizer_config.json"
    own = {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": [None, "tokenization_own.Own"]}}
    path.write_text(json.dumps(json.loads(path.read_text()) | own))
    with contextlib.suppress(ModelError):
        load(copied, tmp_path)
    assert not ran.exists()


def _edit(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = folder / "open_clip_config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


def _without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def _no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").unlink()


def _unknown_only(folder: Path) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    kept = {k: i for k, i in tokenizer["model"]["vocab"].items() if k.startswith("[")}
    tokenizer["model"]["vocab"] = kept
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "vocab.txt").write_text("\n".join(kept) + "\n")


def _larger_tokenizer(folder: Path) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    table = tokenizer["model"]["vocab"]
    table |= {f"further{i}": len(table) + i for i in range(50)}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "vocab.txt").write_text("\n".join(table) + "\n")


def _truncated(folder: Path) -> None:
    path = folder / "open_clip_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def _change_state(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        path = folder / "open_clip_model.safetensors"
        state = load_file(path)
        change(state)
        save_file(state, path)

    return apply


def _bad_bin(folder: Path) -> None:
    (folder / "open_clip_model.safetensors").unlink()
    torch.save({"a": print}, folder / "open_clip_pytorch_model.bin")


BAD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no folder": (lambda folder: shutil.rmtree(folder), r"does not exist; a model folder holds open_clip_config\.json"),
    "no weights": (_without("open_clip_model.safetensors"), r"lacks its weights \(looked for open_clip_model"),
    "no configuration": (_without("open_clip_config.json"), r"lacks its configuration"),
    "no tokenizer": (_no_tokenizer, r"lacks its tokenizer \(looked for tokenizer\.json, vocab\.txt"),
    "no text configuration": (_without("text_config.json"), r"under the name text_config\.json"),
    "unknown-only tokenizer": (_unknown_only, r"knows none of the words"),
    "tokenizer of another model": (_larger_tokenizer, r"has 140 tokens but the text tower has only 95"),
    "truncated weights": (_truncated, r"cannot be read as weights: .*fetch it again"),
    "a pickle that runs code": (_bad_bin, r"cannot be read as weights"),
    "missing tensor": (_change_state(lambda s: s.pop("visual.trunk.cls_token")), r"lacks tensor visual\.trunk\.cls_to"),
    "unexpected tensor": (
        _change_state(lambda s: s.update(stray=torch.zeros(2))),
        r"holds the unexpected tensor stray",
    ),
    "wrong shape": (
        _change_state(lambda s: s.update({"visual.head.proj.weight": torch.zeros(24, 63)})),
        r"visual\.head\.proj\.weight has shape \(24, 63\), expected \(24, 64\)",
    ),
    "broken JSON": (lambda f: (f / "open_clip_config.json").write_text("{"), r"is not valid JSON"),
    "no model_cfg": (lambda f: _edit(f, lambda c: c.pop("model_cfg")), r"has no model_cfg"),
    "resize mode": (
        lambda f: _edit(f, lambda c: c["preprocess_cfg"].update(resize_mode="squash")),
        r"asks for resize_mode 'squash'",
    ),
    "unknown architecture": (
        lambda f: _edit(f, lambda c: c["model_cfg"]["vision_cfg"].update(timm_model_name="no_such_tower")),
        r"does not describe a model that open_clip can build",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_folder_is_told_in_one_sentence(name: str, copied: Path, tmp_path: Path) -> None:
    spoil, sentence = BAD[name]
    spoil(copied)
    with pytest.raises(ModelError, match=sentence) as caught:
        load(copied, tmp_path)
    assert str(tmp_path) in str(caught.value) or "open_clip_model.safetensors" in str(caught.value)
    assert "\n" not in str(caught.value)
