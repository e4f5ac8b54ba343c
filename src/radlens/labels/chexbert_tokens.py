"""Report text to the token ids of CheXbert: the word pieces of bert-base-uncased."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from tokenizers import BertWordPieceTokenizer

from radlens.core.errors import ModelError

WORDS = 30_522
LONGEST = 512
# where bert-base-uncased keeps its marks and one word; other vocabularies of the same size keep them elsewhere
_PLACES = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103, "the": 1996}
_FILES = ("vocab.txt", "tokenizer.json")
_HUB = ("google-bert/bert-base-uncased", "bert-base-uncased")
_SOURCE = "vocab.txt of https://huggingface.co/google-bert/bert-base-uncased (30,522 lines, 232 kB)"
_PLAIN = "normal heart and lungs with no pleural effusion"


class Tokenizer:
    """Texts to token ids as CheXbert's own script makes them. vocabulary: word piece -> id, checked."""

    def __init__(self, vocabulary: Mapping[str, int], path: Path) -> None:
        self.vocabulary = _checked(vocabulary, path)
        self._tokenizer = BertWordPieceTokenizer(dict(self.vocabulary), lowercase=True)
        if self.is_unknown(self._encode([_PLAIN])[0]):
            raise ModelError(
                f"the vocabulary {path} knows none of the words {_PLAIN!r}; it is not that of bert-base-uncased: fetch "
                f"{_SOURCE} and name it with `tokenizer:`."
            )

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        """[CLS], the pieces, [SEP], white space collapsed; of more than 512 tokens the first 511 and [SEP]."""
        rows = self._encode([" ".join(text.split()) for text in texts])
        end = self.vocabulary["[SEP]"]
        return [row if len(row) <= LONGEST else [*row[: LONGEST - 1], end] for row in rows]

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]

    def is_unknown(self, row: Sequence[int]) -> bool:
        """Whether token ids hold no word that the vocabulary knows."""
        unknown = self.vocabulary["[UNK]"]
        return all(token == unknown for token in row[1:-1])


def find_vocabulary(named: str | None, folder: Path) -> Path:
    """The vocabulary file: the one named (a file, or a folder that holds one), else that of the local hub cache.

    Nothing is downloaded. Raises `ModelError` saying which file is needed and from where.
    """
    if named is not None:
        path = folder / Path(named).expanduser()
        for candidate in (path, *(path / name for name in _FILES)):
            if candidate.is_file():
                return candidate
        what = f"holds neither {' nor '.join(_FILES)}" if path.is_dir() else "does not exist"
        raise ModelError(f"tokenizer {path} {what}; expected {_SOURCE}.")
    from huggingface_hub import try_to_load_from_cache

    for repository in _HUB:
        for name in _FILES:
            cached = try_to_load_from_cache(repository, name)
            if isinstance(cached, str):
                return Path(cached)
    raise ModelError(
        f"labeler 'chexbert' needs the vocabulary of bert-base-uncased, and it is not on this machine: fetch {_SOURCE} "
        "and name it with `tokenizer: PATH`."
    )


def read_tokenizer(path: Path) -> Tokenizer:
    """Read a `vocab.txt` (a word piece a line) or a `tokenizer.json`. Raises `ModelError` where it is neither."""
    try:
        text = path.read_text("utf-8")
        if path.suffix == ".json":
            vocabulary = {str(word): int(place) for word, place in json.loads(text)["model"]["vocab"].items()}
        else:
            vocabulary = {line: row for row, line in enumerate(text.removesuffix("\n").split("\n"))}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"the vocabulary {path} cannot be read; expected {_SOURCE}.") from error
    return Tokenizer(vocabulary, path)


def _checked(vocabulary: Mapping[str, int], path: Path) -> dict[str, int]:
    wrong = [f"{word!r} at {vocabulary.get(word)}, not {place}" for word, place in _PLACES.items()
             if vocabulary.get(word) != place]  # fmt: skip
    if len(vocabulary) != WORDS or wrong:
        found = f"{len(vocabulary)} word pieces, not {WORDS}" if len(vocabulary) != WORDS else wrong[0]
        raise ModelError(
            f"the vocabulary {path} is not that of bert-base-uncased, which CheXbert was trained with (found {found}); "
            f"fetch {_SOURCE} and name it with `tokenizer:`."
        )
    return dict(vocabulary)
