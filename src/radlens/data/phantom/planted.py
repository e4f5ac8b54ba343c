"""A planted shortcut: a mark burnt into the film that tells a label, whether or not the finding can be seen."""

from typing import Annotated, Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, field_validator

from radlens.core.chexpert import FINDINGS
from radlens.core.errors import unknown_name

from .marker import lettering
from .thorax import Mask

Place = Literal["top left", "top", "top right", "left", "right", "bottom left", "bottom", "bottom right"]

_SALT_PLANTED = 14
# The least distance from the film's edge, and how far beyond it a mark may lie, as shares of the edge.
_MARGIN, _WANDER = 0.03, 0.05
_INK, _PLATE = 247, 5


class Planted(BaseModel):
    """What is planted: the label it tells, the mark, its places and how truly it tells.

    label: one of the 13 findings. mark: one to four capital letters (`P`, `PORT`), or `arrow` (as on films taken
    upright) or `disc`; burnt in white on a black plate. where: places (as seen on the screen), one of which is drawn
    for each image, with a little wandering about it. extent: longer side of the plate as a share of the image's edge.
    agreement: share of the images in which the mark is there exactly when the label is. visible: whether the finding
    itself is drawn; where it is not, the mark alone tells the label.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    label: str
    mark: str = "P"
    where: Annotated[tuple[Place, ...], Field(min_length=1)] = ("top left", "top right", "bottom left", "bottom right")
    extent: float = Field(default=0.2, ge=0.05, le=0.4)
    agreement: float = Field(default=1.0, ge=0, le=1)
    visible: bool = False

    @field_validator("label")
    @classmethod
    def _finding(cls, value: str) -> str:
        if value not in FINDINGS:
            raise ValueError(unknown_name("finding", value, FINDINGS).rstrip("."))
        return value

    @field_validator("mark")
    @classmethod
    def _drawable(cls, value: str) -> str:
        try:
            lettering(value)
        except ValueError as error:
            raise ValueError(str(error).rstrip(".")) from error
        return value

    @field_validator("where", mode="before")
    @classmethod
    def _one_or_more(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("where")
    @classmethod
    def _distinct(cls, value: tuple[Place, ...]) -> tuple[Place, ...]:
        if len(set(value)) < len(value):
            raise ValueError(f"names a place twice: {', '.join(value)}")
        return tuple(place for place in get_args(Place) if place in value)

    def sentence(self) -> str:
        """What a reader of the report must know of it."""
        shown = "is drawn too" if self.visible else "itself is not drawn"
        place = self.where[0] if len(self.where) == 1 else f"one of {len(self.where)} places"
        return (
            f"A mark ({self.mark}) at {place} tells {self.label} in {self.agreement:.0%} of the images; the finding "
            f"{shown}."
        )


def is_planted(seed: int, index: int, present: bool, planted: Planted) -> bool:
    """Whether an image carries the mark; `present`: whether its label is 1."""
    truly = float(_generator(seed, index).random()) < planted.agreement
    return present == truly


def plant(pixels: npt.NDArray[np.uint8], seed: int, index: int, planted: Planted) -> tuple[npt.NDArray[np.uint8], Mask]:
    """Burn the mark into a copy of (size, size) pixels; deterministic in (seed, index).

    Returns the pixels and a mask (size, size), True on the mark's plate.
    """
    bitmap, top, left = _placed(pixels.shape[0], seed, index, planted)
    box = slice(top, top + bitmap.shape[0]), slice(left, left + bitmap.shape[1])
    marked, mask = pixels.copy(), np.zeros(pixels.shape, np.bool_)
    marked[box] = np.where(bitmap, np.uint8(_INK), np.uint8(_PLATE))
    mask[box] = True
    return marked, mask


def _generator(seed: int, index: int) -> np.random.Generator:
    return np.random.default_rng([seed, index, _SALT_PLANTED])


def _placed(size: int, seed: int, index: int, planted: Planted) -> tuple[Mask, int, int]:
    """The plate (height, width), True where it is inked, and the row and column of its upper left corner."""
    rng = _generator(seed, index)
    rng.random()  # the draw of `is_planted`
    place = planted.where[int(rng.integers(len(planted.where)))]
    down, across = rng.random(2)
    small = np.pad(lettering(planted.mark), 1)
    scale = max(1, round(planted.extent * size / max(small.shape)))
    bitmap = np.kron(small, np.ones((scale, scale), np.bool_))
    return (
        bitmap,
        _start(size, bitmap.shape[0], "top" in place, "bottom" in place, float(down)),
        _start(size, bitmap.shape[1], "left" in place, "right" in place, float(across)),
    )


def _start(size: int, length: int, first: bool, last: bool, wander: float) -> int:
    """Where a plate begins along one axis: near the first edge, near the last, or about the middle."""
    room = size - length
    if first:
        begin = size * (_MARGIN + _WANDER * wander)
    elif last:
        begin = room - size * (_MARGIN + _WANDER * wander)
    else:
        begin = room / 2 + size * 2 * _WANDER * (wander - 0.5)
    return max(0, min(round(begin), room))
