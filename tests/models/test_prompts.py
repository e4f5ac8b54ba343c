"""Learned context in the place of words: equal to the sentence where the context is words, on every text tower."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from open_clip.model import CLIP, CustomTextCLIP
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import gelu
from transformers import BertConfig, BertModel

from radlens.core.errors import ModelError
from radlens.core.prompting import LearnsPrompts
from radlens.core.spec import ModelSpec
from radlens.core.store import Cache
from radlens.models.encoder import OpenClipEncoder
from radlens.models.loading import load_encoder, resolve
from radlens.models.prompts import LearnedContext

NAMES = ["pleural effusion", "heart", "pneumonia of the lung and no effusion"]
WORDS = "a chest radiograph with"

VISION = {"image_size": 64, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
TEXT = {"context_length": 24, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2}


def of_hugging_face(folder: Path, tmp_path: Path) -> OpenClipEncoder:
    encoder = load_encoder(resolve(ModelSpec(path=str(folder)), Path(), Cache(tmp_path / "cache")), "cpu")
    assert isinstance(encoder, OpenClipEncoder)
    return encoder


def of_open_clip(folder: Path, tmp_path: Path, custom: bool) -> OpenClipEncoder:
    """CLIP's own text tower, causal and pooled at the end token, in either of open_clip's two classes."""
    made = tmp_path / "clip"
    made.mkdir()
    config = {"model_cfg": {"embed_dim": 12, "vision_cfg": VISION, "text_cfg": TEXT}, "preprocess_cfg": {}}
    config["model_cfg"]["custom_text"] = custom
    (made / "open_clip_config.json").write_text(json.dumps(config))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        plain = (CustomTextCLIP if custom else CLIP)(12, dict(VISION), dict(TEXT)).eval()
    save_file({k: v.contiguous() for k, v in plain.state_dict().items()}, made / "open_clip_model.safetensors")
    return of_hugging_face(made, tmp_path)


MAKERS: dict[str, Callable[[Path, Path], OpenClipEncoder]] = {
    "bert": of_hugging_face,
    "clip": lambda folder, path: of_open_clip(folder, path, False),
    "custom text clip": lambda folder, path: of_open_clip(folder, path, True),
}


@pytest.fixture(params=MAKERS)
def encoder(request: pytest.FixtureRequest, miniature: Path, tmp_path: Path) -> OpenClipEncoder:
    return MAKERS[request.param](miniature, tmp_path)


def test_context_that_is_words_gives_the_sentence(encoder: OpenClipEncoder) -> None:
    assert isinstance(encoder, LearnsPrompts)
    tower = encoder.prompt_tower()
    words = tower.words(WORDS)
    assert len(words) >= 4 and words.shape[1] == tower.width
    with torch.no_grad():
        found = tower.encode(words.expand(3, -1, -1), NAMES)
        torch.testing.assert_close(found, encoder.encode_texts([f"{WORDS} {x}" for x in NAMES]), atol=1e-5, rtol=1e-5)
        other = tower.encode(words.flip(0).expand(3, -1, -1), NAMES)
    assert (found - other).abs().max() > 1e-3


def test_each_name_has_its_own_context_and_leaves_the_tower_as_it_was(encoder: OpenClipEncoder) -> None:
    tower = encoder.prompt_tower()
    firsts = ["no chest", "with the", "lung a"]
    with torch.no_grad():
        before = encoder.encode_texts(NAMES)
        found = tower.encode(torch.stack([tower.words(first) for first in firsts]), NAMES)
        pairs = zip(firsts, NAMES, strict=True)
        torch.testing.assert_close(found, encoder.encode_texts([" ".join(pair) for pair in pairs]), atol=1e-5, rtol=0)
        assert torch.equal(encoder.encode_texts(NAMES), before)


def test_the_gradient_is_that_of_finite_differences_and_reaches_the_context_alone(encoder: OpenClipEncoder) -> None:
    tower = encoder.prompt_tower()
    encoder.model.double()
    context = tower.words(WORDS).double().requires_grad_()

    def value(context: Tensor) -> Tensor:
        return tower.encode(context.expand(3, -1, -1), NAMES).sin().sum()

    value(context).backward()  # type: ignore[no-untyped-call]
    assert context.grad is not None
    assert all(p.grad is None and not p.requires_grad for p in encoder.model.parameters())
    generator = torch.Generator().manual_seed(0)
    step = 1e-6 * torch.randn(context.shape, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        slope = float(value(context + step) - value(context - step)) / 2
    assert slope == pytest.approx(float((context.grad * step).sum()), rel=1e-4)


def test_words_and_their_nearest(encoder: OpenClipEncoder) -> None:
    tower = encoder.prompt_tower()
    vectors = tower.words("chest lung")
    nearest = tower.nearest(3 * vectors, 2)
    assert [found[0][0] for found in nearest] == ["chest", "lung"]
    assert all(found[0][1] == pytest.approx(1, abs=1e-5) and found[1][1] < 0.99 for found in nearest)
    with pytest.raises(ModelError, match="finds no word in ' '"):
        tower.words(" ")


def test_equals_bert_given_embeddings(miniature: Path, tmp_path: Path) -> None:
    """transformers' own `inputs_embeds`, for a context that no word has."""
    tower = of_hugging_face(miniature, tmp_path).prompt_tower()
    state = load_file(miniature / "open_clip_model.safetensors")
    bert = BertModel(BertConfig(**json.loads((miniature / "text_config.json").read_text())), add_pooling_layer=False)
    prefix = "text.transformer."
    bert.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
    bert.eval()
    context = torch.randn(2, 3, 32, generator=torch.Generator().manual_seed(1))
    names = ["heart", "pleural effusion"]
    table = bert.embeddings.word_embeddings.weight
    for row, name in enumerate(names):
        ids = tower._ids([name])[0]
        ids = ids[ids != 0]
        embedded = torch.cat([table[ids[:1]], context[row], table[ids[1:]]])
        with torch.no_grad():
            first = bert(inputs_embeds=embedded[None]).last_hidden_state[:, 0]
            expected = gelu(first @ state["text.proj.0.weight"].T) @ state["text.proj.2.weight"].T
            torch.testing.assert_close(tower.encode(context, names)[row : row + 1], expected, atol=1e-5, rtol=1e-5)


def test_texts_are_trimmed_to_the_longest(miniature: Path, tmp_path: Path) -> None:
    encoder = of_hugging_face(miniature, tmp_path)
    lengths: list[int] = []
    encoder.model.text.transformer.register_forward_pre_hook(
        lambda _module, _args, kwargs: lengths.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    encoder.prompt_tower().encode(torch.zeros(2, 4, 32), ["heart", "pleural effusion"])
    assert lengths == [1 + 4 + 2 + 1]


def test_a_name_that_does_not_fit_is_named(encoder: OpenClipEncoder) -> None:
    tower = encoder.prompt_tower()
    with pytest.raises(
        ModelError, match=r"60 context vectors and 'heart' do not fit into the \d+ tokens .*learn fewer"
    ):
        tower.encode(torch.zeros(1, 60, tower.width), ["heart"])
    with torch.no_grad():
        assert tower.encode(torch.zeros(1, 12, tower.width), ["heart"]).isfinite().all()


def test_a_tower_without_word_embeddings_is_refused() -> None:
    class Strange(torch.nn.Module):
        text: Any = torch.nn.Linear(2, 2)

    with pytest.raises(ModelError, match=r"text tower of odd is a Linear without a table of word embeddings"):
        LearnedContext(Strange(), SimpleTokenizer(context_length=8), None, "odd")
