"""What lies in a model folder of one of the layouts that models are released in. No torch here."""

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

OPEN_CLIP, TRANSFORMERS = "open-clip", "transformers-clip"
"""Names of the loaders, by the layout that each reads."""
TRANSFORMERS_CONFIG = "config.json"
TRANSFORMERS_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
PREPROCESSORS = ("preprocessor_config.json", "processor_config.json")
"""How images are prepared: on its own, or (later releases) inside the file of the whole processor."""

LAYOUT = (
    f"a model folder holds {CONFIGS[0]}, weights ({WEIGHTS[0]} or {WEIGHTS[2]}) and the tokenizer's files "
    f"(tokenizer.json or vocab.txt), or a CLIP of transformers: {TRANSFORMERS_CONFIG}, "
    f"{' or '.join(TRANSFORMERS_WEIGHTS)}, the tokenizer's files and {PREPROCESSORS[0]}"
)


@dataclass(frozen=True)
class ModelFiles:
    """The files of one model. tokenizer: empty where the text tower is CLIP's own, whose tokenizer is open_clip's.

    loader: which loader reads them. preprocessor: the file on the preparation of images, where it is one of its own.
    """

    loader: str
    folder: Path
    config: Path
    weights: Path
    tokenizer: tuple[Path, ...]
    text_config: Path | None = None
    preprocessor: Path | None = None

    def __iter__(self) -> Iterator[Path]:
        yield self.config
        yield self.weights
        yield from self.tokenizer
        yield from (path for path in (self.text_config, self.preprocessor) if path is not None)


def find_files(folder: Path, loader: str | None = None) -> ModelFiles:
    """The files of a model folder; a missing folder or file raises `ModelError` naming what is expected.

    loader: whose layout to look for; None for the one that lies there, open_clip's where both do.
    """
    if not folder.is_dir():
        raise ModelError(f"model folder {folder} does not exist; {LAYOUT}.")
    return _of_transformers(folder) if (loader or _loader(folder)) == TRANSFORMERS else _of_open_clip(folder)


def _loader(folder: Path) -> str:
    def holds(names: tuple[str, ...]) -> bool:
        return any((folder / name).is_file() for name in names)

    if not holds((TRANSFORMERS_CONFIG,)):
        return OPEN_CLIP
    whole = holds(WEIGHTS) or not holds(TRANSFORMERS_WEIGHTS)
    return OPEN_CLIP if holds(CONFIGS) and whole else TRANSFORMERS


def _of_transformers(folder: Path) -> ModelFiles:
    config = _first(folder, (TRANSFORMERS_CONFIG,), "configuration")
    kind = read_json(config).get("model_type")
    if kind != "clip":
        raise ModelError(
            f"{config} describes a model of type {kind!r}, which cannot be loaded; expected type 'clip' (an image "
            "and a text tower), or a folder in open_clip's layout."
        )
    if (folder / f"{TRANSFORMERS_WEIGHTS[0]}.index.json").is_file():
        raise ModelError(f"the weights in {folder} are split over several files; save them as one model.safetensors.")
    weights = _first(folder, TRANSFORMERS_WEIGHTS, "weights")
    _first(folder, TOKENIZERS, "tokenizer")
    preprocessor = _first(folder, PREPROCESSORS, "preparation of images")
    return ModelFiles(TRANSFORMERS, folder, config, weights, _tokenizer(folder), preprocessor=preprocessor)


def _of_open_clip(folder: Path) -> ModelFiles:
    config = _first(folder, CONFIGS, "configuration")
    weights = _first(folder, WEIGHTS, "weights")
    text = read_config(config)["model_cfg"]["text_cfg"]
    tokenizer: tuple[Path, ...] = ()
    if text.get("hf_model_name") or text.get("hf_tokenizer_name"):
        _first(folder, TOKENIZERS, "tokenizer")
        tokenizer = _tokenizer(folder)
    text_config = folder / TEXT_CONFIG
    return ModelFiles(OPEN_CLIP, folder, config, weights, tokenizer, text_config if text_config.is_file() else None)


def _tokenizer(folder: Path) -> tuple[Path, ...]:
    return tuple(folder / name for name in (*TOKENIZERS, *TOKENIZER_EXTRAS) if (folder / name).is_file())


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
