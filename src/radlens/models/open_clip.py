"""Models in open_clip's released layout: BiomedCLIP, and a user's own."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from open_clip.model import CLIP, CustomTextCLIP
from torch import nn

from radlens.core.device import choose_device
from radlens.core.errors import ModelError
from radlens.core.parts import Loader
from radlens.core.registry import register
from radlens.core.store import file_digest, fingerprint
from radlens.core.transform import ImageTransform
from radlens.models.encoder import OpenClipEncoder
from radlens.models.folder import OPEN_CLIP, ModelFiles, find_files, read_config, read_json
from radlens.models.tokenizer import load_tokenizer
from radlens.models.weights import WithoutInitialisation, assign_weights, read_weights

_TEXT_CONFIGS = Path(__file__).parent / "text_configs"
# text towers whose configuration we carry, so that no hub is asked for it
_CARRIED = {
    "microsoft/BiomedNLP-PubMedBERT-base-uncased-abstract": "bert-base.json",
    "microsoft/BiomedNLP-PubMedBERT-base-uncased-abstract-fulltext": "bert-base.json",
    "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract": "bert-base.json",
    "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract-fulltext": "bert-base.json",
    "bert-base-uncased": "bert-base.json",
    "google-bert/bert-base-uncased": "bert-base.json",
}
# keys of older open_clip releases
_RENAMED = {"proj": "hf_proj_type", "pooler_type": "hf_pooler_type"}


@register("loaders", "open-clip")
class OpenClip(Loader):
    """A folder with open_clip_config.json, weights (.safetensors or .bin) and tokenizer files."""

    def load(self, card: Mapping[str, Any], location: Path, device: str) -> OpenClipEncoder:
        """The encoder, wholly offline. Raises `ModelError` naming the file that is missing, damaged or does not fit."""
        files = find_files(location, OPEN_CLIP)
        config = read_config(files.config)
        model_config = current_config(config["model_cfg"], files)
        text = model_config["text_cfg"]
        place = choose_device(device)
        state = read_weights(files.weights)
        model = _build(model_config, files)
        assign_weights(model, state, files.weights)
        tokenizer = load_tokenizer(files, text, int(getattr(model, "vocab_size", 0)))
        transform = _transform(config["preprocess_cfg"], model.visual, files)
        is_hugging_face = bool(text.get("hf_model_name"))
        pad = int(model.text.transformer.config.pad_token_id) if is_hugging_face else None  # type: ignore[union-attr,arg-type]
        told = dict(card) | {
            "dimension": int(model_config["embed_dim"]),
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
        }
        told.setdefault("name", location.name)
        if "fingerprint" not in told:
            told["fingerprint"] = fingerprint(OPEN_CLIP, {path.name: file_digest(path) for path in files})
        return OpenClipEncoder(model.to(place), tokenizer, transform, told, pad)


def current_config(released: Mapping[str, Any], files: ModelFiles) -> dict[str, Any]:
    """The model's configuration in today's keys, its text tower's configuration local, nothing pretrained."""
    model = copy.deepcopy(dict(released))
    model["vision_cfg"]["timm_model_pretrained"] = False
    text = model["text_cfg"]
    for old, new in _RENAMED.items():
        if old in text:
            text.setdefault(new, text.pop(old))
    name = text.get("hf_model_name")
    if name:
        text["hf_model_pretrained"] = False
        text["hf_model_name"] = str(_text_config(name, files))
    return model


def _text_config(name: str, files: ModelFiles) -> Path:
    if files.text_config is not None:
        read_json(files.text_config)
        return files.text_config
    if name not in _CARRIED:
        raise ModelError(
            f"the configuration of the text tower {name} is not carried by radlens; put its config.json into "
            f"{files.folder} under the name text_config.json."
        )
    return _TEXT_CONFIGS / _CARRIED[name]


def _build(model: dict[str, Any], files: ModelFiles) -> nn.Module:
    custom = model.pop("custom_text", False) or bool(model["text_cfg"].get("hf_model_name"))
    if "multimodal_cfg" in model:
        raise ModelError(f"{files.config} describes a captioning model (CoCa), which is not supported.")
    try:
        with WithoutInitialisation():
            return (CustomTextCLIP if custom else CLIP)(**model)  # type: ignore[no-any-return]
    except (TypeError, ValueError, KeyError, RuntimeError, AssertionError, OSError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise ModelError(f"{files.config} does not describe a model that open_clip can build: {reason}.") from error


def _transform(config: Mapping[str, Any], visual: Any, files: ModelFiles) -> ImageTransform:
    """open_clip's evaluation transform for this model; what `ImageTransform` cannot do raises `ModelError`."""
    height, width = visual.image_size if isinstance(visual.image_size, tuple | list) else (visual.image_size,) * 2
    refused = {
        "a size that is not square": height != width,
        f"resize_mode {config.get('resize_mode')!r}": config.get("resize_mode") not in (None, "shortest"),
        f"mode {config.get('mode')!r}": config.get("mode") not in (None, "RGB"),
        f"interpolation {config.get('interpolation')!r}": config.get("interpolation")
        not in (None, "bicubic", "bilinear", "random"),
    }
    for what, is_asked in refused.items():
        if is_asked:
            raise ModelError(
                f"{files.config} asks for {what} in preprocess_cfg, which is not supported; supported are square RGB "
                "input, shortest side resized, bicubic or bilinear."
            )
    mean = config.get("mean") or (0.48145466, 0.4578275, 0.40821073)
    std = config.get("std") or (0.26862954, 0.26130258, 0.27577711)
    # "random" is for training; open_clip evaluates it as bicubic
    interpolation = "bilinear" if config.get("interpolation") == "bilinear" else "bicubic"
    return ImageTransform(int(height), _three(mean), _three(std), interpolation)


def _three(values: Any) -> tuple[float, float, float]:
    one, two, three = (values,) * 3 if isinstance(values, int | float) else values
    return float(one), float(two), float(three)
