"""Depth by setting: only supported differences are marked, and a lack of support is not called equality."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from radlens.report.columns import columns
from radlens.report.contents import RunContents
from radlens.report.depth import DepthMatrix, depth_matrices

Make = Callable[..., RunContents]


def at(setting: str, layer: str, mean: float, **more: Any) -> dict[str, Any]:
    blank = {
        f"{which}_{name}": None
        for which in ("layer", "setting")
        for name in ("reference", "difference", "low", "high", "supported", "reason")
    }
    place = {"method": "grad-cam", "score": "lift", "label": "all", "setting": setting, "layer": layer}
    ends = {"mean": mean, "mean_low": mean - 0.1, "mean_high": mean + 0.1, "mean_reason": None}
    return place | ends | blank | more


def moved(which: str, reference: str, difference: float, supported: bool | None, reason: str = "") -> dict[str, Any]:
    ends = {"low": difference - 0.05, "high": difference + 0.05} if supported is not None else {}
    found = {"reference": reference, "difference": difference, "supported": supported, "reason": reason} | ends
    return {f"{which}_{name}": value for name, value in found.items()}


def one(run: RunContents) -> DepthMatrix:
    (matrix,) = depth_matrices(run, columns(()))
    return matrix


def test_supported_differences_are_marked_by_direction(contents: Make) -> None:
    rows = [
        at("zero-shot", "-1", 1.5),
        at("zero-shot", "-5", 1.9, **moved("layer", "-1", 0.4, True)),
        at("probe", "-1", 1.2, **moved("setting", "zero-shot", -0.3, True)),
        at("probe", "-5", 1.3, **moved("layer", "-1", 0.1, False), **moved("setting", "zero-shot", -0.6, False)),
    ]
    matrix = one(contents(depth_matrix=rows))
    cells = {row.name: [cell.text for cell in row.cells] for row in matrix.overall.rows}
    assert cells == {"zero-shot": ["1.50", "▲ 1.90"], "probe": ["▽ 1.20", "1.30"]}
    assert matrix.overall.rows[0].cells[0].interval == "1.40–1.60"
    depth, setting = matrix.sentences
    assert depth.startswith("Depth moves the maps: zero-shot, layer -5 against layer -1 by +0.40 (+0.35 to +0.45)")
    assert "probe against zero-shot at layer -1 by −0.30 (−0.35 to −0.25), at 1 of 2 layers" in setting


def test_no_support_is_told_apart_from_no_answer(contents: Make) -> None:
    first = at("zero-shot", "-1", 1.5)
    not_supported = at("zero-shot", "-5", 1.9, **moved("layer", "-1", 0.4, False))
    assert one(contents(depth_matrix=[first, not_supported])).sentences == (
        "No difference between depths is supported: each may be chance.",
    )
    why = "not estimable: 4 patients, an interval needs 10"
    unknown = at("zero-shot", "-5", 1.9, mean_low=None, **moved("layer", "-1", 0.4, None, why))
    matrix = one(contents(depth_matrix=[first, unknown]))
    assert matrix.sentences == (f"Whether depths differ cannot be told: {why}.",)
    assert matrix.overall.rows[0].cells[1].kind == "few"


def test_labels_stand_apart_and_methods_without_depth_are_left_out(contents: Make) -> None:
    rows = [at("probe", "-1", 1.5), at("probe", "-1", 1.4, label="Mass"), at("probe", "-", 1.1, method="gradient")]
    matrix = one(contents(depth_matrix=rows))
    assert matrix.method == "grad-cam" and matrix.labels is not None
    assert [(row.name, row.cells[1].text) for row in matrix.labels.rows] == [("Mass", "1.40")]
    flat = one(contents(depth_matrix=[at("probe", "-", 1.1, method="gradient")]))
    assert flat.method == "gradient" and [head.text for head in flat.overall.heads] == ["no depth"]
    assert depth_matrices(contents(), columns(())) == ()
