"""What a setting that learns the words of a prompt needs of a text tower."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor


class PromptTower(Protocol):
    """A frozen text tower that also reads word embeddings that are no words."""

    width: int
    """W, the length of a word embedding."""

    def words(self, text: str) -> Tensor:
        """The word embeddings of a text's tokens, (M, W). A text without a token raises `ModelError`."""
        ...

    def nearest(self, vectors: Tensor, count: int) -> list[list[tuple[str, float]]]:
        """For each of (M, W) vectors the `count` tokens of greatest cosine, with it, best first."""
        ...

    def encode(self, context: Tensor, names: Sequence[str]) -> Tensor:
        """Context (T, M, W) followed by the names' words -> (T, D), un-normalised, differentiable in the context.

        A name that does not fit behind the context raises `ModelError`.
        """
        ...


@runtime_checkable
class LearnsPrompts(Protocol):
    """An encoder whose text tower takes learned context."""

    def prompt_tower(self) -> PromptTower:
        """The tower, frozen and shared. One without a table of word embeddings raises `ModelError`."""
        ...
