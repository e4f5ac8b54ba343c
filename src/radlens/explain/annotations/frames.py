"""From the coordinates that a shape was drawn in to pixels of the cohort's image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from radlens.core.errors import DataError
from radlens.core.regions import Box, Mask, Point, Polygon, Shape

# shapes are often rounded outwards: so many pixels beyond the edge are cut off in silence
_OVERHANG = 1.0
# more than any radiograph has; a file that states more would only fill the memory
_MOST_PIXELS = 1 << 28
# sides that a resize rounded to whole pixels differ by less than this share
_SAME_SHAPE = 0.01


@dataclass(frozen=True)
class Frame:
    """The size (width, height) that shapes were drawn at, that of the image, and what to do where they do not fit."""

    drawn: tuple[int, int]
    image: tuple[int, int]
    of: str
    advice: str

    @property
    def across(self) -> float:
        """Pixels of the image for one pixel across of the size drawn at."""
        return self.image[0] / self.drawn[0]

    @property
    def down(self) -> float:
        """Pixels of the image for one pixel down of the size drawn at."""
        return self.image[1] / self.drawn[1]


def frame_of(
    where: str,
    image_id: str,
    image: tuple[int, int],
    stated: tuple[int, int] | None,
    drawn_at: tuple[int, int] | None,
    *,
    rescale: bool,
) -> Frame:
    """The frame of an image whose annotation states a size, or was drawn at one that the user names, or neither.

    Raises `DataError` for a size that the image is no copy of, and for another size where `rescale` is off.
    """
    if stated is not None:
        width, height = stated
        if width < 1 or height < 1 or width * height > _MOST_PIXELS:
            raise DataError(f"{where}: expected the width and height of image {image_id}, found {width}x{height}.")
        if stated != image and not rescale:
            raise DataError(
                f"{where}: annotated at {width}x{height}, but image {image_id} is {image[0]}x{image[1]}; use the image "
                "that was annotated, or say rescale: true if the cohort's is a resized copy of it."
            )
        frame = Frame(stated, image, "image", "the file states that size itself, so correct it there")
    elif drawn_at is not None:
        frame = Frame(drawn_at, image, "size in drawn_at", "check drawn_at: [width, height]")
    else:
        advice = "if boxes were drawn on images of another size say drawn_at: [width, height]"
        frame = Frame(image, image, "image", advice)
    if abs(frame.across / frame.down - 1) > _SAME_SHAPE:
        said = "drawn_at" if stated is None else "the annotated size"
        raise DataError(
            f"{where}: {said} {frame.drawn[0]}x{frame.drawn[1]} has another shape than image {image_id} of "
            f"{image[0]}x{image[1]}; regions can only be scaled between images of one shape."
        )
    return frame


def place(where: str, image_id: str, shape: Shape, frame: Frame) -> Shape:
    """The shape in pixels of the image, what is up to a pixel beyond its edge cut off.

    Raises `DataError` for one farther outside, one without an area, and a mask of another size.
    """
    match shape:
        case Mask():
            return _place_mask(where, image_id, shape, frame)
        case Box():
            if shape.width <= 0 or shape.height <= 0:
                raise DataError(
                    f"{where}: expected a box with a width and height above 0, found {shape.width:g} x "
                    f"{shape.height:g}."
                )
            corners = np.array([(shape.x, shape.y), (shape.x + shape.width, shape.y + shape.height)])
            (left, top), (right, bottom) = _scaled(where, image_id, "box", corners, frame)
            if right <= left or bottom <= top:
                raise DataError(f"{where}: the box on {image_id} lies on the edge of the image and covers none of it.")
            return Box(left, top, right - left, bottom - top)
        case Polygon():
            corners = np.array(shape.points, np.float64).reshape(-1, 2)
            steps = corners - corners[:1]
            # all corners on one line: no pair of steps from the first spans an area
            farthest = steps[np.abs(steps).sum(axis=1).argmax()] if len(steps) else np.zeros(2)
            if len(corners) < 3 or not np.any(steps[:, 0] * farthest[1] != steps[:, 1] * farthest[0]):
                raise DataError(
                    f"{where}: expected a polygon of three or more corners with an area above 0, found {len(corners)} "
                    "corners without."
                )
            return Polygon(tuple(map(tuple, _scaled(where, image_id, "polygon", corners, frame).tolist())))
        case Point():
            ((x, y),) = _scaled(where, image_id, "point", np.array([(shape.x, shape.y)]), frame)
            return Point(float(x), float(y))


def _scaled(
    where: str, image_id: str, noun: str, corners: npt.NDArray[np.float64], frame: Frame
) -> npt.NDArray[np.float64]:
    """Corners (N, 2) checked, cut at the edges of the frame, and in pixels of the image."""
    limits = np.array(frame.drawn, np.float64)
    low, high = corners.min(axis=0), corners.max(axis=0)
    for axis, direction in enumerate(("across", "down")):
        if not (low[axis] >= -_OVERHANG and high[axis] <= limits[axis] + _OVERHANG):
            raise DataError(
                f"{where}: the {noun} on {image_id} spans {low[axis]:g} to {high[axis]:g} {direction}, outside the "
                f"{limits[axis]:g} pixels of the {frame.of}; {frame.advice}."
            )
    return np.clip(corners, 0.0, limits) * (frame.across, frame.down)


def _place_mask(where: str, image_id: str, shape: Mask, frame: Frame) -> Mask:
    if (shape.width, shape.height) != frame.drawn:
        raise DataError(
            f"{where}: a mask of {shape.width}x{shape.height} pixels does not fit image {image_id} of "
            f"{frame.drawn[0]}x{frame.drawn[1]} pixels."
        )
    if frame.drawn == frame.image:
        return shape
    width, height = frame.image
    # the mask's pixel under the centre of each pixel of the image
    columns = ((np.arange(width) + 0.5) / frame.across).astype(int)
    rows = ((np.arange(height) + 0.5) / frame.down).astype(int)
    return Mask.pack(shape.mask(shape.height, shape.width)[np.ix_(rows, columns)])
