"""How alike maps are: the verb follows the figures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from radlens.report.columns import columns
from radlens.report.contents import RunContents
from radlens.report.map_similarity import MapSimilarity, map_similarity

Make = Callable[..., RunContents]


def pair(kind: str = "settings", **more: Any) -> dict[str, Any]:
    sides = {"setting_a": "zero-shot", "setting_b": "probe", "method_a": "grad-cam", "method_b": "grad-cam"}
    place = {"kind": kind, **sides, "layer_a": "-1", "layer_b": "-1", "label": "all", "images": 30}
    figures = {"spearman": 0.93, "spearman_low": 0.91, "spearman_high": 0.95, "spearman_other_patient": 0.35}
    further = {"ssim": 0.8, "ssim_low": 0.7, "ssim_high": 0.9, "ssim_other_patient": 0.3, "reason": None}
    return place | figures | further | more


def found(run: RunContents) -> MapSimilarity:
    similarity = map_similarity(run, columns(()))
    assert similarity is not None
    return similarity


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        ({}, "probe keeps the maps of zero-shot: rank correlation 0.930 (0.910 to 0.950), against 0.350 between pat"),
        ({"spearman": 0.6, "spearman_low": 0.5}, "probe keeps the maps of zero-shot in part: rank correlation 0.600"),
        ({"spearman": 0.4, "spearman_low": 0.3}, "probe has maps of its own, no more like those of zero-shot than"),
        # films of one kind: high, and yet no more than between patients
        ({"spearman_other_patient": 0.92}, "probe has maps of its own"),
        (
            {"spearman_low": None, "spearman_high": None, "reason": "not estimable: 3 patients"},
            "probe against the maps of zero-shot: rank correlation 0.930 (no interval: not estimable: 3 patients)",
        ),
    ],
)
def test_the_verb_follows_the_figures(contents: Make, figures: dict[str, Any], said: str) -> None:
    (sentence,) = found(contents(map_similarity=[pair(**figures)])).sentences
    assert sentence.startswith(said)
    assert sentence.endswith("(grad-cam, layer -1).")


def test_one_sentence_a_setting_at_the_first_layer_and_the_rest_in_tables(contents: Make) -> None:
    rows = [
        *(
            pair(),
            pair(layer_a="-3", layer_b="-3"),
            pair(setting_b="tuned"),
            pair(setting_a="probe", setting_b="tuned"),
        ),
        pair("layers", setting_b="zero-shot", layer_b="-3"),
        pair("settings", method_a="gradient", method_b="gradient", layer_a="-", layer_b="-"),
        pair(label="Mass"),
        pair(images=0),
    ]
    similarity = found(contents(map_similarity=rows))
    assert len(similarity.sentences) == 2
    assert similarity.settings is not None and similarity.further is not None
    assert [(row.name, row.cells[0].text) for row in similarity.settings.rows] == [
        ("zero-shot, layer -1", "probe"),
        ("zero-shot, layer -3", "probe"),
        ("zero-shot, layer -1", "tuned"),
        ("probe, layer -1", "tuned"),
    ]
    assert [(row.name, row.cells[0].text) for row in similarity.further.rows] == [
        ("zero-shot: grad-cam, layer -1", "grad-cam, layer -3"),
        ("zero-shot, gradient", "probe"),
    ]


def test_a_run_that_compared_nothing_has_no_section(contents: Make) -> None:
    assert map_similarity(contents(), columns(())) is None
    assert map_similarity(contents(map_similarity=[pair(images=0)]), columns(())) is None
