"""Films that are nearly the same picture, found by a perceptual hash, though their files differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image

SAME_WITHIN = 16
"""So many of the 256 bits may differ. Among 538 radiographs of NIH ChestX-ray14, two have the same bytes; all other
pairs differ in at least 38 bits. The same picture at half the size, as JPEG of quality 50, with 2 % noise, or with its
contrast raised by 15 % differs in at most 16 (150 tried), with a gamma of 1.2 in 99 % of cases. A margin cropped by 1 %
is found in a third of cases; a marker burnt in, or 3 % cropped, is not."""
HASH_BYTES = 32
_SIDE, _KEPT = 64, 16
_BLOCK = 4096


@dataclass(frozen=True)
class NearDuplicate:
    """Two rows of a cohort that show nearly the same picture; `bits`: how many of 256 differ."""

    first: int
    second: int
    bits: int


def perceptual_hash(pixels: npt.NDArray[np.uint8]) -> bytes:
    """32 bytes of an image, uint8 (H, W) or (H, W, 3): which of its 16 x 16 lowest frequencies exceed their median.

    The picture is reduced to 64 x 64 (box filter) and transformed by a discrete cosine transform, as in Zauner:
    Implementation and Benchmarking of Perceptual Image Hash Functions (2010), with 256 bits instead of 64.
    """
    image = Image.fromarray(pixels)
    small = np.asarray(image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX, reducing_gap=2.0), np.float32)
    basis = _cosines()
    low = basis @ small @ basis.T
    # below half a grey level a frequency is rounding, not picture
    low[np.abs(low) < 0.5] = 0
    return np.packbits(low > np.median(low)).tobytes()


def near_duplicates(
    hashes: Sequence[bytes | None], sides: npt.NDArray[np.object_], within: int = SAME_WITHIN
) -> list[NearDuplicate]:
    """All pairs of rows on different sides (splits) whose hashes differ in at most `within` bits, nearest first.

    hashes: None where an image has none. Exact, in blocks: memory does not grow with the number of pairs. A picture of
    one grey (a hash that is nearly all zeros) is like every other such picture, and says nothing: left out.
    """
    rows = np.asarray([row for row, value in enumerate(hashes) if value is not None and _says_something(value)], int)
    if len(rows) < 2:
        return []
    packed = np.frombuffer(b"".join(hashes[row] or b"" for row in rows), np.uint8).reshape(len(rows), HASH_BYTES)
    signs = np.unpackbits(packed, axis=1).astype(np.float32) * 2 - 1
    # The first test looks at a quarter of the bits, spread evenly: what differs in more than `within` of them is out.
    some = np.ascontiguousarray(signs[:, ::4])
    side = np.asarray(sides, dtype=object)[rows]
    found: list[NearDuplicate] = []
    names = sorted({str(name) for name in side if name is not None})
    for position, name in enumerate(names):
        mine = np.flatnonzero(side == name)
        others = np.flatnonzero(np.isin(side.astype(str), names[position + 1 :]))
        for start in range(0, len(mine), _BLOCK):
            here = mine[start : start + _BLOCK]
            for begin in range(0, len(others), _BLOCK):
                there = others[begin : begin + _BLOCK]
                left, right = np.nonzero(some[here] @ some[there].T >= some.shape[1] - 2 * within)
                bits = (signs.shape[1] - np.einsum("nc,nc->n", signs[here[left]], signs[there[right]])) / 2
                for near in np.flatnonzero(bits <= within):
                    first, second = sorted((int(rows[here[left[near]]]), int(rows[there[right[near]]])))
                    found.append(NearDuplicate(first, second, int(bits[near])))
    return sorted(found, key=lambda pair: (pair.bits, pair.first, pair.second))


def _says_something(value: bytes) -> bool:
    ones = int.from_bytes(value).bit_count()
    return ones > 8


@cache
def _cosines() -> npt.NDArray[np.float32]:
    """(16, 64) the rows of the orthonormal discrete cosine transform (type II) of the lowest frequencies."""
    frequency, place = np.arange(_KEPT)[:, None], np.arange(_SIDE)[None]
    basis = np.cos(np.pi * frequency * (2 * place + 1) / (2 * _SIDE)) * np.sqrt(2 / _SIDE)
    basis[0] /= np.sqrt(2)
    return np.asarray(basis, np.float32)
