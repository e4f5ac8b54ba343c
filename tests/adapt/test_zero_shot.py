"""Zero-shot heads against cosines computed by hand, and the trap of the paper's rule."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from radlens.adapt.zero_shot import ZeroShot
from radlens.core.errors import ModelError
from radlens.core.parts import AdaptationTask
from radlens.core.vocabulary import Vocabulary, load_vocabulary

D = 16


def embed(sentence: str) -> npt.NDArray[np.float32]:
    """A vector that the sentence alone decides, of a length other than one."""
    generator = np.random.default_rng(zlib.crc32(sentence.encode()))
    return (generator.normal(size=D) * generator.uniform(1, 20)).astype(np.float32)


def encode(texts: Sequence[str]) -> npt.NDArray[np.float32]:
    return np.stack([embed(text) for text in texts])


def task(vocabulary: Vocabulary, **more: Any) -> AdaptationTask:
    fields: dict[str, Any] = {
        "vocabulary": vocabulary,
        "embeddings": {},
        "targets": {},
        "encode_texts": encode,
        "logit_scale": 85.23,
        "seed": 0,
        "progress": lambda done, total: None,
    }
    return AdaptationTask(**fields | more)


def cosine(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> float:
    return float(a.astype(float) @ b.astype(float) / np.linalg.norm(a.astype(float)) / np.linalg.norm(b.astype(float)))


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return load_vocabulary("chexpert-14")


IMAGES = (np.random.default_rng(3).normal(size=(5, D)) * 7).astype(np.float32)


def test_pair_scores_by_the_difference_of_mean_cosines(vocabulary: Vocabulary) -> None:
    made = ZeroShot().fit(task(vocabulary))
    logits = made.head(torch.from_numpy(IMAGES)).numpy()
    for column, label in enumerate(vocabulary.labels):
        for row, image in enumerate(IMAGES):
            positive = np.mean([cosine(image, embed(text)) for text in label.positive])
            negative = np.mean([cosine(image, embed(text)) for text in label.negative])
            assert logits[row, column] == pytest.approx(85.23 * (positive - negative), abs=1e-4)
    assert made.thresholds is None


def test_paper_rule_is_the_sigmoid_of_the_cosine_to_the_name(vocabulary: Vocabulary) -> None:
    made = ZeroShot(rule="paper").fit(task(vocabulary))
    expected = [[1 / (1 + np.exp(-cosine(image, embed(name)))) for name in vocabulary.names] for image in IMAGES]
    probabilities = made.probabilities(IMAGES)
    np.testing.assert_allclose(probabilities, expected, atol=1e-6)
    assert made.thresholds is not None
    np.testing.assert_array_equal(made.thresholds, np.full(14, 0.5))
    # a decision is the cosine's sign: what makes the rule say yes to nearly everything on a real model
    positive = np.array([[cosine(image, embed(name)) > 0 for name in vocabulary.names] for image in IMAGES])
    np.testing.assert_array_equal(probabilities > made.thresholds, positive)


def test_the_card_names_rule_and_prompts(vocabulary: Vocabulary) -> None:
    pair, paper = (ZeroShot(rule=rule).fit(task(vocabulary)).card for rule in ("pair", "paper"))
    for card, rule in ((pair, "pair"), (paper, "paper")):
        assert card["options"] == {"rule": rule}
        assert (card["train_seconds"], card["trainable_parameters"]) == (0.0, 0)
    assert pair["prompts"]["Edema"]["negative"] == list(vocabulary.labels[5].negative)
    assert paper["prompts"]["Edema"] == {"positive": ["Edema"]}


def test_each_sentence_is_embedded_once(vocabulary: Vocabulary) -> None:
    asked: list[str] = []

    def counting(texts: Sequence[str]) -> npt.NDArray[np.float32]:
        asked.extend(texts)
        return encode(texts)

    ZeroShot().fit(task(vocabulary, encode_texts=counting))
    assert len(asked) == len(set(asked)) == len({t for x in vocabulary.labels for t in x.positive + x.negative})


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_a_broken_text_embedding_is_refused(vocabulary: Vocabulary, value: float) -> None:
    def broken(texts: Sequence[str]) -> npt.NDArray[np.float32]:
        rows = encode(texts)
        rows[2] = value
        return rows

    with pytest.raises(ModelError, match=vocabulary.labels[0].positive[2]):
        ZeroShot().fit(task(vocabulary, encode_texts=broken))
