"""Masks of Label Studio's brush: packed run lengths of an RGBA picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_CHANNELS = 4


class _Bits:
    """Unsigned numbers of any width, the highest bit first."""

    def __init__(self, content: bytes) -> None:
        self._bits = np.unpackbits(np.frombuffer(content, np.uint8))
        self._at = 0

    def number(self, width: int) -> int:
        return int(self.numbers(1, width)[0])

    def numbers(self, count: int, width: int) -> npt.NDArray[np.int64]:
        """`count` numbers of `width` bits each. Raises `ValueError` where so many are not left."""
        stop = self._at + count * width
        if stop > len(self._bits):
            raise ValueError("it ends too early")
        weights = 1 << np.arange(width - 1, -1, -1, dtype=np.int64)
        found: npt.NDArray[np.int64] = self._bits[self._at : stop].reshape(count, width).astype(np.int64) @ weights
        self._at = stop
        return found


def brush_mask(content: Sequence[int], height: int, width: int) -> npt.NDArray[np.bool_]:
    """Boolean (height, width): where the brush's alpha is above 0.

    content: bytes of the package rle-pack of thi.ng/umbrella: how many values (32 bits), bits of a value - 1 (5), four
    widths of lengths - 1 (4 each), then pieces: whether one value repeats (1), which width (2), length - 1, and one or
    all of the values. Raises `ValueError` with the reason where it is none, or holds a picture of another size.
    """
    if not all(0 <= byte <= 255 for byte in content):
        raise ValueError("a number that is no byte")
    bits = _Bits(bytes(content))
    count = bits.number(32)
    expected = height * width * _CHANNELS
    if count != expected:
        raise ValueError(f"{count} values, but {width}x{height} pixels of four channels have {expected}")
    value_width = bits.number(5) + 1
    length_widths = [bits.number(4) + 1 for _ in range(4)]
    values = np.empty(count, np.uint8)
    at = 0
    while at < count:
        repeats = bits.number(1)
        length = bits.number(length_widths[bits.number(2)]) + 1
        if at + length > count:
            raise ValueError("runs beyond the end of the picture")
        # a value is a byte, whatever the width: only whether it is 0 matters
        values[at : at + length] = bits.numbers(1 if repeats else length, value_width) > 0
        at += length
    alpha: npt.NDArray[np.bool_] = values.reshape(height, width, _CHANNELS)[..., -1].astype(bool)
    return alpha
