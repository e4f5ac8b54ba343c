"""An open_clip text tower that reads learned context: vectors in the place of words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from radlens.core.errors import ModelError
from radlens.models.tokenizer import Tokenizer, trim_padding

# any word of one token will do: its embedding is replaced
_PLACE_HOLDER = "a"
_CHUNK = 4096


class LearnedContext:
    """`PromptTower` of an open_clip model (`CLIP`, or `CustomTextCLIP` with either of its text towers).

    Place-holder words stand where the context goes, and what the table of word embeddings gives for them is replaced
    on its way into the tower. So positions, masks, pooling and projection are the tower's own, and a context that
    equals the embeddings of words gives what the sentence with these words gives.

    pad: id of the padding token where the tower masks padding (then texts are trimmed to the longest), else None.
    """

    def __init__(self, model: nn.Module, tokenizer: Tokenizer, pad: int | None, name: str) -> None:
        self._model = cast(Any, model)
        self._tokenizer = tokenizer
        self._pad = pad
        self._name = name
        self._table = _word_table(self._model, name)
        self.width = self._table.weight.shape[1]
        first, second = (self._ids([text])[0].tolist() for text in ("a", "x"))
        # tokens before the first word, and id of what fills a row up
        self._start = next(i for i, (a, b) in enumerate(zip(first, second, strict=True)) if a != b)
        self._filler = first[-1]

    def words(self, text: str) -> Tensor:
        """The word embeddings of a text's tokens, (M, W). A text without a token raises `ModelError`."""
        # the end of a row is what follows the words of every text
        empty, ids = self._used(self._ids([""])[0]), self._used(self._ids([text])[0])
        inner = ids[self._start : len(ids) - (len(empty) - self._start)]
        if not len(inner):
            raise ModelError(f"the tokenizer of {self._name} finds no word in {text!r}; give at least one.")
        return self._table.weight[inner].detach().clone()

    def nearest(self, vectors: Tensor, count: int) -> list[list[tuple[str, float]]]:
        """For each of (M, W) vectors the `count` tokens of greatest cosine, with it, best first."""
        inner = cast(Any, getattr(self._tokenizer, "tokenizer", self._tokenizer))
        # a table may have rows beyond the tokenizer's words
        size = inner.vocab_size if not hasattr(inner, "__len__") else len(inner)
        table = self._table.weight[:size]
        unit = normalize(vectors.to(table), dim=-1)
        cosines = torch.cat([normalize(part, dim=-1) @ unit.T for part in torch.split(table, _CHUNK)]).T
        best = cosines.topk(min(count, size), dim=1)
        return [
            [(inner.decode([token]).strip(), cosine) for token, cosine in zip(tokens, values, strict=True)]
            for tokens, values in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]

    def encode(self, context: Tensor, names: Sequence[str]) -> Tensor:
        """Context (T, M, W) followed by the names' words -> (T, D), un-normalised, differentiable in the context.

        A name that does not fit behind the context raises `ModelError`.
        """
        vectors = context.shape[1]
        ids = self._ids([" ".join([_PLACE_HOLDER] * vectors + [name]) for name in names])
        full = [name for name, row in zip(names, ids, strict=True) if row[-1] != self._filler]
        if full:
            raise ModelError(
                f"{vectors} context vectors and {full[0]!r} do not fit into the {ids.shape[1]} tokens that the text "
                f"tower of {self._name} reads; learn fewer."
            )
        if self._pad is not None:
            ids = trim_padding(ids, self._pad)
        with _replaced(self._table, self._start, context):
            return cast(Tensor, self._model.encode_text(ids.to(self._table.weight.device)))

    def _ids(self, texts: Sequence[str]) -> Tensor:
        return self._tokenizer(list(texts))

    def _used(self, ids: Tensor) -> list[int]:
        """A row without what fills it up."""
        row: list[int] = ids.tolist()
        while row and row[-1] == self._filler:
            row.pop()
        return row


def _word_table(model: Any, name: str) -> nn.Embedding:
    text = getattr(model, "text", model)
    table = getattr(text, "token_embedding", None)
    if table is None and hasattr(text, "transformer"):
        asked: Callable[[], Any] = getattr(text.transformer, "get_input_embeddings", lambda: None)
        table = asked()
    if not isinstance(table, nn.Embedding):
        raise ModelError(
            f"the text tower of {name} is a {type(text).__name__} without a table of word embeddings, so that no "
            "context can be learned for it; leave out the setting coop."
        )
    return table


@contextmanager
def _replaced(table: nn.Embedding, start: int, context: Tensor) -> Iterator[None]:
    """Inside, the table gives (T, M, W) `context` for the M tokens from `start` on."""

    def replace(_module: nn.Module, _inputs: Any, words: Tensor) -> Tensor:
        return torch.cat([words[:, :start], context.to(words), words[:, start + context.shape[1] :]], dim=1)

    handle = table.register_forward_hook(replace)
    try:
        yield
    finally:
        handle.remove()
