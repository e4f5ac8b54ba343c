"""From pairs to the lift's answer, and from all evidence to a verdict that believes nothing by default."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from radlens.core.patient_means import patient_means
from radlens.core.regions import SaliencyMaps
from radlens.explain.trust import lift
from radlens.explain.trust.evidence import evidence
from radlens.explain.trust.lift import lift_check
from radlens.explain.trust.paired import Comparison, answers, decisive
from radlens.explain.trust.text_controls import NO_TEXT
from radlens.explain.trust.verdict import CARDS, DEFINITIONS, FLAGS, NEEDED, VERDICTS, map_flags, trust_cards

PLACE = {"setting": "zero-shot", "method": "grad-cam", "layer": "-1", "label": "Edema"}


def pairs_of(
    own: float, centre: float = 1.0, prior: float | None = 1.4, other: float = 1.2, count: int = 20, spread: float = 0.3
) -> pl.DataFrame:
    random = np.random.default_rng(0)
    maps = {
        ("zero-shot", "grad-cam", "-1"): own,
        ("zero-shot", "other-patient:grad-cam", "-1"): other,
        ("baseline", "centre", "-"): centre,
        ("baseline", "label-prior", "-"): prior,
        ("baseline", "oracle", "-"): 9.0,
    }
    rows = [
        (*key, "Edema", f"i{at}", f"p{at // 2}", mean + random.normal() * spread)
        for at in range(count)
        for key, mean in maps.items()
        if mean is not None
    ]
    names = ["setting", "method", "layer", "label", "image_id", "patient_id", "lift"]
    return pl.DataFrame(rows, schema=names, orient="row")


def test_lift_is_held_against_the_nearest_baseline() -> None:
    pairs = pairs_of(2.0)
    table = lift_check(pairs)
    assert table["label"].to_list() == ["Edema", "all"]
    row = table.row(0, named=True)
    wide = pairs.with_columns(name=pl.col("setting") + pl.col("method")).pivot("name", index="image_id", values="lift")
    own, prior = wide["zero-shotgrad-cam"].to_numpy(), wide["baselinelabel-prior"].to_numpy()
    expected = patient_means(own - prior, [f"p{at // 2}" for at in range(20)])
    assert row["value"] == pytest.approx(own.mean()) and row["rival"] == pytest.approx(prior.mean())
    assert (row["difference"], row["low"], row["high"]) == pytest.approx(
        (expected.value[0], expected.low[0], expected.high[0])
    )
    assert row["passed"] is True and (row["images"], row["patients"]) == (20, 10)
    assert row["reason"].startswith(f"lift {own.mean():.2f} against {prior.mean():.2f} of the label's mean region")


@pytest.mark.parametrize(
    ("changed", "passed", "rival"),
    [
        ({"own": 2.0, "centre": 3.0}, False, "a spot at the centre"),
        ({"own": 2.0, "other": 1.98}, None, "the same label's map of another patient"),
        ({"own": 2.0, "prior": None}, None, "no image has both"),
        ({"own": 2.0, "count": 18}, None, "9 patients, an interval needs 10"),
        ({"own": 0.5}, False, "mean region"),
    ],
)
def test_lift_fails_stays_open_or_has_no_rival(changed: dict[str, float], passed: bool | None, rival: str) -> None:
    row = lift_check(pairs_of(**changed)).row(0, named=True)  # type: ignore[arg-type]
    assert row["passed"] is passed and rival in row["reason"]


def test_answers_use_pairs_that_both_have_and_margins() -> None:
    random = np.random.default_rng(1)
    theirs = random.normal(0, 0.1, (30, 1))
    own = theirs - 0.05 + random.normal(0, 0.01, (30, 1))
    own[3], theirs[5] = np.nan, np.nan
    patients = [f"p{at}" for at in range(30)]
    (strict,), (lenient,) = (answers(Comparison("x", own, theirs), patients, margin=m) for m in (0.0, 0.1))
    assert strict.passed is False and lenient.passed is True and strict.images == 28
    both = ~np.isnan(own - theirs)
    assert strict.value == pytest.approx(own[both].mean()) and strict.rival == pytest.approx(theirs[both].mean())
    (turned,) = answers(Comparison("x", own, theirs), patients, higher=False)
    assert turned.passed is True and turned.difference == pytest.approx(-strict.difference)
    # the same in every patient: no interval, but an answer
    (equal,) = answers(Comparison("x", np.ones((12, 1)), np.ones((12, 1))), patients[:12])
    (better,) = answers(Comparison("x", np.ones((12, 1)), np.zeros((12, 1))), patients[:12])
    assert equal.passed is False and better.passed is True and np.isnan(better.low)
    assert equal.interval() == "difference 0.00 in each of 12 patients"
    (few,) = answers(Comparison("x", np.ones((9, 1)), np.zeros((9, 1))), patients[:9])
    assert few.passed is None and "9 patients, an interval needs 10" in few.interval()
    assert decisive([turned, few, strict]) is strict and decisive([turned, few]) is few
    assert decisive([better, turned]) is turned


def rows_of(**passed: bool | None) -> pl.DataFrame:
    """All checks passed, but for those named; `absent` leaves one out."""
    state = dict.fromkeys(NEEDED, True) | {name.replace("_", "-"): answer for name, answer in passed.items()}
    return evidence(
        [PLACE | {"check": name, "passed": answer, "reason": f"{name} figure"} for name, answer in state.items()]
    )


def flags_of(maps: int = 20, constant: int = 0, invariant: int = 0) -> pl.DataFrame:
    return pl.DataFrame([(*PLACE.values(), maps, constant, invariant)], schema=FLAGS, orient="row")


def card(table: pl.DataFrame, **flags: int) -> dict[str, str]:
    cards = trust_cards(table, flags_of(**flags))
    assert cards.schema == pl.Schema(CARDS) and len(cards) == 1
    found = cards.row(0, named=True)
    assert found["verdict"] in VERDICTS
    return found


def test_all_passed_may_be_believed_with_figures() -> None:
    found = card(rows_of())
    assert found["verdict"] == "may be believed" and found["passed"] == ", ".join(NEEDED)
    assert found["reason"].startswith("May be believed: lift figure; deletion figure")


@pytest.mark.parametrize("check", NEEDED)
def test_one_failure_contradicts_and_one_missing_check_is_not_shown(check: str) -> None:
    failed = card(rows_of(**{check: False}))
    assert failed["verdict"] == "contradicted" and failed["failed"] == check
    assert failed["reason"] == f"Contradicted by {check}: {check} figure."
    missing = card(rows_of().filter(pl.col("check") != check))
    assert missing["verdict"] == "not shown" and missing["missing"] == check
    assert missing["reason"] == f"Not shown: never put to {check}."


@pytest.mark.parametrize("check", NEEDED)
def test_an_open_check_is_not_shown_but_for_one_of_faithfulness(check: str) -> None:
    found = card(rows_of(**{check: None}))
    spared = check in ("deletion", "insertion", "road")
    assert found["verdict"] == ("may be believed" if spared else "not shown") and found["open"] == check
    if not spared:
        assert found["reason"] == f"Not shown: no answer from {check} ({check} figure)."
    assert card(rows_of(deletion=None, road=None))["verdict"] == "not shown"


def test_nothing_known_is_not_shown() -> None:
    found = card(evidence([]))
    assert found["verdict"] == "not shown" and found["missing"] == ", ".join(NEEDED)


def test_settings_without_text_need_no_text() -> None:
    without = pl.concat(
        [
            rows_of().filter(pl.col("check") != "text"),
            evidence([PLACE | {"check": "text", "passed": None, "reason": NO_TEXT}]),
        ]
    )
    found = card(without)
    assert found["verdict"] == "may be believed" and found["missing"] == "" and found["open"] == ""


def test_other_checks_count_when_they_fail_and_rows_of_one_check_together() -> None:
    seeds = evidence([PLACE | {"check": "seeds", "passed": False, "reason": "seeds differ"}])
    assert card(pl.concat([rows_of(), seeds]))["verdict"] == "contradicted"
    again = evidence([PLACE | {"check": "lift", "passed": None, "reason": "second lift"}])
    found = card(pl.concat([rows_of(), again]))
    assert found["verdict"] == "not shown" and "(second lift)" in found["reason"]


def test_meaningless_maps_are_refused_by_name_whatever_they_score() -> None:
    assert card(rows_of(), constant=9)["verdict"] == "may be believed"
    constant = card(rows_of(), constant=10)
    assert constant["verdict"] == "refused" and "constant maps: 10 of 20" in constant["reason"]
    invariant = card(rows_of(), invariant=20)
    assert invariant["verdict"] == "refused" and "label-invariant maps: 20 of 20" in invariant["reason"]
    dead = {
        ("zero-shot", "-1"): "the head's weights are all zero",
        ("zero-shot", "blocks.11.mlp"): "class-token pooling",
    }
    cards = trust_cards(rows_of(), flags_of(), dead)
    assert cards["verdict"].to_list() == ["refused", "refused"]
    assert cards["layer"].to_list() == ["-1", "blocks.11.mlp"] and cards["label"].to_list() == ["Edema", "all"]
    assert cards["reason"][1] == "Refused, zero gradient: class-token pooling."


def test_flags_are_counted_by_label_and_place() -> None:
    maps = SaliencyMaps(
        ("a", "b", "c"),
        ("A", "B"),
        ("m", "n"),
        ("-1",),
        np.zeros((3, 2, 2, 1, 2, 2), np.float16),
        dict.fromkeys([(0, 0, 1, 0), (2, 1, 0, 0)], "constant")
        | dict.fromkeys([(1, 0, 1, 0), (2, 0, 1, 0)], "label-invariant"),
    )
    table = map_flags({"s": maps}, {"A": ["a", "b"]})
    figures = {(row[1], row[3]): row[4:] for row in table.iter_rows()}
    assert figures[("n", "A")] == (2, 1, 1) and figures[("m", "B")] == (3, 1, 0)
    assert figures[("m", "A")] == (2, 0, 0) and figures[("n", "all")] == (5, 1, 1)


def test_every_check_of_this_room_is_defined() -> None:
    stated = {one["column"] for one in DEFINITIONS}
    assert {lift.CHECK, "randomisation", "class-specific", "text", "verdict"} <= stated
