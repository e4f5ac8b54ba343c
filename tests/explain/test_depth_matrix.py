"""Depth by setting: figures put together by hand, noise that gives no support, and shifts that do."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import polars as pl
import pytest

from radlens.core.errors import DataError
from radlens.core.patient_means import patient_means
from radlens.explain.depth_matrix import SCHEMA, SCORES, depth_matrix
from radlens.explain.paired_support import sign_flip_p

SETTINGS, LAYERS, LABELS = ("zero", "probe", "tuned"), ("-1", "-3", "-5"), ("A", "B")
IMAGES = tuple(f"i{k}" for k in range(30))
PATIENTS = {image: f"p{k // 2}" for k, image in enumerate(IMAGES)}


def pairs_of(seed: int = 0, methods: tuple[str, ...] = ("grad-cam",), layers: tuple[str, ...] = LAYERS) -> pl.DataFrame:
    """Scores that differ between images, and noise; label B is in every second image."""
    random = np.random.default_rng(seed)
    hard = {image: random.normal(0, 2) for image in IMAGES}
    rows = [
        (*key, image, PATIENTS[image], None, *(hard[image] + random.normal(0, 1, len(SCORES))))
        for *key, image in product(SETTINGS, methods, layers, LABELS, IMAGES)
        if key[3] == "A" or int(image[1:]) % 2
    ]
    names = ["setting", "method", "layer", "label", "image_id", "patient_id", "flag", *SCORES]
    return pl.DataFrame(rows, schema=names, orient="row", schema_overrides={"flag": pl.String})


def shifted(pairs: pl.DataFrame, by: float, score: str = "lift", **where: str) -> pl.DataFrame:
    chosen = pl.all_horizontal(pl.col(name) == value for name, value in where.items())
    return pairs.with_columns(pl.col(score) + by * chosen.cast(pl.Float64))


def row(table: pl.DataFrame, **wanted: str) -> dict[str, Any]:
    (found,) = table.filter(**wanted).rows(named=True)
    return found


def values(pairs: pl.DataFrame, score: str, setting: str, layer: str, labels: tuple[str, ...] = LABELS) -> pl.DataFrame:
    wanted = pairs.filter((pl.col("setting") == setting) & (pl.col("layer") == layer) & pl.col("label").is_in(labels))
    return wanted.select("image_id", "label", "patient_id", pl.col(score).alias("value"))


def test_noise_gives_no_support() -> None:
    wrong = []
    for seed in range(10):
        table = depth_matrix(pairs_of(seed), permutations=300).with_columns(together=pl.col("label") == "all")
        for which in ("layer", "setting"):
            tested = table.filter(pl.col(f"{which}_p").is_not_null())
            families = tested.group_by("score", "setting", "together").agg(pl.col(f"{which}_supported").any())
            wrong += families[f"{which}_supported"].to_list()
    # a family errs with a chance of at most 0.05
    assert len(wrong) == 10 * 3 * 2 * (3 + 2)
    assert np.mean(wrong) < 0.08


def test_the_shape_of_the_table() -> None:
    table = depth_matrix(pairs_of(0), permutations=200)
    assert dict(table.schema) == SCHEMA
    assert table.select("score", "label", "setting", "layer").rows() == list(
        product(SCORES, (*LABELS, "all"), SETTINGS, LAYERS)
    )
    assert table.filter(label="A")["layer_supported"].drop_nulls().len() == 3 * 3 * 2


def test_a_planted_shift_is_found_where_it_is() -> None:
    pairs = shifted(pairs_of(12), 2.0, setting="tuned", layer="-3")
    table = depth_matrix(pairs, permutations=1000)
    for label in (*LABELS, "all"):
        found = row(table, score="lift", label=label, setting="tuned", layer="-3")
        assert found["layer_supported"] and found["setting_supported"]
        assert found["layer_low"] < 2 < found["layer_high"] and found["setting_low"] < 2 < found["setting_high"]
        assert (found["layer_reference"], found["setting_reference"]) == ("-1", "zero")
    elsewhere = table.filter(
        ~((pl.col("setting") == "tuned") & (pl.col("layer") == "-3") & (pl.col("score") == "lift"))
    )
    assert elsewhere["layer_supported"].sum() + elsewhere["setting_supported"].sum() <= 2


@pytest.mark.parametrize("labels", [("A",), ("B",), LABELS])
def test_figures_by_hand(labels: tuple[str, ...]) -> None:
    pairs = pairs_of(2).with_columns(
        # some undefined scores: the difference is over pairs that have both
        iou=pl.when((pl.col("layer") == "-5") & (pl.col("image_id") == "i3")).then(None).otherwise("iou"),
        flag=pl.when((pl.col("layer") == "-5") & (pl.col("image_id") < "i2")).then(pl.lit("constant")),
    )
    table = depth_matrix(pairs, seed=4, permutations=1000)
    found = row(table, score="iou", label="all" if len(labels) == 2 else labels[0], setting="probe", layer="-5")
    own = values(pairs, "iou", "probe", "-5", labels)
    known = own.drop_nulls("value")
    assert found["pairs"] == known.height == own.height - len(labels)
    assert (found["images"], found["patients"]) == (known["image_id"].n_unique(), known["patient_id"].n_unique())
    assert found["flagged"] == own.filter(pl.col("image_id") < "i2").height
    assert found["mean"] == pytest.approx(known["value"].mean())
    expected = patient_means(known["value"], known["patient_id"].to_numpy(), seed=4)
    if known["patient_id"].n_unique() == 15:
        assert found["mean_low"] == pytest.approx(expected.low[0])
    for which, reference in (("layer", ("probe", "-1")), ("setting", ("zero", "-5"))):
        other = values(pairs, "iou", *reference, labels).drop(["patient_id"])
        both = own.join(other, on=["image_id", "label"], suffix="_other").drop_nulls()
        difference = (both["value"] - both["value_other"]).to_numpy()
        who = both["patient_id"].to_numpy()
        assert found[f"{which}_pairs"] == len(difference)
        assert found[f"{which}_difference"] == pytest.approx(difference.mean())
        if len(set(who)) == 15:
            ends = patient_means(difference, who, seed=4)
            assert found[f"{which}_low"] == pytest.approx(ends.low[0])
            assert found[f"{which}_high"] == pytest.approx(ends.high[0])
            assert found[f"{which}_p"] == pytest.approx(
                sign_flip_p(difference[:, None], who, seed=4, permutations=1000)[0]
            )
        assert found[f"{which}_p_holm"] >= found[f"{which}_p"]


def test_holm_is_over_labels_and_layers_of_a_setting() -> None:
    table = depth_matrix(shifted(pairs_of(3), 0.5, setting="probe"), permutations=1000).filter(
        score="lift", setting="probe"
    )
    for which, layers in (("layer", 2), ("setting", 3)):
        labelled = table.filter(pl.col("label") != "all")
        p = labelled[f"{which}_p"].drop_nulls()
        assert len(p) == 2 * layers
        assert labelled[f"{which}_p_holm"].min() == pytest.approx(min(1, p.min() * 2 * layers))
        together = table.filter(label="all")
        least = together[f"{which}_p"].min()
        assert together[f"{which}_p_holm"].min() == pytest.approx(min(1, least * layers))


def test_baselines_are_left_out_and_references_say_so() -> None:
    pairs = pairs_of(4)
    strange = pairs.with_columns(method=pl.lit("other-patient:grad-cam"))
    centre = pairs.filter(setting="zero", layer="-1").with_columns(
        setting=pl.lit("baseline"), method=pl.lit("centre"), layer=pl.lit("-")
    )
    flat = pairs.filter(layer="-1").with_columns(method=pl.lit("input-gradient"), layer=pl.lit("-"))
    table = depth_matrix(pl.concat([centre, strange, pairs, flat]), permutations=200)
    assert set(table["method"]) == {"grad-cam", "input-gradient"} and set(table["setting"]) == set(SETTINGS)
    first = row(table, method="grad-cam", score="lift", label="A", setting="zero", layer="-1")
    assert (first["layer_reason"], first["setting_reason"]) == ("the reference", "the reference")
    assert first["layer_difference"] is None and first["setting_supported"] is None
    own = table.filter(method="input-gradient")
    assert set(own["layer_reason"]) == {"the reference"}
    assert own.filter(setting="probe")["setting_difference"].is_not_null().all()


def test_too_few_patients_a_missing_layer_and_double_rows() -> None:
    few = pairs_of(5).filter(pl.col("image_id").is_in(IMAGES[:8]))
    table = depth_matrix(shifted(few, 50.0, setting="tuned"), permutations=200)
    found = row(table, score="lift", label="A", setting="tuned", layer="-3")
    assert found["setting_difference"] == pytest.approx(50, abs=3)
    assert found["setting_supported"] is None and found["setting_p"] is None and found["setting_low"] is None
    assert found["setting_reason"] == "not estimable: 4 patients, an interval needs 10"
    missing = pairs_of(5).filter(~((pl.col("setting") == "zero") & (pl.col("layer") == "-5")))
    found = row(depth_matrix(missing, permutations=200), score="iou", label="A", setting="probe", layer="-5")
    assert found["setting_reference"] is None and "has no such layer" in found["setting_reason"]
    assert found["layer_difference"] is not None
    with pytest.raises(DataError, match=r"found zero, grad-cam, -1, A, i0 twice"):
        depth_matrix(pl.concat([few, few.head(1)]))
    empty = depth_matrix(few.head(0))
    assert empty.height == 0 and dict(empty.schema) == SCHEMA
