"""CLIP in the layout of Hugging Face transformers: PubMedCLIP, PLIP, StreetCLIP's kin, and a user's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from torch import Tensor
from transformers.initialization import no_init_weights
from transformers.models.clip.configuration_clip import CLIPConfig
from transformers.models.clip.modeling_clip import CLIPEncoderLayer, CLIPModel

from radlens.core.device import choose_device
from radlens.core.errors import ModelError
from radlens.core.parts import Loader
from radlens.core.registry import register
from radlens.core.store import file_digest, fingerprint
from radlens.models.encoder import OpenClipEncoder
from radlens.models.folder import TRANSFORMERS, ModelFiles, find_files, read_json
from radlens.models.tokenizer import FILLER, load_clip_tokenizer
from radlens.models.transformers_preparation import read_transform
from radlens.models.transformers_tower import TransformersClip
from radlens.models.weights import assign_weights, read_weights

# sizes and constants alone: neither code of the folder's own nor an attention kernel from elsewhere
_ATTENTION = "sdpa"
_DROPPED = ("attn_implementation", "quantization_config", "auto_map", "dtype", "torch_dtype")


class ImageBlock(CLIPEncoderLayer):  # type: ignore[no-untyped-call]
    """transformers' layer, to be called with tokens alone: image tokens are never masked."""

    def forward(self, hidden_states: Tensor, attention_mask: Tensor | None = None, **options: Any) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        return super().forward(hidden_states, attention_mask, **options)  # type: ignore[arg-type]


@register("loaders", "transformers-clip")
class TransformersClipLoader(Loader):
    """A CLIP folder of Hugging Face transformers: config.json (model_type clip), weights, tokenizer, preparation."""

    def load(self, card: Mapping[str, Any], location: Path, device: str) -> OpenClipEncoder:
        """The encoder, wholly offline; no code of the folder's own is run.

        Raises `ModelError` naming the file that is missing, damaged, does not fit, or is of another architecture.
        """
        files = find_files(location, TRANSFORMERS)
        config = _config(files)
        transform = read_transform(files, config.vision_config.image_size)
        place = choose_device(device)
        state = read_weights(files.weights)
        clip = _build(config, files)
        assign_weights(clip, state, files.weights)
        tokenizer = load_clip_tokenizer(files, config.text_config)
        model = TransformersClip(clip)
        told = dict(card) | {
            "dimension": config.projection_dim,
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
        }
        told.setdefault("name", location.name)
        if "fingerprint" not in told:
            told["fingerprint"] = fingerprint(TRANSFORMERS, {path.name: file_digest(path) for path in files})
        return OpenClipEncoder(model.to(place), tokenizer, transform, told, FILLER)


def _config(files: ModelFiles) -> Any:
    described = read_json(files.config)
    if "auto_map" in described:
        raise ModelError(
            f"{files.config} names code of its own (auto_map), which is never run; expected a plain CLIP of "
            "transformers, so use a folder whose config.json has no auto_map."
        )
    try:
        config: Any = CLIPConfig.from_dict(_known(described))
    except (TypeError, ValueError, KeyError, AttributeError, StrictDataclassError) as error:
        raise _unbuildable(files, error) from error
    config._attn_implementation = _ATTENTION
    vision, text = config.vision_config, config.text_config
    for name, value in (
        ("vision_config.image_size", vision.image_size),
        ("vision_config.patch_size", vision.patch_size),
        ("text_config.eos_token_id", text.eos_token_id),
        ("projection_dim", config.projection_dim),
    ):
        if not isinstance(value, int):
            raise ModelError(f"{files.config}: {name} must be one whole number, found {value!r}.")
    return config


def _known(described: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in described.items() if name not in _DROPPED and not name.startswith("_")}
    return {name: _known(value) if isinstance(value, Mapping) else value for name, value in kept.items()}


def _build(config: Any, files: ModelFiles) -> CLIPModel:
    try:
        with no_init_weights():
            clip = CLIPModel(config)
            layers = clip.vision_model.encoder.layers
            for index in range(len(layers)):
                layers[index] = ImageBlock(config.vision_config)
        return clip
    except (TypeError, ValueError, KeyError, AttributeError, RuntimeError, AssertionError, ArithmeticError) as error:
        raise _unbuildable(files, error) from error


def _unbuildable(files: ModelFiles, error: Exception) -> ModelError:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    reason = " ".join(lines[:2]).rstrip(".")
    return ModelError(f"{files.config} does not describe a CLIP that can be built: {reason}.")
