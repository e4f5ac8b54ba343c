"""Every kind of head: its formula written out, its way to disk and back, and files that are not of one head."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from radlens.core import heads
from radlens.core.classifier import Classifier, load_classifier
from radlens.core.errors import ModelError
from radlens.core.heads import CacheHead, Head, PerceptronHead, ResidualHead, make_head
from radlens.core.vocabulary import Label, Vocabulary

D, L, H, M = 6, 3, 4, 9
VOCABULARY = Vocabulary("three", tuple(Label(name, None, (name,), (f"no {name}",)) for name in "abc"))


def drawn(seed: int) -> Callable[..., Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return lambda *shape: torch.randn(*shape, generator=generator)


def unit(x: Tensor) -> Tensor:
    return x / x.norm(dim=-1, keepdim=True)


def made(kind: str, seed: int = 0) -> Head:
    draw = drawn(seed)
    weight, bias = draw(L, D), draw(L)
    if kind == "linear":
        return Head(weight, bias, normalise=True, scale=7.5)
    if kind == "perceptron":
        return PerceptronHead(draw(L, H), bias, draw(H, D), draw(H))
    if kind == "residual":
        return ResidualHead(weight, bias, draw(H, D), draw(D, H), ratio=0.3, scale=7.5)
    return CacheHead(weight, bias, unit(draw(M, D)), draw(M, L), alpha=1.5, beta=5.5, scale=7.5)


KINDS = ("linear", "perceptron", "residual", "cache")


def slow(head: Head, x: list[float], label: int) -> float:
    """One logit, number by number."""

    def dot(a: Any, b: Any) -> float:
        return sum(float(p) * float(q) for p, q in zip(a, b, strict=True))

    def of_length_one(v: list[float]) -> list[float]:
        length = math.sqrt(dot(v, v))
        return [value / length for value in v]

    bias = float(head.bias[label])
    if isinstance(head, PerceptronHead):
        inner = [dot(row, x) + float(b) for row, b in zip(head.hidden_weight, head.hidden_bias, strict=True)]
        return dot(head.weight[label], [v * (1 + math.erf(v / math.sqrt(2))) / 2 for v in inner]) + bias
    x = of_length_one(x)
    if isinstance(head, ResidualHead):
        inner = [max(0.0, dot(row, x)) for row in head.down]
        outer = [max(0.0, dot(row, inner)) for row in head.up]
        x = of_length_one([head.ratio * a + (1 - head.ratio) * b for a, b in zip(outer, x, strict=True)])
    logit = head.scale * dot(head.weight[label], x) + bias
    if isinstance(head, CacheHead):
        for key, value in zip(head.keys, head.values, strict=True):
            logit += head.alpha * math.exp(-head.beta * (1 - dot(key, x))) * float(value[label])
    return logit


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), rows=st.integers(0, 3))
def test_logits_are_the_formula_s(kind: str, seed: int, rows: int) -> None:
    head = made(kind, seed)
    x = drawn(seed + 1)(rows, D) * 20
    logits = head(x)
    assert logits.shape == (rows, L)
    assert (head.dimension, head.labels) == (D, L)
    for row in range(rows):
        expected = [slow(head, x[row].tolist(), label) for label in range(L)]
        np.testing.assert_allclose(logits[row].numpy(), expected, rtol=1e-3, atol=1e-3)


def test_a_cache_in_parts_is_the_cache_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    head, x = made("cache"), drawn(5)(20, D)
    whole = head(x)
    monkeypatch.setattr(heads, "_AFFINITIES", 3 * M)
    torch.testing.assert_close(head(x), whole, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_heads_are_frozen_and_differentiable_from_the_embedding(kind: str) -> None:
    head = made(kind)
    assert not list(head.parameters())
    x = drawn(2)(2, D).requires_grad_()
    head(x).sum().backward()
    assert x.grad is not None and x.grad.abs().sum() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_read_back_the_same(kind: str, tmp_path: Path) -> None:
    saved = Classifier("ours", made(kind), VOCABULARY, card={"encoder": {"fingerprint": "f"}})
    saved.save(tmp_path)
    back = load_classifier(tmp_path)
    assert type(back.head) is type(saved.head)
    assert back.head.options() == saved.head.options()
    x = np.random.default_rng(0).normal(size=(5, D)).astype(np.float32)
    np.testing.assert_array_equal(back.probabilities(x), saved.probabilities(x))


def _tensors(change: Callable[[dict[str, Tensor]], Any]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        tensors = load_file(folder / "head.safetensors")
        change(tensors)
        save_file(tensors, folder / "head.safetensors")

    return apply


def _head(**changes: Any) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        card = json.loads((folder / "card.json").read_text())
        card["head"] = {k: v for k, v in (card["head"] | changes).items() if v is not ...}
        (folder / "card.json").write_text(json.dumps(card))

    return apply


ANY: dict[str, Callable[[Path], None]] = {
    "no weight": _tensors(lambda t: t.pop("weight")),
    "a tensor too many": _tensors(lambda t: t.update(stray=torch.ones(2))),
    "a bias of other labels": _tensors(lambda t: t.update(bias=torch.ones(L + 1))),
    "a single bias": _tensors(lambda t: t.update(bias=torch.ones(1))),
    "a bias without axis": _tensors(lambda t: t.update(bias=torch.tensor(1.0))),
    "a flat weight": _tensors(lambda t: t.update(weight=torch.ones(D))),
    "an empty weight": _tensors(lambda t: t.update(weight=torch.ones(L, 0))),
    "whole numbers": _tensors(lambda t: t.update(weight=torch.ones(L, D, dtype=torch.int64))),
    "unknown kind": _head(kind="forest"),
    "no kind": _head(kind=...),
    "an unknown option": _head(depth=3),
}
OF_KIND: dict[str, dict[str, Callable[[Path], None]]] = {
    "linear": {"a scale in words": _head(scale="much"), "no normalise": _head(normalise=...)},
    "perceptron": {
        "another hidden width": _tensors(lambda t: t.update(hidden_weight=torch.ones(H + 1, D))),
        "a hidden bias": _tensors(lambda t: t.update(hidden_bias=torch.ones(H + 2))),
        "a hidden weight without axis": _tensors(lambda t: t.update(hidden_weight=torch.tensor(1.0))),
    },
    "residual": {
        "another bottleneck": _tensors(lambda t: t.update(down=torch.ones(H + 1, D))),
        "another width": _tensors(lambda t: t.update(up=torch.ones(D + 1, H))),
        "no ratio": _head(ratio=...),
        "a ratio in words": _head(ratio="half"),
    },
    "cache": {
        "keys of another width": _tensors(lambda t: t.update(keys=torch.ones(M, D + 1))),
        "values of other images": _tensors(lambda t: t.update(values=torch.ones(M + 1, L))),
        "values of other labels": _tensors(lambda t: t.update(values=torch.ones(M, L + 1))),
        "no beta": _head(beta=...),
    },
}
DAMAGED = [(kind, what) for kind in KINDS for what in (*ANY, *OF_KIND[kind])]


@pytest.mark.parametrize(("kind", "what"), DAMAGED)
def test_damaged_files_are_one_sentence_that_names_the_folder(kind: str, what: str, tmp_path: Path) -> None:
    Classifier("ours", made(kind), VOCABULARY).save(tmp_path)
    load_classifier(tmp_path)
    (ANY | OF_KIND[kind])[what](tmp_path)
    with pytest.raises(ModelError, match="is not a classifier folder") as caught:
        load_classifier(tmp_path)
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


def test_an_unknown_kind_lists_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"'forest'; known: cache, linear, perceptron, residual"):
        make_head("forest", {}, {})
