"""Agreement between readers, against scikit-learn and slow loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import cohen_kappa_score, f1_score, jaccard_score

from radlens.core.errors import DataError
from radlens.core.regions import Annotations, Box, Point, Region
from radlens.explain.agreement import ALL, cohen_kappa, dice, intersection_over_union, reader_agreement

MASKS = hnp.arrays(np.bool_, (2, 5, 6))


@settings(max_examples=60, deadline=None)
@given(MASKS)
def test_overlap_against_scikit_learn(masks: np.ndarray) -> None:
    one, other = masks
    if not masks.any():
        assert np.isnan(intersection_over_union(one, other)) and np.isnan(dice(one, other))
        return
    assert intersection_over_union(one, other) == pytest.approx(jaccard_score(one.ravel(), other.ravel()))
    assert dice(one, other) == pytest.approx(f1_score(one.ravel(), other.ravel()))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30))
def test_kappa_against_scikit_learn(calls: list[tuple[bool, bool]]) -> None:
    first, second = (list(one) for one in zip(*calls, strict=True))
    counts = [calls.count(pair) for pair in ((True, True), (True, False), (False, True), (False, False))]
    kappa = cohen_kappa(np.array(counts, float))
    if len({*first, *second}) == 1:
        assert np.isnan(kappa)
    else:
        assert kappa == pytest.approx(cohen_kappa_score(first, second))
    assert np.isnan(cohen_kappa(np.zeros(4)))


def read_by(seed: int, images: int, readers: tuple[str, ...] = ("r1", "r2")) -> Annotations:
    """Every reader looks at every image for X and Y; boxes of a finding lie near each other."""
    generator = np.random.default_rng(seed)
    regions, examined = [], {}
    for image in range(images):
        for label in ("X", "Y"):
            there, x, y = generator.random() < 0.5, *generator.uniform(2, 12, 2)
            for reader in readers:
                examined[f"i{image}", reader] = frozenset({"X", "Y"})
                if generator.random() < 0.9 if there else generator.random() < 0.1:
                    box = Box(x + generator.uniform(-2, 2), y + generator.uniform(-2, 2), 6, 8)
                    regions.append(Region(f"i{image}", label, box, reader))
    return Annotations(tuple(regions), "t", {}, examined)


def row(table: pl.DataFrame, label: str, reader: str, other: str) -> dict[str, Any]:
    wanted = (pl.col("label") == label) & (pl.col("reader") == reader) & (pl.col("other") == other)
    return table.row(by_predicate=wanted, named=True)


def test_two_readers_against_loops() -> None:
    found = read_by(0, 60)
    sizes = {f"i{n}": (24, 26) for n in range(60)}
    patients = {f"i{n}": f"p{n // 2}" for n in range(60)}
    table = reader_agreement(found, sizes, patients, replicates=300)
    for label in ("X", "Y"):
        calls: dict[str, list[bool]] = {"r1": [], "r2": []}
        ious, dices = [], []
        for image in sizes:
            masks = [found.mask(image, label, 26, 24, reader) for reader in calls]
            for reader, mask in zip(calls, masks, strict=True):
                calls[reader].append(bool(mask.any()))
            if all(mask.any() for mask in masks):
                ious.append(jaccard_score(masks[0].ravel(), masks[1].ravel()))
                dices.append(f1_score(masks[0].ravel(), masks[1].ravel()))
        one = row(table, label, "r1", "r2")
        assert one["kappa"] == pytest.approx(cohen_kappa_score(calls["r1"], calls["r2"]))
        assert (one["iou"], one["dice"]) == pytest.approx((np.mean(ious), np.mean(dices)))
        assert (one["images"], one["patients"], one["overlaps"]) == (60, 30, len(ious))
        assert one["both"] + one["only_reader"] + one["only_other"] + one["neither"] == 60
        for name in ("kappa", "iou", "dice"):
            assert one[f"{name}_low"] < one[name] < one[f"{name}_high"]
        assert one["kappa_reason"] is None and one["overlap_reason"] is None
        ceiling = row(table, label, ALL, ALL)
        assert {k: v for k, v in ceiling.items() if k not in ("reader", "other")} == {
            k: v for k, v in one.items() if k not in ("reader", "other")
        }
    pooled = row(table, ALL, ALL, ALL)
    assert pooled["kappa"] is None and pooled["both"] is None
    assert pooled["overlaps"] == sum(row(table, label, ALL, ALL)["overlaps"] for label in "XY")
    assert table.equals(reader_agreement(found, sizes, patients, replicates=300)), "one seed, one table"


def test_the_interval_is_over_patients() -> None:
    """The same images as of 40 patients, and each copied thrice for the same patient: the interval stays."""
    found = read_by(3, 40)
    copies = [
        Annotations(
            tuple(Region(f"{copy}{r.image_id}", r.label, r.shape, r.reader) for r in found.regions),
            "t",
            {},
            {(f"{copy}{image}", reader): labels for (image, reader), labels in found.examined.items()},
        )
        for copy in "abc"
    ]
    thrice = Annotations(
        tuple(r for one in copies for r in one.regions),
        "t",
        {},
        {k: v for one in copies for k, v in one.examined.items()},
    )
    sizes = {f"{copy}i{n}": (24, 26) for n in range(40) for copy in ("", "a", "b", "c")}
    patients = {image: image.lstrip("abc") for image in sizes}
    once = row(reader_agreement(found, sizes, patients, replicates=200), "X", "r1", "r2")
    again = row(reader_agreement(thrice, sizes, patients, replicates=200), "X", "r1", "r2")
    for name in ("kappa", "kappa_low", "kappa_high", "iou", "iou_low", "iou_high"):
        assert once[name] == pytest.approx(again[name])
    assert again["images"] == 120 and again["patients"] == 40


def test_three_readers_are_pooled_without_an_order() -> None:
    found = read_by(1, 40, ("r1", "r2", "r3"))
    sizes = {f"i{n}": (24, 26) for n in range(40)}
    table = reader_agreement(found, sizes, {image: image for image in sizes}, replicates=50)
    assert table.height == 2 * 4 + 1
    calls = {reader: [bool(found.presence(image, "X", reader)) for image in sizes] for reader in ("r1", "r2", "r3")}
    ordered = [("r1", "r2"), ("r1", "r3"), ("r2", "r3"), ("r2", "r1"), ("r3", "r1"), ("r3", "r2")]
    first = [call for one, _ in ordered for call in calls[one]]
    second = [call for _, other in ordered for call in calls[other]]
    pooled = row(table, "X", ALL, ALL)
    assert pooled["kappa"] == pytest.approx(cohen_kappa_score(first, second))
    assert pooled["images"] == 40 and pooled["only_reader"] is None
    overlaps = [row(table, "X", *pair) for pair in ordered[:3]]
    expected = sum(one["iou"] * one["overlaps"] for one in overlaps) / sum(one["overlaps"] for one in overlaps)
    assert pooled["iou"] == pytest.approx(expected)


def test_what_was_not_annotated_is_no_disagreement() -> None:
    """Reader 2 looked at half of the images; the others say nothing of the agreement."""
    found = read_by(5, 40)
    seen = {key: labels for key, labels in found.examined.items() if key[1] == "r1" or int(key[0][1:]) < 20}
    regions = tuple(r for r in found.regions if r.reader == "r1" or int(r.image_id[1:]) < 20)
    sizes = {f"i{n}": (24, 26) for n in range(40)}
    patients = {image: image for image in sizes}
    half = reader_agreement(Annotations(regions, "t", {}, seen), sizes, patients, replicates=50)
    whole = reader_agreement(found.of(f"i{n}" for n in range(20)), sizes, patients, replicates=50)
    assert half.equals(whole) and row(half, "X", "r1", "r2")["images"] == 20


def test_why_there_is_no_number() -> None:
    box, sizes = Box(0, 0, 4, 4), {"a": (9, 9), "b": (9, 9)}
    patients = {"a": "p", "b": "q"}
    both = Annotations((Region("a", "X", box, "r1"), Region("a", "X", box, "r2")), "t")
    one = row(reader_agreement(both, sizes, patients), "X", "r1", "r2")
    assert one["kappa"] is None and one["kappa_reason"].startswith("undefined")
    assert one["iou"] == 1 and one["iou_low"] is None
    assert one["overlap_reason"] == "not estimable: 1 patients, an interval needs 10"
    points = Annotations((Region("a", "X", box, "r1"), Region("a", "X", Point(1, 1), "r2")), "t")
    one = row(reader_agreement(points, sizes, patients), "X", "r1", "r2")
    assert one["both"] == 1 and one["overlaps"] == 0 and one["iou"] is None
    alone = Annotations((Region("a", "X", box, "r1"), Region("b", "X", box, "r2")), "boxes.csv")
    with pytest.raises(DataError, match=r"needs two readers .* boxes.csv has none such \(readers: r1, r2\)"):
        reader_agreement(alone, sizes, patients)
