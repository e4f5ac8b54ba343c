"""Power at a setting's own validation rates, or at assumed ones that are named."""

from __future__ import annotations

import numpy as np
import pytest

from radlens.evaluate.resampling.power import power_of_f1, power_statement
from radlens.evaluate.resampling.power_table import power_table


def case() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    test = np.zeros((200, 4), np.float32)
    test[:40, 0], test[:30, 1], test[:20, 2] = 1, 1, 1
    val, called = np.zeros((100, 4), np.float32), np.zeros((100, 4), np.int8)
    val[:20, 0], called[:16, 0], called[90:, 0] = 1, 1, 1  # recall .8, false positive rate 10 / 80
    val[:9, 1] = 1  # too few to know
    val[:10, 2], called[:10, 2] = 1, 1  # all found, none called in vain
    val[:5, 3] = np.nan
    return test, val, called


def test_known_rates_are_those_of_validation() -> None:
    row = power_table("s", "abcd", *case()).row(0, named=True)
    assert (row["rates"], row["recall"], row["false_positive_rate"]) == ("validation", 0.8, 0.125)
    expected = power_of_f1(40, 160, recall=0.8, false_positive_rate=0.125)
    assert expected is not None
    assert (row["f1"], row["f1_low"], row["difference"]) == (expected.f1, expected.low, expected.difference)
    start = power_statement(40, 160, recall=0.8, false_positive_rate=0.125)
    assert row["statement"] == f"{start} (at its validation recall .80 and false positive rate .125)"


def test_unknown_rates_are_assumed_and_named() -> None:
    row = power_table("s", "abcd", *case()).row(1, named=True)
    assert (row["rates"], row["recall"]) == ("assumed", 0.5)
    assert row["statement"] == (
        f"{power_statement(30, 170)} (at an assumed recall of .50: validation has 9 positives and 91 negatives)"
    )


def test_a_faultless_validation_leaves_room_for_chance() -> None:
    row = power_table("s", "abcd", *case()).row(2, named=True)
    assert row["recall"] == pytest.approx(0.95) and row["false_positive_rate"] == pytest.approx(0.5 / 90)
    assert row["f1_low"] < row["f1_high"]


def test_without_test_positives_nothing_is_said() -> None:
    row = power_table("s", "abcd", *case()).row(3, named=True)
    assert row["statement"] == "0 test positives: nothing can be said of F1" and np.isnan(row["difference"])
    assert (row["val_positives"], row["val_negatives"]) == (0, 95)
