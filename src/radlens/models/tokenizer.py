"""Sentences to token ids, with a tokenizer that is known to fit its text tower."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast

import torch
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer
from torch import Tensor

from radlens.core.errors import ModelError
from radlens.models.folder import ModelFiles

FILLER = 0
"""Id that fills rows of a CLIP of transformers up; its text tower never looks behind the end of a sentence."""
_WORDS = "the heart and lung of a chest x-ray is normal with no pleural effusion"


class Tokenizer(Protocol):
    """T sentences -> int64 (T, length), padded; longer sentences are cut."""

    def __call__(self, texts: Sequence[str]) -> Tensor: ...


def load_tokenizer(files: ModelFiles, text: Mapping[str, Any], vocabulary_size: int) -> Tokenizer:
    """The tokenizer of a model's folder (open_clip's own for CLIP's own text tower), checked.

    vocabulary_size: rows of the text tower's embedding. Raises `ModelError` when the files cannot be read, when plain
    English and radiology words all come out as unknown, or when a token has no row in the embedding.
    """
    length = int(text.get("context_length") or 77)
    options = dict(text.get("tokenizer_kwargs") or {})
    if not files.tokenizer:
        return cast(Tokenizer, SimpleTokenizer(context_length=length, **options))
    # code beside the files is never run, whatever the configuration says
    options["trust_remote_code"] = False
    try:
        tokenizer = HFTokenizer(
            str(files.folder), length, tokenizer_mode=text.get("tokenizer_mode"), local_files_only=True, **options
        )
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise ModelError(f"the tokenizer in {files.folder} cannot be read: {reason}.") from error
    _check(tokenizer, files, vocabulary_size)
    return cast(Tokenizer, tokenizer)


class ClipTokenizer:
    """A tokenizer of transformers for a causal text tower, whose rows are filled up with `FILLER`.

    CLIP's own files fill up with the end token, so that the end of a sentence could not be told from its padding.
    """

    def __init__(self, tokenizer: Any, length: int) -> None:
        self.tokenizer = tokenizer
        self.length = length

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """T sentences -> int64 (T, length); longer sentences are cut before their end token."""
        found = self.tokenizer(list(texts), truncation=True, max_length=self.length)["input_ids"]
        ids = torch.full((len(found), self.length), FILLER)
        for row, one in enumerate(found):
            ids[row, : len(one)] = torch.tensor(one)
        return ids


def load_clip_tokenizer(files: ModelFiles, text: Any) -> ClipTokenizer:
    """The tokenizer in a CLIP folder of transformers, checked as `load_tokenizer` does; text: its CLIPTextConfig.

    Raises `ModelError` also where the text tower would not find the end of its sentences.
    """
    from transformers import AutoTokenizer

    try:
        inner = AutoTokenizer.from_pretrained(str(files.folder), local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise ModelError(f"the tokenizer in {files.folder} cannot be read: {reason}.") from error
    tokenizer = ClipTokenizer(inner, int(text.max_position_embeddings))
    _check(tokenizer, files, int(text.vocab_size))
    ids: list[int] = inner([_WORDS], truncation=True, max_length=tokenizer.length)["input_ids"][0]
    # configurations before August 2023 say 2, and then the highest id is the end
    end = max(ids) if text.eos_token_id == 2 else text.eos_token_id
    if end == FILLER or end not in ids or ids.index(end) != len(ids) - 1:
        raise ModelError(
            f"the tokenizer in {files.folder} ends a sentence with token {ids[-1]}, but its text tower looks for "
            f"{end}; they do not belong together, fetch the model's own tokenizer files."
        )
    return tokenizer


def _check(tokenizer: Any, files: ModelFiles, vocabulary_size: int) -> None:
    inner = tokenizer.tokenizer
    ids = tokenizer([_WORDS])[0].tolist()
    special = {inner.pad_token_id, inner.cls_token_id, inner.sep_token_id, inner.bos_token_id, inner.eos_token_id}
    words = [i for i in ids if i not in special - {inner.unk_token_id}]
    if not words or all(i == inner.unk_token_id for i in words):
        raise ModelError(
            f"the tokenizer in {files.folder} knows none of the words {_WORDS!r}; it is not the one that the text "
            "tower was trained with, fetch the model's own tokenizer files."
        )
    if len(inner) > vocabulary_size:
        raise ModelError(
            f"the tokenizer in {files.folder} has {len(inner)} tokens but the text tower has only {vocabulary_size}; "
            "they do not belong together, fetch the model's own tokenizer files."
        )


def trim_padding(ids: Tensor, pad: int) -> Tensor:
    """(T, length) -> (T, length of the longest sentence). Exact where the tower masks padding."""
    used = torch.nonzero((ids != pad).any(dim=0))
    return ids[:, : int(used.max()) + 1] if len(used) else ids[:, :1]
