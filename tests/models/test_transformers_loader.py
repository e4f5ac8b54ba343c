"""CLIP folders of transformers against transformers' own model, tokenizer and processor; folders that are not right."""

from __future__ import annotations

import contextlib
import json
import runpy
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPModel, CLIPTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from radlens.core.classifier import Encoder
from radlens.core.errors import ModelError
from radlens.core.prompting import LearnsPrompts
from radlens.core.registry import get
from radlens.core.spec import ModelSpec
from radlens.core.store import Cache
from radlens.models.encoder import OpenClipEncoder
from radlens.models.loading import ModelSource, load_encoder, resolve

MADE = runpy.run_path(str(Path(__file__).parent / "transformers_miniature.py"))
# what configurations of 2021 carry beside the sizes
OLDER: dict[str, Any] = {
    "_name_or_path": "",
    "add_cross_attention": False,
    "architectures": None,
    "bad_words_ids": None,
    "diversity_penalty": 0.0,
    "dropout": 0.0,
    "id2label": {"0": "LABEL_0", "1": "LABEL_1"},
    "label2id": {"LABEL_0": 0, "LABEL_1": 1},
    "is_decoder": False,
    "max_length": 20,
    "no_repeat_ngram_size": 0,
    "pruned_heads": {},
    "return_dict": True,
    "torch_dtype": None,
    "torchscript": False,
    "transformers_version": "4.12.0.dev0",
    "use_bfloat16": False,
}
TEXTS = ["the lung, no heart!", "a", "no pleural effusion in the lung (12/3), heart: normal."]


def find(folder: Path, tmp_path: Path) -> ModelSource:
    return resolve(ModelSpec(path=str(folder)), Path(), Cache(tmp_path / "cache"))


def load(folder: Path, tmp_path: Path) -> OpenClipEncoder:
    encoder = load_encoder(find(folder, tmp_path), "cpu")
    assert isinstance(encoder, OpenClipEncoder)
    return encoder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CLIPModel]:
    folder = tmp_path_factory.mktemp("clip") / "released"
    return folder, MADE["build"](folder)


@pytest.fixture
def copied(made: tuple[Path, CLIPModel], tmp_path: Path) -> Path:
    return Path(shutil.copytree(made[0], tmp_path / "copied"))


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def text_features(model: CLIPModel, texts: list[str]) -> torch.Tensor:
    tokenizer: CLIPTokenizer = MADE["make_tokenizer"]()
    ids = tokenizer(texts, padding=True, truncation=True, max_length=40, return_tensors="pt")
    return model.get_text_features(**ids).pooler_output


def test_embeddings_equal_transformers(
    made: tuple[Path, CLIPModel], tmp_path: Path, pixels: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any, **__: Any) -> Any:
        raise AssertionError("a connection was asked for")

    monkeypatch.setattr(socket, "getaddrinfo", refused)
    monkeypatch.setattr(socket.socket, "connect", refused)
    folder, model = made
    encoder = load(folder, tmp_path)
    with torch.no_grad():
        expected = model.get_image_features(pixels).pooler_output
        assert expected.std() > 0.1
        torch.testing.assert_close(encoder.encode_images(pixels), expected)
        long = "lung heart " * 60
        torch.testing.assert_close(encoder.encode_texts([*TEXTS, long]), text_features(model, [*TEXTS, long]))
    torch.testing.assert_close(encoder.encode_images(pixels).detach(), expected)
    assert encoder.logit_scale == pytest.approx(np.exp(3.0))


@pytest.mark.parametrize("change", ["bin", "half", "end token 2", "processor_config", "older keys"])
def test_other_releases_of_the_same(
    change: str, made: tuple[Path, CLIPModel], copied: Path, tmp_path: Path, pixels: torch.Tensor
) -> None:
    model, path = made[1], copied / "model.safetensors"
    state = load_file(path)
    if change == "bin":
        path.unlink()
        state["text_model.embeddings.position_ids"] = torch.arange(40)[None]
        torch.save(state, copied / "pytorch_model.bin")
    elif change == "half":
        save_file({name: tensor.half() for name, tensor in state.items()}, path)
        edit(copied, "config.json", lambda c: c.update(torch_dtype="float16"))
    elif change == "end token 2":
        edit(copied, "config.json", lambda c: c["text_config"].update(eos_token_id=2))
    elif change == "processor_config":
        inner = json.loads((copied / "preprocessor_config.json").read_text())
        (copied / "preprocessor_config.json").unlink()
        (copied / "processor_config.json").write_text(json.dumps({"image_processor": inner}))
    else:
        edit(copied, "config.json", lambda c: c.update(vision_config_dict=c["vision_config"], text_config_dict=None))
        for part in ("vision_config", "text_config"):
            edit(copied, "config.json", lambda c, part=part: c[part].update(OLDER))  # type: ignore[misc]
        edit(copied, "config.json", lambda c: c.update(torch_dtype="float32", transformers_version=None))
        edit(copied, "preprocessor_config.json", lambda c: c.update(size=64, crop_size=64))
    encoder = load(copied, tmp_path)
    assert {p.dtype for p in encoder.model.parameters()} == {torch.float32}
    close: dict[str, float] = {"atol": 2e-2, "rtol": 1e-2} if change == "half" else {}
    with torch.no_grad():
        expected = model.get_image_features(pixels).pooler_output
        torch.testing.assert_close(encoder.encode_images(pixels), expected, **close)  # type: ignore[arg-type]
        torch.testing.assert_close(encoder.encode_texts(TEXTS), text_features(model, TEXTS), **close)  # type: ignore[arg-type]
    assert encoder.fingerprint != load(made[0], tmp_path).fingerprint


def test_images_are_prepared_as_by_its_processor(made: tuple[Path, CLIPModel], tmp_path: Path) -> None:
    encoder = load(made[0], tmp_path)
    processor = CLIPImageProcessorPil.from_pretrained(made[0])
    rng = np.random.default_rng(0)
    for height, width in ((64, 64), (100, 150), (200, 128), (40, 60)):
        image = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
        theirs = np.asarray(processor(Image.fromarray(image))["pixel_values"][0])
        np.testing.assert_allclose(encoder.transform(image), theirs, atol=1e-5)


def test_the_encoder_is_what_the_protocol_says(
    made: tuple[Path, CLIPModel], tmp_path: Path, pixels: torch.Tensor
) -> None:
    folder, model = made
    encoder = load(folder, tmp_path)
    assert isinstance(encoder, Encoder)
    assert (encoder.grid, encoder.prefix_tokens, encoder.dimension, len(encoder.blocks)) == ((4, 4), 1, 16, 4)
    assert not any(p.requires_grad for p in encoder.model.parameters()) and not encoder.model.training
    assert encoder.card["parameters"] == sum(p.numel() for p in model.parameters())
    with torch.no_grad():
        tokens = encoder.tokens(pixels)
        for block in encoder.blocks:
            tokens = block(tokens)
        whole = encoder.encode_images(pixels)
        vision = model.vision_model(pixel_values=pixels)
        torch.testing.assert_close(tokens, vision.last_hidden_state)
        torch.testing.assert_close(encoder.pool(tokens), whole)
        torch.testing.assert_close(encoder.pool(tokens[:, :1]), whole)
        cut = encoder.without_projection()
        torch.testing.assert_close(cut.encode_images(pixels), vision.pooler_output)
        assert cut.dimension == 32 and encoder.encode_texts([]).shape == (0, 16)
    state = load_file(folder / "model.safetensors")
    own = encoder.image_module.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in own.items())


def test_a_copy_with_other_tensors(made: tuple[Path, CLIPModel], tmp_path: Path, pixels: torch.Tensor) -> None:
    encoder = load(made[0], tmp_path)
    name = "vision_model.encoder.layers.3.self_attn.v_proj.weight"
    changed = encoder.with_image_tensors({name: torch.zeros(32, 32)})
    assert changed.fingerprint != encoder.fingerprint
    with torch.no_grad():
        before = encoder.encode_images(pixels)
        assert not torch.allclose(changed.encode_images(pixels), before, atol=1e-2)
        assert torch.equal(encoder.encode_images(pixels), before)
        assert torch.equal(changed.encode_texts(TEXTS), encoder.encode_texts(TEXTS))
    with pytest.raises(ModelError, match=r"no tensor of that name for 'trunk\.x'"):
        encoder.with_image_tensors({"trunk.x": torch.zeros(1)})


def test_learned_context_that_is_words_gives_the_sentence(made: tuple[Path, CLIPModel], tmp_path: Path) -> None:
    encoder = load(made[0], tmp_path)
    assert isinstance(encoder, LearnsPrompts)
    tower = encoder.prompt_tower()
    words = tower.words("no heart in")
    with torch.no_grad():
        found = tower.encode(words.expand(2, -1, -1), ["lung", "a b"])
        torch.testing.assert_close(found, encoder.encode_texts(["no heart in lung", "no heart in a b"]))
    with pytest.raises(ModelError, match="do not fit into the 40 tokens"):
        tower.encode(words[:1].repeat(1, 39, 1), ["lung"])


def test_what_lies_in_the_folder_chooses(miniature: Path, copied: Path, tmp_path: Path) -> None:
    source = find(copied, tmp_path)
    assert source.loader_name == "transformers-clip"
    assert source.card["weights"]["file"] == "model.safetensors"
    assert get("loaders", "transformers-clip")().load({}, copied, "cpu").card["fingerprint"] == source.fingerprint
    # a folder with both layouts is open_clip's, unless its weights are the other's alone
    shutil.copy(miniature / "open_clip_config.json", copied)
    assert find(copied, tmp_path).loader_name == "transformers-clip"
    both = Path(shutil.copytree(miniature, tmp_path / "both"))
    (both / "config.json").write_text(json.dumps({"model_type": "bert"}))
    (both / "model.safetensors").write_bytes(b"")
    assert find(both, tmp_path).loader_name == "open-clip"


@pytest.mark.parametrize("file", ["config.json", "preprocessor_config.json", "model.safetensors", "tokenizer.json"])
def test_other_content_is_another_model(file: str, copied: Path, tmp_path: Path) -> None:
    before = find(copied, tmp_path).fingerprint
    assert find(copied, tmp_path).fingerprint == before
    with (copied / file).open("ab") as opened:
        opened.write(b" ")
    assert find(copied, tmp_path).fingerprint != before


def test_code_in_the_folder_is_never_run(copied: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    for name in ("modeling_own.py", "tokenization_own.py"):
        (copied / name).write_text(f"open({str(ran)!r}, 'w').close()\nclass Own: ...\n")
    edit(
        copied, "tokenizer_config.json", lambda c: c.update(auto_map={"AutoTokenizer": [None, "tokenization_own.Own"]})
    )
    load(copied, tmp_path)
    edit(copied, "tokenizer_config.json", lambda c: c.update(tokenizer_class="Own"))
    with contextlib.suppress(ModelError):
        load(copied, tmp_path)
    edit(copied, "config.json", lambda c: c.update(auto_map={"AutoModel": "modeling_own.Own"}))
    with pytest.raises(ModelError, match=r"names code of its own \(auto_map\), which is never run"):
        load(copied, tmp_path)
    assert not ran.exists()


def edit(folder: Path, name: str, change: Callable[[dict[str, Any]], Any]) -> None:
    values = json.loads((folder / name).read_text())
    change(values)
    (folder / name).write_text(json.dumps(values))


def change_state(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        state = load_file(folder / "model.safetensors")
        change(state)
        save_file(state, folder / "model.safetensors")

    return apply


def bad_bin(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"a": print}, folder / "pytorch_model.bin")


def prepared(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: edit(folder, "preprocessor_config.json", lambda c: c.update(changes))


def configured(part: str, **changes: Any) -> Callable[[Path], None]:
    return lambda folder: edit(folder, "config.json", lambda c: (c[part] if part else c).update(changes))


BAD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no weights": (lambda f: (f / "model.safetensors").unlink(), r"lacks its weights \(looked for model\.safetensors"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), r"lacks its tokenizer \(looked for tokenizer\.json"),
    "no preparation": (lambda f: (f / "preprocessor_config.json").unlink(), r"lacks its preparation of images"),
    "no configuration": (lambda f: (f / "config.json").unlink(), r"lacks its configuration .* or a CLIP of transf"),
    "another architecture": (configured("", model_type="siglip"), r"a model of type 'siglip', which cannot be loaded"),
    "an image tower alone": (configured("", model_type="clip_vision_model"), r"expected type 'clip' \(an image and"),
    "no type": (lambda f: edit(f, "config.json", lambda c: c.pop("model_type")), r"of type None"),
    "split weights": (
        lambda f: (f / "model.safetensors").rename(f / "model.safetensors.index.json"),
        r"split over several files; save them as one",
    ),
    "a pickle that runs code": (bad_bin, r"cannot be read as weights"),
    "truncated": (
        lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-100]),
        r"cannot be read as weights: .*fetch it again",
    ),
    "missing tensor": (change_state(lambda s: s.pop("visual_projection.weight")), r"lacks tensor visual_projection"),
    "unexpected tensor": (change_state(lambda s: s.update(x=torch.zeros(1))), r"holds the unexpected tensor x;"),
    "other sizes": (configured("vision_config", hidden_size=48), r"has shape \(\d+.*\), expected \("),
    "a size that is text": (configured("vision_config", hidden_size="wide"), r"does not describe a CLIP .*hidden_size"),
    "heads that do not divide": (configured("vision_config", num_attention_heads=5), r"does not describe a CLIP"),
    "unknown activation": (configured("text_config", hidden_act="none"), r"does not describe a CLIP"),
    "an oblong image": (configured("vision_config", image_size=[64, 32]), r"image_size must be one whole number"),
    "patches of no size": (configured("vision_config", patch_size=0), r"does not describe a CLIP"),
    "another end token": (configured("text_config", eos_token_id=5), r"ends a sentence with token 99, .* looks for 5"),
    "fewer words": (configured("text_config", vocab_size=50), r"has shape|100 tokens but the text tower has only 50"),
    "images of another size": (prepared(size=32, crop_size=32), r"makes images of 32 pixels, .* config\.json takes 64"),
    "resize and crop differ": (prepared(size={"shortest_edge": 80}), r"asks for crop_size .*; supported is shortest"),
    "stretched": (prepared(size={"height": 64, "width": 64}), r"asks for size \{'height': 64, 'width': 64\}"),
    "no resize": (prepared(do_resize=False), r"asks for do_resize: false"),
    "another filter": (prepared(resample=0), r"asks for resample 0"),
    "another scale": (prepared(rescale_factor=1.0), r"asks for rescale_factor 1\.0"),
    "no mean": (prepared(image_mean=[0.5]), r"asks for image_mean \[0\.5\]"),
    "no spread": (prepared(image_std=[0.5, 0, 0.5]), r"asks for image_std \[0\.5, 0, 0\.5\]"),
    "broken JSON": (lambda f: (f / "config.json").write_text("{"), r"is not valid JSON"),
    "broken tokenizer": (lambda f: (f / "tokenizer.json").write_text("{}"), r"the tokenizer in .* cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_folder_is_told_in_one_sentence(name: str, copied: Path, tmp_path: Path) -> None:
    spoil, sentence = BAD[name]
    spoil(copied)
    with pytest.raises(ModelError, match=sentence) as caught:
        load(copied, tmp_path)
    assert "copied" in str(caught.value) and "\n" not in str(caught.value)
