"""Any sentence as a label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from radlens.core.classifier import Encoder
from radlens.core.errors import ExplainError
from radlens.explain.maps import saliency_maps
from radlens.explain.sentences import sentence_classifier


def with_texts(encoder: Any, width: int = 16) -> Encoder:
    def encode_texts(texts: Sequence[str]) -> Tensor:
        rows = [torch.randn(width, generator=torch.Generator().manual_seed(len(text))) for text in texts]
        return torch.stack(rows) * torch.tensor([0.0 if text == "nothing" else 3.0 for text in texts])[:, None]

    encoder.encode_texts = encode_texts
    return encoder  # type: ignore[no-any-return]


def test_logits_are_scaled_cosines_and_can_be_explained(encoder: Any, pixels: Tensor) -> None:
    told = with_texts(encoder)
    classifier = sentence_classifier(told, ["fluid in the left lung", (" a large heart ", "a heart of normal size")])
    assert classifier.vocabulary.names == ("fluid in the left lung", "a large heart")
    image = encoder.encode_images(pixels)
    fluid, large, normal = (
        torch.cosine_similarity(image, encoder.encode_texts([text]))
        for text in ("fluid in the left lung", "a large heart", "a heart of normal size")
    )
    expected = 20 * torch.stack([fluid, large - normal], dim=1)
    torch.testing.assert_close(classifier.logits(pixels), expected, rtol=1e-4, atol=1e-4)
    maps = saliency_maps(classifier, [pixels], ("a", "b", "c"), ("grad-cam", "legrad"), (-1,))
    assert maps.labels == classifier.vocabulary.names and maps.maps[:, 0].any() and maps.maps[:, 1].any()


@pytest.mark.parametrize(
    ("sentences", "why"),
    [
        ([], "no sentence to explain"),
        (["  "], "is empty"),
        ([("a heart", "")], "is empty"),
        (["a heart", " a heart"], "'a heart' is given twice"),
        (["nothing"], "'nothing' has length 0"),
    ],
)
def test_refusals(sentences: list[str], why: str, encoder: Any) -> None:
    with pytest.raises(ExplainError, match=why):
        sentence_classifier(with_texts(encoder), sentences)


def test_features_before_the_projection_are_refused(encoder: Any) -> None:
    with pytest.raises(ExplainError, match=r"before its projection \(16 features\).*\(8 features\)"):
        sentence_classifier(with_texts(encoder, width=8), ["a heart"])
