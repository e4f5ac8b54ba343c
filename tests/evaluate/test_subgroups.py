"""Groups of images: who is in one, and a gap that is really there."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from radlens.core.parts import MetricInput
from radlens.core.vocabulary import vocabulary_from_dict
from radlens.evaluate.resampling.setting_scores import SettingScores
from radlens.evaluate.subgroups import subgroup_table, subgroups_of

LABELS = vocabulary_from_dict(
    {"name": "v", "label": [{"name": n, "positive": ["a"], "negative": ["b"]} for n in ("Edema", "Fracture")]}
)


def test_groups_are_values_bands_and_large_enough() -> None:
    table = pl.DataFrame(
        {
            "view": ["PA"] * 30 + ["AP"] * 20 + ["lateral"] * 3 + [None] * 7,
            "age": [str(20 + k) for k in range(60)],
            "sex": ["F"] * 60,
            "row": list(range(60)),
        }
    )
    found = subgroups_of(table)
    assert list(found) == ["view", "age"]
    assert set(found["view"][:50]) == {"PA", "AP"} and set(found["view"][50:]) == {None}
    assert found["age"][0] == "under 40" and found["age"][20] == "40 to 64" and found["age"][59] == "65 and over"
    assert list(subgroups_of(table, ["sex"])) == []


@pytest.fixture(scope="module")
def scores() -> tuple[SettingScores, np.ndarray]:
    rng = np.random.default_rng(0)
    count = 400
    group = np.array(["PA", "AP"], dtype=object)[rng.integers(0, 2, count)]
    targets = (rng.random((count, 2)) < 0.4).astype(np.float32)
    # the score knows the label on PA films and nothing on AP films
    signal = np.where((group == "PA")[:, None], targets * 0.5, 0.0)
    probabilities = np.clip(0.25 + signal + rng.normal(0, 0.1, (count, 2)), 0.01, 0.99)
    inputs = MetricInput(probabilities, targets, (probabilities > 0.5).astype(np.int8))
    return SettingScores("probe", inputs, [f"p{k // 2}" for k in range(count)]), group


def test_a_gap_that_is_there_is_found(scores: tuple[SettingScores, np.ndarray]) -> None:
    result, group = scores
    table = subgroup_table([result], {"view": group}, LABELS, replicates=300)
    rows = {(r["group"], r["name"]): r for r in table.filter(metric="auroc").to_dicts()}
    good, poor = rows["PA", "Edema"], rows["AP", "Edema"]
    inside = group == "PA"
    truth, score = result.inputs.targets[inside, 0], result.inputs.scores[inside, 0]
    pairs = score[truth == 1][:, None] - score[truth == 0][None]
    assert good["value"] == pytest.approx(((pairs > 0) + 0.5 * (pairs == 0)).mean())
    assert good["images"] == inside.sum() and good["n_positives"] == (truth == 1).sum()
    assert good["gap"] == pytest.approx(good["value"] - poor["value"])
    assert good["gap_low"] > 0 and poor["gap_high"] < 0
    assert good["low"] < good["value"] <= good["high"]


def test_few_positives_have_a_reason_instead(scores: tuple[SettingScores, np.ndarray]) -> None:
    result, group = scores
    small = np.where(np.arange(len(group)) < 12, "tiny", "rest").astype(object)
    table = subgroup_table([result], {"site": small}, LABELS, replicates=200)
    row = table.filter(group="tiny", metric="auroc", name="Edema").row(0, named=True)
    assert row["reason"] and np.isnan(row["low"]) and row["gap_reason"]


def test_no_groups_no_rows(scores: tuple[SettingScores, np.ndarray]) -> None:
    assert subgroup_table([scores[0]], {}, LABELS).is_empty()
