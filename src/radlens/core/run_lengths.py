"""Masks as run lengths, as COCO writes them: column after column, runs of background and foreground in turn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

# no run of an image needs more than this many groups of five bits (2^50 pixels)
_MOST_GROUPS = 10


def run_lengths(text: str) -> list[int]:
    """Run lengths of COCO's compressed text. Raises `ValueError` with the reason where it is none.

    Each character holds five bits above 48, least first, and a sixth that says that more follow; the last one's fifth
    bit is the sign. From the third run on (counted from 0) a number is the difference to the run two before it
    (pycocotools, maskApi.c, rleFrString).
    """
    runs: list[int] = []
    value = groups = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            raise ValueError(f"the character {character!r} is none of compressed run lengths")
        value |= (bits & 31) << 5 * groups
        groups += 1
        if groups > _MOST_GROUPS:
            raise ValueError("a run is longer than any image")
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << 5 * groups
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value = groups = 0
    if groups:
        raise ValueError("the text ends in the middle of a run")
    return runs


def mask_of_runs(runs: Sequence[int], height: int, width: int) -> npt.NDArray[np.bool_]:
    """Boolean (height, width) of run lengths, the first of background, column after column.

    Raises `ValueError` with the reason where a run is no whole number of 0 or more or they do not fill the image.
    """
    wrong = next((run for run in runs if isinstance(run, bool) or not isinstance(run, int) or run < 0), None)
    if wrong is not None:
        raise ValueError(f"a run of {wrong!r} pixels")
    if sum(runs) != height * width:
        raise ValueError(f"runs of {sum(runs)} pixels together, but {width}x{height} has {height * width}")
    foreground = np.arange(len(runs)) % 2 == 1
    return np.repeat(foreground, np.array(runs, np.int64)).reshape(width, height).T
