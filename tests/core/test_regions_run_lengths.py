"""COCO's run lengths, against pycocotools and a slow loop."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco_mask

from radlens.core.run_lengths import mask_of_runs, run_lengths

MASKS = hnp.arrays(np.bool_, st.tuples(st.integers(1, 20), st.integers(1, 20)))


def runs_of(mask: np.ndarray) -> list[int]:
    """Column after column, the first run of background."""
    runs, value = [0], False
    for pixel in mask.T.ravel():
        if pixel != value:
            runs.append(0)
            value = bool(pixel)
        runs[-1] += 1
    return runs


def packed(runs: list[int]) -> str:
    """Compressed text, written from the description of the format."""
    text = ""
    for at, run in enumerate(runs):
        left = run - runs[at - 2] if at > 2 else run
        while True:
            bits, left = left & 31, left >> 5
            last = (left == 0 and not bits & 16) or (left == -1 and bits & 16)
            text += chr(48 + (bits if last else bits | 32))
            if last:
                break
    return text


@settings(max_examples=100, deadline=None)
@given(MASKS)
def test_there_and_back(mask: np.ndarray) -> None:
    assert run_lengths(packed(runs_of(mask))) == runs_of(mask)
    assert np.array_equal(mask_of_runs(runs_of(mask), *mask.shape), mask)


@settings(max_examples=100, deadline=None)
@given(MASKS)
def test_against_pycocotools(mask: np.ndarray) -> None:
    text = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
    assert np.array_equal(mask_of_runs(run_lengths(text), *mask.shape), mask)
    assert text == packed(runs_of(mask)), "the writer of these tests is right too"


def test_large_masks_against_pycocotools() -> None:
    mask = np.zeros((2048, 2500), bool)
    mask[300:1700, 40:2300] = True
    mask[500:505, 100:2000:7] = False
    text = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
    assert np.array_equal(mask_of_runs(run_lengths(text), 2048, 2500), mask)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("PVWX", "ends in the middle"),
        ("\x1f", "is none of compressed"),
        ("6é", "'é' is none of"),
        ("o" * 40 + "1", "longer than any image"),
    ],
)
def test_damaged_text(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        run_lengths(text)


@pytest.mark.parametrize(
    ("runs", "sentence"),
    [
        ([3, 2], r"runs of 5 pixels together, but 3x2 has 6"),
        ([3, 4], "runs of 7 pixels"),
        ([], "runs of 0 pixels"),
        ([7, -1], "a run of -1 pixels"),
        ([6, True], "a run of True pixels"),
        ([10**30], "pixels together"),
    ],
)
def test_runs_that_do_not_fill_the_image(runs: list[int], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        mask_of_runs(runs, 2, 3)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=30))
def test_any_text_is_runs_or_a_reason(text: str) -> None:
    try:
        runs = run_lengths(text)
    except ValueError:
        return
    assert all(isinstance(run, int) for run in runs)
