"""From preprocessor_config.json to our transform, as far as the two can be the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from radlens.core.errors import ModelError
from radlens.core.transform import ImageTransform
from radlens.models.folder import ModelFiles, read_json

# CLIPImageProcessor's own, for keys that a file leaves out
_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_SIZE = 224
# Pillow's numbers of its filters
_FILTERS = {2: "bilinear", 3: "bicubic"}
_SUPPORTED = "shortest side resized (bicubic or bilinear), square centre crop, scaled by 1/255 and normalised"


def read_transform(files: ModelFiles, image_size: int) -> ImageTransform:
    """The transform that CLIPImageProcessor is; image_size: what the image tower takes.

    Its crop is ours where the margins are even; an odd pixel falls to the other side. What `ImageTransform` cannot do
    raises `ModelError`.
    """
    path = files.preprocessor
    assert path is not None
    config = read_json(path)
    if isinstance(config.get("image_processor"), Mapping):
        config = dict(config["image_processor"])
    size, crop = _edge(config.get("size", _SIZE)), _edge(config.get("crop_size", _SIZE))
    steps = ("do_resize", "do_center_crop", "do_rescale", "do_normalize")
    refused: dict[str, bool] = {f"{step}: false": config.get(step) is False for step in steps}
    resample, factor = config.get("resample", 3), config.get("rescale_factor", 1 / 255)
    refused |= {
        f"size {config.get('size')!r}": size is None or _stretches(config.get("size")),
        f"crop_size {config.get('crop_size')!r}": crop is None or crop != size,
        f"resample {resample!r}": resample not in _FILTERS,
        f"rescale_factor {factor!r}": not isinstance(factor, int | float) or abs(factor * 255 - 1) > 1e-6,
    }
    mean, std = _three(config.get("image_mean", _MEAN)), _three(config.get("image_std", _STD))
    refused |= {
        f"image_mean {config.get('image_mean')!r}": mean is None,
        f"image_std {config.get('image_std')!r}": std is None or min(std) <= 0,
    }
    for what, is_asked in refused.items():
        if is_asked:
            raise ModelError(f"{path} asks for {what}, which is not supported; supported is {_SUPPORTED}.")
    if crop != image_size:
        raise ModelError(
            f"{path} makes images of {crop} pixels, but the image tower of {files.config.name} takes {image_size}; "
            "they do not belong together."
        )
    assert mean is not None and std is not None
    return ImageTransform(image_size, mean, std, _FILTERS[resample])


def _edge(size: Any) -> int | None:
    """The side of a square or the shortest side, None where it is neither."""
    if isinstance(size, Mapping):
        sides = {size.get(key) for key in ("shortest_edge", "height", "width") if key in size}
        size = sides.pop() if len(sides) == 1 else None
    return size if isinstance(size, int) and not isinstance(size, bool) and size > 0 else None


def _stretches(size: Any) -> bool:
    """Height and width given for the resize: the image's own proportions would be lost."""
    return isinstance(size, Mapping) and "shortest_edge" not in size


def _three(values: Any) -> tuple[float, float, float] | None:
    if not isinstance(values, list | tuple) or len(values) != 3 or not all(isinstance(v, int | float) for v in values):
        return None
    one, two, three = values
    return float(one), float(two), float(three)
