"""From a vocabulary's prompts to one direction a label: what zero-shot scores by, and others start from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from radlens.core.errors import ModelError
from radlens.core.parts import Floats
from radlens.core.vocabulary import Vocabulary

Prompts = Mapping[str, Mapping[str, list[str]]]
"""Label -> side (`positive`, `negative`) -> sentences."""


def prompt_pairs(vocabulary: Vocabulary) -> dict[str, dict[str, list[str]]]:
    """The sentences for and against each label."""
    return {x.name: {"positive": list(x.positive), "negative": list(x.negative)} for x in vocabulary.labels}


def prompt_weights(prompts: Prompts, encode_texts: Callable[[Sequence[str]], Floats]) -> Floats:
    """(L, D) float32: mean positive - mean negative unit text embedding; the mean positive where there is no negative.

    Each sentence is embedded once. An embedding that is zero or not finite raises `ModelError`.
    """
    sentences = list(dict.fromkeys(text for sides in prompts.values() for side in sides.values() for text in side))
    embedded = dict(zip(sentences, _unit(encode_texts(sentences), sentences), strict=True))
    rows = []
    for sides in prompts.values():
        means = [np.mean([embedded[text] for text in side], axis=0) for side in sides.values()]
        rows.append(means[0] - means[1] if len(means) == 2 else means[0])
    return np.stack(rows).astype(np.float32)


def _unit(embeddings: Floats, sentences: list[str]) -> npt.NDArray[np.float64]:
    """(T, D) rows of length one, in float64 so that means of many prompts lose nothing."""
    exact = embeddings.astype(np.float64)
    lengths = np.linalg.norm(exact, axis=1)
    wrong = np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))
    if len(wrong):
        raise ModelError(
            f"expected a finite, non-zero text embedding of the prompt {sentences[int(wrong[0])]!r}, found one of "
            f"length {lengths[wrong[0]]:g}; check the model's weights and tokenizer."
        )
    return np.asarray(exact / lengths[:, None], dtype=np.float64)
