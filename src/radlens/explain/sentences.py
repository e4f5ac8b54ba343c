"""Any sentence as a label: what a user types, turned into a classifier that every saliency method can explain."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from radlens.core.classifier import Classifier, Encoder, Head
from radlens.core.errors import ExplainError
from radlens.core.vocabulary import Label, Vocabulary


def sentence_classifier(encoder: Encoder, sentences: Sequence[str | tuple[str, str]]) -> Classifier:
    """A zero-shot classifier with one label a sentence, or a pair (sentence, sentence against it).

    Its logit is logit scale x (cosine to the sentence - cosine to the one against it), without the second term for a
    sentence alone; the label's name is the sentence. The text tower is the encoder's, so an encoder that was
    fine-tuned is asked in the words of the model it comes from.
    Raises `ExplainError` for no sentence, an empty or repeated one, an embedding that is zero or not finite, or an
    encoder cut before its projection, whose features no sentence can be compared with.
    """
    pairs = [_pair(one) for one in sentences]
    if not pairs:
        raise ExplainError("no sentence to explain; give at least one, such as 'an enlarged heart'.")
    if any(text == "" for pair in pairs for text in pair):
        raise ExplainError(
            "a sentence to explain is empty; write what the image may show, such as 'an enlarged heart'."
        )
    names = [said for said, _ in pairs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ExplainError(f"the sentence {twice!r} is given twice; give each once.")
    texts = list(dict.fromkeys(text for pair in pairs for text in pair if text is not None))
    rows = dict(zip(texts, _unit(encoder, texts), strict=True))
    weight = torch.stack([rows[said] - (0 if against is None else rows[against]) for said, against in pairs])
    labels = tuple(Label(said, None, (said,), () if against is None else (against,)) for said, against in pairs)
    head = Head(weight, torch.zeros(len(pairs)), normalise=True, scale=encoder.logit_scale)
    card = {"sentences": [list(pair) for pair in pairs]}
    return Classifier("sentences", head, Vocabulary("sentences", labels), encoder, card=card)


def _pair(one: str | tuple[str, str]) -> tuple[str, str | None]:
    return (one.strip(), None) if isinstance(one, str) else (one[0].strip(), one[1].strip())


def _unit(encoder: Encoder, texts: list[str]) -> Tensor:
    """(T, D) of unit length, on the CPU."""
    with torch.no_grad():
        embeddings = encoder.encode_texts(texts).float().cpu()
    if embeddings.shape[1] != encoder.dimension:
        raise ExplainError(
            f"{encoder.name} is read before its projection ({encoder.dimension} features), where no sentence "
            f"({embeddings.shape[1]} features) can be compared with it; use a setting that reads the projection."
        )
    lengths = embeddings.norm(dim=1)
    for text, length in zip(texts, lengths.tolist(), strict=True):
        if not 0 < length < float("inf"):
            raise ExplainError(f"the text embedding of {text!r} has length {length:g}; say it in other words.")
    return normalize(embeddings, dim=1)
