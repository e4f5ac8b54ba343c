"""What lies in a model folder of the released Hugging Face layout. No torch here."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from radlens.core.errors import ModelError

CONFIGS = ("open_clip_config.json", "open_clip_model_config.json")
WEIGHTS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
)
TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model")
TOKENIZER_EXTRAS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "merges.txt")
TEXT_CONFIG = "text_config.json"
"""A Hugging Face configuration of the text tower: read from the model's folder when it lies there."""

LAYOUT = (
    f"a model folder holds {CONFIGS[0]}, weights ({WEIGHTS[0]} or {WEIGHTS[2]}) and the tokenizer's files "
    "(tokenizer.json or vocab.txt)"
)


@dataclass(frozen=True)
class ModelFiles:
    """The files of one model. tokenizer: empty where the text tower is CLIP's own, whose tokenizer is open_clip's."""

    folder: Path
    config: Path
    weights: Path
    tokenizer: tuple[Path, ...]
    text_config: Path | None

    def __iter__(self) -> Iterator[Path]:
        yield self.config
        yield self.weights
        yield from self.tokenizer
        if self.text_config is not None:
            yield self.text_config


def find_files(folder: Path) -> ModelFiles:
    """The files of a model folder; a missing folder or file raises `ModelError` naming what is expected."""
    if not folder.is_dir():
        raise ModelError(f"model folder {folder} does not exist; {LAYOUT}.")
    config = _first(folder, CONFIGS, "configuration")
    weights = _first(folder, WEIGHTS, "weights")
    text = read_config(config)["model_cfg"]["text_cfg"]
    tokenizer: tuple[Path, ...] = ()
    if text.get("hf_model_name") or text.get("hf_tokenizer_name"):
        _first(folder, TOKENIZERS, "tokenizer")
        tokenizer = tuple(folder / name for name in (*TOKENIZERS, *TOKENIZER_EXTRAS) if (folder / name).is_file())
    text_config = folder / TEXT_CONFIG
    return ModelFiles(folder, config, weights, tokenizer, text_config if text_config.is_file() else None)


def read_config(path: Path) -> dict[str, Any]:
    """An open_clip configuration with `model_cfg` (its `vision_cfg` and `text_cfg`) and `preprocess_cfg`.

    A file that is no such configuration raises `ModelError`.
    """
    config = read_json(path)
    model = config.get("model_cfg")
    if not isinstance(model, dict):
        raise ModelError(f"{path} has no model_cfg; expected an open_clip configuration.")
    for key in ("vision_cfg", "text_cfg"):
        if not isinstance(model.get(key), dict):
            raise ModelError(f"{path} has no model_cfg.{key}; expected an open_clip configuration.")
    if not isinstance(model.get("embed_dim"), int):
        raise ModelError(f"{path}: model_cfg.embed_dim must be a whole number, found {model.get('embed_dim')!r}.")
    config.setdefault("preprocess_cfg", {})
    return config


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; anything else raises `ModelError`."""
    try:
        value = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}.") from error
    except ValueError as error:
        raise ModelError(f"{path} is not valid JSON: {error}.") from error
    if not isinstance(value, Mapping):
        raise ModelError(f"{path} must hold a JSON object, found {type(value).__name__}.")
    return dict(value)


def _first(folder: Path, names: tuple[str, ...], what: str) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise ModelError(f"model folder {folder} lacks its {what} (looked for {', '.join(names)}); {LAYOUT}.")
