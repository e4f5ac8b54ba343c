"""Curves behind the checks: where their points lie, and that names keep clear of the lines."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from radlens.report.contents import RunContents
from radlens.report.trust_curves import HEIGHT, WIDTH, Line, trust_curves

Make = Callable[..., RunContents]


def faithful(order: str, logits: tuple[float, ...], **more: str) -> list[dict[str, Any]]:
    drawn = {"method": "grad-cam", "layer": "-1"} if order == "map" else {"method": "", "layer": ""}
    place = {"setting": "probe", **drawn, "label": "all", "check": "deletion", "order": order} | more
    return [place | {"share": step / (len(logits) - 1), "logit": y} for step, y in enumerate(logits)]


def redrawn(stage: str, blocks: int | None, similarity: float, **more: Any) -> dict[str, Any]:
    place = {"setting": "probe", "method": "grad-cam", "layer": "-1", "label": "all", "stage": stage, "blocks": blocks}
    return place | {"similarity": similarity, "low": None, "high": None} | more


def points(line: Line) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in (point.split(",") for point in line.points.split(" "))]


@pytest.fixture
def falling(contents: Make) -> RunContents:
    rows = faithful("random", (2.0, 1.5, 0.0)) + faithful("prior", (2.0, 1.2, 0.0)) + faithful("map", (2.0, 0.5, 0.0))
    return contents(faithfulness_curves=rows)


def test_logits_lie_on_one_scale_with_the_highest_on_top(falling: RunContents) -> None:
    (curves,) = trust_curves(falling, {"probe": "#123456"}, "grad-cam", "-1")
    (panel,) = curves.panels
    lines = {line.name: points(line) for line in panel.lines}
    assert set(lines) == {"random order", "label’s mean region", "map"}
    top, middle, bottom = (y for _, y in lines["map"])
    assert top < middle < bottom
    # 0.5 lies three quarters of the way from 2 to 0
    assert (middle - top) / (bottom - top) == pytest.approx(0.75, abs=0.01)
    assert lines["map"][0] == lines["random order"][0] and lines["map"][-1] == lines["random order"][-1]
    assert next(line for line in panel.lines if line.name == "map").colour == "#123456"
    assert [text for _, text in panel.ticks] == ["2.00", "0.00"]


@pytest.mark.parametrize("logits", [(2.0, 0.5, 0.0), (0.0, 0.5, 2.0), (0.0, 1.9, 2.0), (1.0, 1.0, 1.0)])
def test_names_keep_clear_of_the_lines(contents: Make, logits: tuple[float, ...]) -> None:
    (curves,) = trust_curves(contents(faithfulness_curves=faithful("map", logits)), {}, "grad-cam", "-1")
    (line,) = curves.panels[0].lines
    x, y = map(float, line.key)
    assert 0 < x < WIDTH - 100 and 0 < y < HEIGHT
    path = points(line)
    for (ax, ay), (bx, by) in pairwise(path):
        for step in range(101):
            at = ax + (bx - ax) * step / 100, ay + (by - ay) * step / 100
            assert not (x <= at[0] <= x + 100 and y - 5 <= at[1] <= y + 5)


def test_a_method_without_depth_is_found_under_the_layer_of_its_curves(contents: Make) -> None:
    rows = faithful("map", (1.0, 0.0), method="gradient", layer="-3") + faithful("random", (1.0, 0.0))
    assert trust_curves(contents(faithfulness_curves=rows), {}, "gradient", "-")
    assert trust_curves(contents(faithfulness_curves=rows), {}, "other", "-") == ()


def test_only_all_labels_together_are_drawn(contents: Make) -> None:
    rows = faithful("map", (1.0, 0.0), label="Mass")
    assert trust_curves(contents(faithfulness_curves=rows), {}, "grad-cam", "-1") == ()
    assert trust_curves(contents(), {}, "grad-cam", "-1") == ()


def test_likeness_starts_at_one_and_stands_beside_that_of_other_patients(contents: Make) -> None:
    rows = [
        redrawn("head", 0, 0.8, low=0.7, high=0.9),
        redrawn("head and last 4 blocks", 4, 0.2),
        redrawn("all weights", None, 0.0),
        redrawn("other patients", None, 0.4),
    ]
    (curves,) = trust_curves(contents(randomisation_curves=rows), {}, "grad-cam", "-1")
    (panel,) = curves.panels
    own, others = panel.lines
    heights = [y for _, y in points(own)]
    assert len(heights) == 4 and heights == sorted(heights)  # 1, .8, .2, 0: downwards
    assert (heights[1] - heights[0]) / (heights[3] - heights[0]) == pytest.approx(0.2, abs=0.01)
    flat = points(others)
    assert flat[0][1] == flat[1][1] and heights[1] < flat[0][1] < heights[2]
    assert [text for _, text in panel.marks] == ["none", "head", "+4", "all"]
    assert len(own.whiskers) == 1
