"""Heads by hand, and a classifier's way to disk and back."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from radlens.core.classifier import Classifier, Head, load_classifier
from radlens.core.errors import ModelError, RadlensError
from radlens.core.vocabulary import Label, Vocabulary

VOCABULARY = Vocabulary("two", (Label("A", "x", ("a",), ("no a",)), Label("B", None, ("b",), ("no b",))), "B", "us")


def made(normalise: bool = True, **card: Any) -> Classifier:
    generator = torch.Generator().manual_seed(0)
    head = Head(torch.randn(2, 5, generator=generator), torch.tensor([0.5, -1]), normalise=normalise, scale=3.5)
    return Classifier("zero-shot", head, VOCABULARY, card={"encoder": {"fingerprint": "f1"}} | card)


def encoder(fingerprint: str) -> Any:
    return SimpleNamespace(fingerprint=fingerprint, encode_images=lambda pixels: pixels.mean((2, 3)) @ torch.ones(3, 5))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.booleans(), st.integers(0, 4))
def test_head_is_a_scaled_product(seed: int, normalise: bool, rows: int) -> None:
    generator = np.random.default_rng(seed)
    x, weight = (generator.normal(size=(n, 6)).astype(np.float32) for n in (rows, 3))
    bias = generator.normal(size=3).astype(np.float32)
    got = Head(torch.from_numpy(weight), torch.from_numpy(bias), normalise=normalise, scale=2.5)(torch.from_numpy(x))
    for i in range(rows):
        length = np.sqrt((x[i].astype(float) ** 2).sum()) if normalise else 1.0
        expected = [2.5 * sum(x[i] / length * weight[k]) + bias[k] for k in range(3)]
        np.testing.assert_allclose(got[i].numpy(), expected, rtol=1e-4, atol=1e-4)


def test_probabilities_keep_confident_logits_apart() -> None:
    head = Head(torch.tensor([[1.0]]), torch.zeros(1), normalise=False)
    scores = Classifier("x", head, VOCABULARY).probabilities(np.array([[20.0], [21.0], [-40.0]], np.float32))
    assert scores.dtype == np.float64
    assert scores[0, 0] < scores[1, 0] < 1
    assert 0 < scores[2, 0] < 1e-16


def test_scoring_leaves_the_head_where_it_is() -> None:
    classifier = made()
    pointer = classifier.head.weight.data_ptr()
    classifier.probabilities(np.ones((1, 5), np.float32))
    assert classifier.head.weight.data_ptr() == pointer
    moved = Classifier("x", made().head.to(torch.float64), VOCABULARY)
    assert moved.head.weight.dtype == torch.float64


def test_logits_are_differentiable_from_pixels() -> None:
    pixels = torch.rand(2, 3, 4, 4, requires_grad=True)
    classifier = Classifier("x", made().head, VOCABULARY, encoder("f1"))
    classifier.logits(pixels)[:, 0].sum().backward()  # type: ignore[no-untyped-call]
    assert pixels.grad is not None and pixels.grad.abs().sum() > 0
    with pytest.raises(ValueError, match="no encoder attached"):
        made().logits(pixels)


@pytest.mark.parametrize("thresholds", [None, np.array([0.25, 1 / 3]), np.array([0.5, np.nan])])
@pytest.mark.parametrize("normalise", [True, False])
def test_saved_and_read_back_the_same(tmp_path: Path, normalise: bool, thresholds: Any) -> None:
    saved = made(normalise, options={"rule": "pair"}, train_seconds=0.0)
    saved = Classifier(saved.setting, saved.head, saved.vocabulary, thresholds=thresholds, card=saved.card)
    saved.save(tmp_path / "new" / "zero-shot")
    back = load_classifier(tmp_path / "new" / "zero-shot", encoder("f1"))
    assert (back.setting, back.vocabulary, back.card) == (saved.setting, saved.vocabulary, saved.card)
    embeddings = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    np.testing.assert_array_equal(back.probabilities(embeddings), saved.probabilities(embeddings))
    if thresholds is None:
        assert back.thresholds is None
    else:
        np.testing.assert_array_equal(back.thresholds, thresholds)
    assert sorted(p.name for p in (tmp_path / "new" / "zero-shot").iterdir()) == ["card.json", "head.safetensors"]


def test_another_encoder_is_refused(tmp_path: Path) -> None:
    made().save(tmp_path)
    with pytest.raises(ModelError, match=r"fingerprint f1, but this one has f2; load the model it was made with"):
        load_classifier(tmp_path, encoder("f2"))
    assert load_classifier(tmp_path).encoder is None


def _rewrite(folder: Path, change: Any) -> None:
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps(change(card)))


@pytest.mark.parametrize(
    "damage",
    [
        lambda f: (f / "card.json").unlink(),
        lambda f: (f / "head.safetensors").unlink(),
        lambda f: (f / "head.safetensors").write_bytes((f / "head.safetensors").read_bytes()[:-4]),
        lambda f: (f / "head.safetensors").write_bytes(b""),
        lambda f: (f / "card.json").write_text("{"),
        lambda f: (f / "card.json").write_bytes(b"\xff\xfe"),
        lambda f: _rewrite(f, lambda card: [card]),
        lambda f: _rewrite(f, lambda card: 3),
        lambda f: _rewrite(f, lambda card: {k: v for k, v in card.items() if k != "head"}),
        lambda f: _rewrite(f, lambda card: card | {"encoder": "f1"}),
        lambda f: _rewrite(f, lambda card: card | {"vocabulary": {"name": "x", "label": []}}),
        lambda f: _rewrite(
            f, lambda card: card | {"vocabulary": card["vocabulary"] | {"label": card["vocabulary"]["label"][1:]}}
        ),
    ],
)
def test_a_damaged_folder_is_one_sentence_that_names_it(tmp_path: Path, damage: Any) -> None:
    made().save(tmp_path)
    damage(tmp_path)
    with pytest.raises(RadlensError) as caught:
        load_classifier(tmp_path, encoder("f1"))
    assert str(tmp_path) in str(caught.value)
