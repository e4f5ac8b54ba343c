"""Side marker and text burnt into the image, in a 5 by 7 bitmap font of capital letters and digits."""

import numpy as np

from .blur import F32
from .site import Site
from .thorax import Mask

_FONT = {
    "A": "01110 10001 10001 11111 10001 10001 10001",
    "B": "11110 10001 10001 11110 10001 10001 11110",
    "C": "01111 10000 10000 10000 10000 10000 01111",
    "D": "11110 10001 10001 10001 10001 10001 11110",
    "E": "11111 10000 10000 11110 10000 10000 11111",
    "F": "11111 10000 10000 11110 10000 10000 10000",
    "G": "01111 10000 10000 10011 10001 10001 01111",
    "H": "10001 10001 10001 11111 10001 10001 10001",
    "I": "01110 00100 00100 00100 00100 00100 01110",
    "J": "00111 00010 00010 00010 00010 10010 01100",
    "K": "10001 10010 10100 11000 10100 10010 10001",
    "L": "10000 10000 10000 10000 10000 10000 11111",
    "M": "10001 11011 10101 10101 10001 10001 10001",
    "N": "10001 11001 10101 10101 10011 10001 10001",
    "O": "01110 10001 10001 10001 10001 10001 01110",
    "P": "11110 10001 10001 11110 10000 10000 10000",
    "Q": "01110 10001 10001 10001 10101 10010 01101",
    "R": "11110 10001 10001 11110 10100 10010 10001",
    "S": "01111 10000 10000 01110 00001 00001 11110",
    "T": "11111 00100 00100 00100 00100 00100 00100",
    "U": "10001 10001 10001 10001 10001 10001 01110",
    "V": "10001 10001 10001 10001 10001 01010 00100",
    "W": "10001 10001 10001 10101 10101 11011 10001",
    "X": "10001 10001 01010 00100 01010 10001 10001",
    "Y": "10001 10001 01010 00100 00100 00100 00100",
    "Z": "11111 00001 00010 00100 01000 10000 11111",
}
_SHAPES = {
    "arrow": "00100 01110 11111 00100 00100 00100 00100",
    "disc": "0011100 0111110 1111111 1111111 1111111 0111110 0011100",
}
_LONGEST = 4


def lettering(mark: str) -> Mask:
    """The bitmap (7, width) of one to four capital letters, side by side, or of a shape: `arrow`, `disc`.

    Raises ValueError for anything else.
    """
    if mark in _SHAPES:
        return _bitmap(_SHAPES[mark])
    if not 1 <= len(mark) <= _LONGEST or not set(mark) <= _FONT.keys():
        shapes = ", ".join(_SHAPES)
        raise ValueError(f"a mark is one to {_LONGEST} capital letters or one of {shapes}; found {mark!r}.")
    glyphs = [np.pad(_bitmap(_FONT[letter]), ((0, 0), (0, 1))) for letter in mark]
    return np.concatenate(glyphs, axis=1)[:, :-1]


def _bitmap(rows: str) -> Mask:
    return np.array([[cell == "1" for cell in row] for row in rows.split()])


def burn_marker(grey: F32, site: Site, rng: np.random.Generator) -> None:
    """Write the side letter and, under it, the site's text into grey levels (size, size), in place."""
    if not site.marker:
        return
    size = grey.shape[0]
    on_right = site.marker_corner == "top right"
    scale = max(1, round(size / 110))
    row = round(size * (0.07 + 0.03 * rng.random()))
    from_edge = round(size * (0.075 + 0.04 * rng.random()))
    _stamp(grey, "L" if on_right else "R", row, from_edge, scale, on_right)
    _stamp(grey, site.marker, row + 9 * scale, from_edge, max(1, scale // 2), on_right)


def _stamp(grey: F32, text: str, row: int, from_edge: int, scale: int, on_right: bool) -> None:
    glyphs = [_FONT[letter] for letter in text.upper() if letter in _FONT]
    if not glyphs:
        return
    rows = [np.array([[int(c) for c in line] + [0] for line in glyph.split()]) for glyph in glyphs]
    bitmap = np.kron(np.concatenate(rows, axis=1), np.ones((scale, scale), np.int64)).astype(np.bool_)
    size = grey.shape[0]
    left = size - from_edge - bitmap.shape[1] if on_right else from_edge
    left = max(0, min(left, size - bitmap.shape[1]))
    target = grey[row : row + bitmap.shape[0], left : left + bitmap.shape[1]]
    target[bitmap[: target.shape[0], : target.shape[1]]] = 0.97
