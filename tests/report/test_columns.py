"""Digits, directions and who is best and worst."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radlens.report.columns import MISSING, columns, duration, marks, show

values = st.lists(st.one_of(st.just(math.nan), st.floats(0, 1)), max_size=6)


def test_higher_and_lower_is_better() -> None:
    assert marks([0.1, 0.3, 0.2], 1, "share") == ["worst", "best", ""]
    assert marks([0.1, 0.3, 0.2], -1, "share") == ["best", "worst", ""]


def test_ties_are_marked_for_all_and_what_prints_alike_ties() -> None:
    assert marks([31.890, 22.7, 31.894], 1, "distance") == ["best", "worst", "best"]
    assert marks([0.2001, 0.2002], 1, "share") == ["", ""]


@pytest.mark.parametrize("given", [[], [0.5], [math.nan, 0.5], [math.nan, math.nan]])
def test_nobody_is_best_alone(given: list[float]) -> None:
    assert marks(given, 1, "share") == [""] * len(given)


def test_no_direction_no_mark() -> None:
    assert marks([0.1, 0.9], 0, "share") == ["", ""]


@given(values)
def test_marks_agree_with_a_slow_reading_of_the_printed_figures(found: list[float]) -> None:
    named = marks(found, 1, "share")
    printed = [None if math.isnan(v) else f"{v:.3f}" for v in found]
    known = sorted({p for p in printed if p is not None}, key=float)
    for mark, text in zip(named, printed, strict=True):
        wanted = "" if text is None or len(known) < 2 else {known[-1]: "best", known[0]: "worst"}.get(text, "")
        assert mark == wanted
    assert marks(found, -1, "share") == [{"best": "worst", "worst": "best"}.get(m, "") for m in named]


def test_the_run_states_text_and_direction() -> None:
    known = columns([{"column": "coverage_error", "direction": "higher", "text": "mine"}, {"column": "new_one"}])
    assert (known["coverage_error"].direction, known["coverage_error"].text) == (1, "mine")
    assert known["new_one"].heading == "New one"
    assert known["ranking_loss"].direction == -1
    assert columns([{"column": "f1", "direction": None}])["f1"].direction == 1
    assert columns([{"column": "f1", "direction": "none"}])["f1"].direction == 0
    assert columns([{"column": "f1", "direction": -1}])["f1"].direction == -1


def test_digits() -> None:
    assert show(math.nan, "share") == MISSING
    assert show(math.inf, "share") == MISSING
    assert show(31.894, "distance") == "31.89"
    assert show(0.05123, "distance") == "0.0512"
    assert show(86_200_000, "count") == "86\u202f200\u202f000"
    assert show(0.1234, "percent") == "12.3%"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4242, "0.42 s"), (12.34, "12.3 s"), (59.97, "1 min 0 s"), (254, "4 min 14 s"), (7500, "2 h 5 min")],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text
