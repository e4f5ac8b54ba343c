"""Small random changes of a radiograph that leave its findings what they are; never flips unless asked.

A mirrored chest shows the heart on the wrong side and reads as situs inversus, and its L/R marker is mirrored too.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

# Larger originals are shrunk first: turning 5 million pixels costs more than a training step on a GPU.
_SHRUNK_TO = 2


class Augmentation(BaseModel):
    """How far each change may go; each image draws evenly from plus or minus that much. 0 leaves a change out.

    rotation: degrees. translation: share of the shortest side, along each axis. scale: share of the size. brightness:
    share of the grey range. contrast, gamma: share of the slope and of the exponent, drawn evenly on a log scale.
    noise: standard deviation of Gaussian noise as a share of the grey range (drawn from 0 to that much).
    flip_horizontal, flip_vertical: mirror half of the images.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rotation: float = Field(default=5.0, ge=0, le=180)
    translation: float = Field(default=0.03, ge=0, le=0.5)
    scale: float = Field(default=0.05, ge=0, lt=1)
    brightness: float = Field(default=0.05, ge=0, le=1)
    contrast: float = Field(default=0.1, ge=0, le=10)
    gamma: float = Field(default=0.1, ge=0, le=10)
    noise: float = Field(default=0.01, ge=0, le=1)
    flip_horizontal: bool = False
    flip_vertical: bool = False

    def __call__(
        self, pixels: npt.NDArray[np.uint8], size: int, generator: np.random.Generator
    ) -> npt.NDArray[np.uint8]:
        """uint8 (H, W) or (H, W, 3) -> the same kind, shortest side at most twice `size`, the model's input size.

        What a turn or shift uncovers is black, as outside the collimator. All that is random comes from `generator`,
        which is asked for the same numbers whatever the options.
        """
        turn, right, down, larger, brighter, contrast, gamma = generator.uniform(-1, 1, 7)
        loudness, mirrored, upside_down = generator.uniform(0, 1, 3)
        image = Image.fromarray(pixels)
        shortest = min(image.size)
        if shortest > _SHRUNK_TO * size:
            share = _SHRUNK_TO * size / shortest
            smaller = (round(image.width * share), round(image.height * share))
            image = image.resize(smaller, Image.Resampling.BICUBIC, reducing_gap=3)
        image = self._moved(image, float(turn), float(right), float(down), float(larger))
        if self.flip_horizontal and mirrored < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if self.flip_vertical and upside_down < 0.5:
            image = image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
        grey = np.arange(256) / 255
        curve = grey ** math.exp(gamma * math.log1p(self.gamma))
        curve = (curve - 0.5) * math.exp(contrast * math.log1p(self.contrast)) + 0.5 + brighter * self.brightness
        changed = (255 * np.clip(curve, 0, 1))[np.asarray(image)]
        if self.noise:
            spread = 255 * self.noise * loudness
            changed = changed + spread * generator.standard_normal(changed.shape[:2]).reshape(
                *changed.shape[:2], *(1,) * (changed.ndim - 2)
            )
        changed_grey: npt.NDArray[np.uint8] = np.clip(np.rint(changed), 0, 255).astype(np.uint8)
        return changed_grey

    def _moved(self, image: Image.Image, turn: float, right: float, down: float, larger: float) -> Image.Image:
        if not (self.rotation or self.translation or self.scale):
            return image
        angle = math.radians(turn * self.rotation)
        # evenly on a log scale: as often a tenth larger as a tenth smaller
        zoom = math.exp(larger * math.log1p(self.scale))
        shift = self.translation * min(image.size)
        x, y = image.width / 2, image.height / 2
        cos, sin = math.cos(angle) / zoom, math.sin(angle) / zoom
        # Pillow asks for the way back: from a pixel of the result to the place it is read from
        a, b, d, e = cos, sin, -sin, cos
        to_x, to_y = x + right * shift, y + down * shift
        way_back = (a, b, x - a * to_x - b * to_y, d, e, y - d * to_x - e * to_y)
        return image.transform(image.size, Image.Transform.AFFINE, way_back, Image.Resampling.BILINEAR)
