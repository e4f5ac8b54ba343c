"""May the heatmaps be believed: counts, verdicts, checks, and what was not tested."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from radlens.report.contents import RunContents, read_run
from radlens.report.page import render
from radlens.report.trust import TrustSection, opening, trust_section
from radlens.report.trust_findings import believed
from radlens.report.verdicts import trust_verdicts

Make = Callable[..., RunContents]
ALL_CHECKS = "lift, deletion, insertion, road, randomisation, class-specific, stability, text"


def card(setting: str, layer: str, label: str, verdict: str, **more: str) -> dict[str, Any]:
    lists = {"passed": "", "failed": "", "open": "", "missing": ""} | {k: v for k, v in more.items() if k != "reason"}
    place = {"setting": setting, "method": more.pop("method", "grad-cam"), "layer": layer, "label": label}
    lists.pop("method", None)
    return place | {"verdict": verdict, "reason": more.get("reason", f"{verdict}: why")} | lists


def proof(setting: str, layer: str, label: str, check: str, passed: bool | None, **more: Any) -> dict[str, Any]:
    place = {"setting": setting, "method": "grad-cam", "layer": layer, "label": label, "check": check}
    return place | {"value": 1.5, "rival": 1.2, "patients": 20, "passed": passed, "reason": f"{check} said so"} | more


CARDS = [
    card("zero-shot", "-1", "Edema", "may be believed", passed=ALL_CHECKS),
    card("zero-shot", "-1", "Mass", "contradicted", passed="lift", failed="road", open="stability"),
    card("zero-shot", "-1", "Hernia", "not shown", missing=ALL_CHECKS),
    card("zero-shot", "-1", "Nodule", "not shown", missing=ALL_CHECKS),
    card("zero-shot", "-1", "all", "contradicted", failed="road", passed="lift, text", open="stability"),
    card("probe", "-1", "Edema", "refused", passed="lift", reason="Refused, constant maps: 9 of 10."),
    card("probe", "-1", "Mass", "not shown", open="lift", missing="road"),
    card("probe", "-1", "Hernia", "not shown", missing=ALL_CHECKS),
    card("probe", "-1", "Nodule", "not shown", missing=ALL_CHECKS),
    card("probe", "-1", "all", "not shown", open="lift"),
]
PROOFS = [
    proof("zero-shot", "-1", "all", "lift", True),
    proof("zero-shot", "-1", "all", "road", True, value=0.9),
    proof("zero-shot", "-1", "all", "road", False, value=0.01, rival=0.062),
    proof("zero-shot", "-1", "all", "text", True, value=0.8),
    proof("zero-shot", "-1", "all", "stability", True, value=0.9, reason="first"),
    proof("zero-shot", "-1", "all", "stability", None, value=0.4, reason="second decides"),
    proof("zero-shot", "-1", "Mass", "lift", True),
    proof("zero-shot", "-1", "Mass", "stability", None),
    proof("zero-shot", "-1", "Mass", "road", False),
    proof("probe", "-1", "Mass", "lift", None, patients=4),
]


@pytest.fixture
def run(contents: Make) -> RunContents:
    return contents(trust_cards=CARDS, trust_evidence=PROOFS)


def whole(run: RunContents) -> TrustSection:
    section = trust_section(run, {})
    assert section is not None
    return section


def test_the_opening_counts_labels_and_not_all_of_them_together(run: RunContents) -> None:
    assert opening(trust_verdicts(run)) == (
        "Of 8 kinds of heatmap (a setting, method, depth and label each) 1 may be believed, 1 is contradicted, "
        "1 is refused and 5 are not shown. 4 of them were put to no check at all."
    )


def test_nothing_believed_is_said_as_none(contents: Make) -> None:
    untried = contents(trust_cards=[card("probe", "-1", "Mass", "not shown", missing=ALL_CHECKS)])
    text = opening(trust_verdicts(untried))
    assert "none may be believed and 1 is not shown. All of them were put to no check at all." in text


def test_a_cell_is_glyph_word_colour_and_reason(run: RunContents) -> None:
    (block,) = whole(run).first
    assert [head.text for head in block.table.heads] == ["zero-shot", "probe"]
    rows = {row.name: row.cells for row in block.table.rows}
    assert list(rows) == ["All labels", "Edema", "Mass", "Put to no check", "2 labels"]
    assert [(c.text, c.kind) for c in rows["Edema"]] == [
        ("✓ may be believed", "verdict believed"),
        ("⊘ refused", "verdict refused"),
    ]
    assert rows["Edema"][1].title == "Refused, constant maps: 9 of 10."
    assert rows["Mass"][0].text == "✗ contradicted" and rows["Mass"][1].text == "? not shown"
    assert next(row.title for row in block.table.rows if row.name == "2 labels") == "Hernia, Nodule"


def test_long_reasons_leave_the_cell_to_the_names_of_checks(contents: Make) -> None:
    one = card("probe", "-1", "Mass", "contradicted", failed="lift", open="road", reason="w" * 401)
    (block,) = whole(contents(trust_cards=[one])).first
    assert block.table.rows[0].cells[0].title == "failed: lift; no answer: road"


def test_many_layers_have_a_table_each(contents: Make) -> None:
    cards = [card(s, at, "Mass", "not shown", open="lift") for s in ("a", "b") for at in ("-1", "-2", "-3", "-4")]
    section = whole(contents(trust_cards=cards))
    assert [block.title for block in section.first] == [f"grad-cam, layer {at}" for at in ("-1", "-2", "-3", "-4")]
    assert all(len(block.table.heads) == 2 for block in section.first)
    few = whole(contents(trust_cards=[c for c in cards if c["layer"] in {"-1", "-2"}]))
    assert [group.text for group in few.first[0].table.groups] == ["layer -1", "layer -2"]
    assert [group.span for group in few.first[0].table.groups] == [2, 2]


def test_other_methods_come_after_the_study_s_first(contents: Make) -> None:
    further = [c | {"method": "input-gradient", "layer": "-"} for c in CARDS]
    section = whole(contents(trust_cards=[*CARDS, *further]))
    assert (section.method, section.layer) == ("grad-cam", "-1")
    assert [block.title for block in section.further] == ["input-gradient"]


def test_each_check_shows_what_decided_it(run: RunContents) -> None:
    (block,) = whole(run).checks
    rows = {row.name: row.cells for row in block.table.rows}
    assert (rows["lift"][1].text, rows["lift"][1].interval) == ("✓", "1.50 / 1.20")
    assert (rows["road"][1].text, rows["road"][1].interval) == ("✗", "0.010 / 0.062")
    assert rows["road"][1].title == "failed: road said so"
    # two rows of one check: that without an answer holds up the verdict
    assert (rows["stability"][1].text, rows["stability"][1].interval) == ("?", "0.40 / 1.20")
    assert rows["stability"][1].title == "no answer: second decides"
    # the probe has no text and no row of it
    assert (rows["text"][2].text, rows["text"][2].title) == ("—", "does not apply to this setting")
    assert all(cells[0].text.endswith(("?", ".")) for cells in rows.values())


def test_reasons_stand_once_with_the_maps_that_they_hold_for(run: RunContents) -> None:
    grounds = whole(run).grounds
    assert len(grounds) == 5  # Hernia and Nodule of both settings share one sentence
    mass = next(ground for ground in grounds if ground.maps == "zero-shot, layer -1: Mass")
    assert [(glyph, check) for glyph, check, _ in mass.parts] == [("✗", "road"), ("?", "stability"), ("✓", "lift")]
    assert grounds[-1].maps == "zero-shot, layer -1: Hernia, Nodule; probe, layer -1: Hernia, Nodule"
    assert grounds[-1].parts == ()


def test_what_was_not_tested_is_told_with_how_to_test_it(contents: Make) -> None:
    lift_alone = [card("probe", "-1", "Mass", "not shown", passed="lift, class-specific", missing="deletion, text")]
    (note,) = whole(contents(trust_cards=lift_alone)).untested
    assert note.startswith("Not tested in this run: deletion, text.") and "explain: {trust: true}" in note
    no_regions = [card("probe", "-1", "Mass", "not shown", passed="deletion", missing="lift, class-specific")]
    (note,) = whole(contents(trust_cards=no_regions)).untested
    assert note.startswith("Not tested in this run: lift, class-specific.") and "annotations" in note


def test_labels_that_no_check_was_made_for_are_named(run: RunContents, contents: Make) -> None:
    notes = whole(run).untested
    assert [n for n in notes if n.startswith("No check could be made for Hernia, Nodule: no explained film shows them")]
    scored = contents(trust_cards=CARDS, localization=[{"setting": "probe", "method": "grad-cam", "layer": "-1"}])
    assert any("has a marked region of them" in note for note in whole(scored).untested)


def test_the_finding_names_what_may_be_believed_and_what_fails(run: RunContents) -> None:
    text = believed(run)
    assert text.startswith("May the heatmaps be believed: of 8 kinds of heatmap")
    assert "Those that may: Edema in zero-shot (grad-cam, layer -1)." in text
    assert "The checks that contradict most often: road (1)." in text
    assert "1 is not shown because fewer than 10 patients leave a check open." in text


def test_a_run_without_cards_has_no_section(contents: Make, whole_run: Path) -> None:
    assert trust_section(contents(), {}) is None
    assert believed(contents()) == ""
    assert 'id="trust"' not in render(read_run(whole_run))


def test_everything_of_the_cards_is_escaped(build: Callable[..., Path], tmp_path: Path, folders: Any) -> None:
    run = build(tmp_path / "run", saliency=False)
    bad = "<img src=x onerror=alert(1)>"
    cards = [card(bad, "-1", bad, bad, failed="lift", reason=bad), card("probe", "-1", "Mass", "refused", open=bad)]
    folders._csv(run / "tables" / "trust_cards.csv", cards)
    folders._csv(run / "tables" / "trust_evidence.csv", [proof(bad, "-1", bad, "lift", False, reason=bad)])
    page = render(read_run(run))
    assert 'id="trust"' in page and "<img" not in page and "&lt;img src=x onerror=alert(1)&gt;" in page
