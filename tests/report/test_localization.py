"""The localisation table: what is marked, what stands beside it, and how it stays short."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from radlens.report.columns import columns
from radlens.report.contents import RunContents, read_run
from radlens.report.false_alarms import false_alarms
from radlens.report.findings import findings
from radlens.report.interval_cells import estimated, signed_text
from radlens.report.lesion_sizes import lesion_sizes
from radlens.report.localization import Localization, localization
from radlens.report.page import render
from radlens.report.tables import Cell, Table

Make = Callable[..., RunContents]
KNOWN = columns(())


def row(setting: str, method: str, layer: str, lift: float, beats: bool | None = None, **more: Any) -> dict[str, Any]:
    place = {"setting": setting, "method": method, "layer": layer, "label": "all", "images": 20, "patients": 15}
    scores = {"lift": lift, "lift_low": lift - 0.1, "lift_high": lift + 0.1, "hit_rate": 1.0, "hit_rate_low": None}
    gain = {"lift_best_baseline": 1.5, "lift_on_same_pairs": lift, "pairs_compared": 20, "maps": 20, "reason": None}
    against = {"lift_difference": lift - 1.5, "lift_difference_low": None, "lift_difference_high": None}
    if beats is not None:
        against |= {"lift_difference_low": lift - 1.6, "lift_difference_high": lift - 1.4}
    return place | scores | gain | against | {"beats_baseline": beats} | more


def found(run: RunContents) -> Localization:
    made = localization(run, KNOWN)
    assert made is not None
    return made


def cells(table: Table, place: int) -> dict[str, Cell]:
    return dict(zip([head.text for head in table.heads], table.rows[place].cells, strict=True))


def test_best_is_marked_only_where_it_beats_the_baseline_beyond_chance(contents: Make) -> None:
    better = [row("probe", "cam", "-1", 1.9, True), row("probe", "cam", "-3", 1.7, False)]
    table = found(contents(localization=better)).best
    assert [cells(table, place)["Lift ↑"].mark for place in (0, 1)] == ["best", ""]
    chance = [row("probe", "cam", "-1", 1.9, None), row("probe", "cam", "-3", 1.8, True)]
    table = found(contents(localization=chance)).best
    assert [cells(table, place)["Lift ↑"].mark for place in (0, 1)] == ["", ""]


def test_the_gain_says_above_below_or_neither(contents: Make) -> None:
    rows = [
        row("probe", "cam", "-1", 1.9, True),
        row("probe", "cam", "-2", 1.2, False),
        row("probe", "cam", "-3", 1.55, False),
        row("probe", "cam", "-5", 1.55, None, reason="not estimable: 4 patients, an interval needs 10"),
    ]
    table = found(contents(localization=rows)).best
    gains = [cells(table, place)["Difference"] for place in range(4)]
    assert [(gain.text, gain.kind) for gain in gains] == [
        ("✓ +0.40", "beats"),
        ("✗ −0.30", "below"),
        ("+0.05", ""),
        ("+0.05", "few"),
    ]
    assert gains[0].interval == "+0.30 to +0.50"
    assert gains[3].title == "not estimable: 4 patients, an interval needs 10"


def test_what_could_be_reached_is_no_map_that_never_saw_the_image(contents: Make) -> None:
    rows = [
        row("probe", "cam", "-1", 1.9, True),
        *(row("baseline", method, "-", 1.5) for method in ("centre", "oracle", "second-reader")),
        row("probe", "other-patient:cam", "-1", 1.4),
    ]
    names = [line.name for line in found(contents(localization=rows)).best.rows]
    assert names == [
        *("probe", "Maps that never saw the image", "centre", "What could be reached"),
        *("the region itself, on the patch grid", "a second reader’s region"),
    ]


def test_a_figure_without_an_interval_tells_its_own_reason(contents: Make) -> None:
    reasons = "hit_rate, iou: the same value in every replicate; dice: too few"
    table = found(contents(localization=[row("probe", "cam", "-1", 1.9, True, reason=reasons)])).best
    one = cells(table, 0)
    assert (one["Hit rate ↑"].kind, one["Hit rate ↑"].title) == ("few", "the same value in every replicate")
    assert (one["Lift ↑"].kind, one["Lift ↑"].interval) == ("", "1.80–2.00")


def test_many_kinds_of_map_leave_the_best_of_each_setting(contents: Make) -> None:
    rows = [row(s, "cam", f"-{at}", 1 + at / 10, True) for s in ("a", "b") for at in range(1, 9)]
    made = found(contents(localization=rows))
    assert [(line.name, line.cells[1].text) for line in made.best.rows] == [
        (setting, layer) for setting in ("a", "b") for layer in ("-6", "-7", "-8")
    ]
    assert "of 16 kinds of heatmap; they were chosen on these very images" in made.best.notes[0]
    assert made.every is not None and len(made.every.rows) == 16
    assert found(contents(localization=rows[:12])).every is None


def test_the_finding_does_not_call_chance_a_gain(contents: Make) -> None:
    def sentence(**one: Any) -> str:
        rows = [row("probe", "cam", "-1", 1.9, **one)]
        return next(s for s in findings(contents(localization=rows)) if s.startswith("Where it looks"))

    assert "the heatmaps there 1.90, which is more than chance." in sentence(beats=True)
    assert "the heatmaps there 1.90: the difference may be chance." in sentence(beats=False)
    assert "the heatmaps there 1.90: the difference cannot be told from chance." in sentence(beats=None)


def test_sizes_are_of_the_first_method_over_all_labels(contents: Make) -> None:
    rows = [
        {"size": size} | row("probe", method, "-1", 1.9, True, images=images)
        for size, images in (("small", 4), ("large", 30))
        for method in ("cam", "gradient")
    ] + [{"size": "large"} | row("baseline", "centre", "-", 1.0)]
    table = lesion_sizes(contents(localization_sizes=rows), KNOWN)
    assert table is not None and [line.name for line in table.rows] == ["small", "large"]
    small, large = (cells(table, place)["Lift ↑"] for place in (0, 1))
    assert (small.kind, large.kind) == ("few", "") and small.title.startswith("fewer than 10 images")
    assert lesion_sizes(contents(), KNOWN) is None


def test_false_alarms_show_intervals_or_reasons(contents: Make) -> None:
    def alarm(method: str, layer: str, label: str) -> dict[str, Any]:
        place = {"setting": "probe", "method": method, "layer": layer, "label": label}
        counts = {"images_absent": 40, "images_present": 4}
        area = {"area_absent": 0.2, "area_absent_low": 0.15, "area_absent_high": 0.25, "area_absent_reason": None}
        few = {"area_present": 0.3, "area_present_low": None, "area_present_reason": "not estimable: 4 patients"}
        return place | counts | area | few | {"auroc_strength": None, "called_positive": 0.5}

    rows = [alarm("cam", "-1", "Mass"), alarm("cam", "-3", "Mass"), alarm("gradient", "-", "Mass")]
    made = false_alarms(contents(false_alarms=rows), KNOWN)
    assert made is not None and made[1] is not None
    (line,) = made[0].rows
    absent, present, strength = line.cells[3:6]
    assert (absent.text, absent.interval) == ("20.0%", "15.0%–25.0%")
    assert (present.text, present.kind, present.title) == ("30.0%", "few", "not estimable: 4 patients")
    assert (strength.text, strength.kind) == ("—", "few")
    assert [one.cells[1].text for one in made[1].rows] == ["cam, layer -3", "gradient"]
    enough = alarm("cam", "-1", "Edema") | {"images_present": 10}
    made = false_alarms(contents(false_alarms=[*rows, enough]), KNOWN)
    assert made is not None and made[1] is not None
    assert [line.name for line in made[0].rows] == ["Edema"] and len(made[1].rows) == 3
    assert false_alarms(contents(), KNOWN) is None


def test_figures_of_a_run_without_intervals_are_not_grey() -> None:
    assert estimated({"lift": "1.5"}, "lift", KNOWN["lift"]) == Cell("1.50")
    assert estimated({"lift": "1.5", "lift_low": "", "reason": "why"}, "lift", KNOWN["lift"]).kind == "few"
    assert signed_text(-0.25, "number") == "−0.25" and signed_text(float("nan"), "number") == "—"


def test_a_run_without_tests_does_not_speak_of_intervals(whole_run: Path) -> None:
    made = localization(read_run(whole_run), KNOWN)
    assert made is not None and not made.tested
    looks = render(read_run(whole_run)).split('<section id="looks">')[1].split("</section>")[0]
    assert "interval" not in looks
