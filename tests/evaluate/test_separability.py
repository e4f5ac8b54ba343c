"""Separability against slow loops over scipy's distances, and against what noise must give."""

from __future__ import annotations

import itertools
import time

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import sparse
from scipy.spatial.distance import cdist, pdist, squareform

from radlens.core.errors import DataError
from radlens.core.vocabulary import Label, Vocabulary, load_vocabulary
from radlens.evaluate import distances as module
from radlens.evaluate import separability as separability_module
from radlens.evaluate.class_sets import class_sets
from radlens.evaluate.distances import (
    Points,
    block_distances,
    centroid_distances,
    distances,
    set_products,
    shuffled_centroid_distances,
)
from radlens.evaluate.patient_sample import some_patients
from radlens.evaluate.permutation import patient_shuffles
from radlens.evaluate.separability import separability

VOCABULARY = Vocabulary("four", tuple(Label(n, d, (), ()) for n, d in zip("abcd", ("X", "X", "Y", None), strict=True)))


def cohort(n: int = 60, nulls: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[str]]:
    random = np.random.default_rng(seed)
    targets = (random.random((n, 4)) < [0.5, 0.3, 0.2, 0.1]).astype(np.float32)
    embeddings = random.normal(size=(n, 8)) + 2 * targets @ random.normal(size=(4, 8)) + 30
    targets[random.random((n, 4)) < nulls] = np.nan
    return embeddings.astype(np.float32), targets, [f"p{i // 2}" for i in range(n)]


def slow(x: np.ndarray, t: np.ndarray, definition: str) -> tuple[list[float], dict[tuple[int, int], float]]:
    """Intra of each class and inter of each pair, one distance at a time."""
    intra, inter = [], {}
    for k in range(t.shape[1]):
        own = x[t[:, k] == 1]
        if len(own) < 2:
            intra.append(np.nan)
        elif definition == "pairwise":
            intra.append(pdist(own).mean())
        else:
            intra.append(np.linalg.norm(own - own.mean(axis=0), axis=1).mean())
    for a, b in itertools.combinations(range(t.shape[1]), 2):
        if definition == "centroid":
            one, other = x[t[:, a] == 1], x[t[:, b] == 1]
            if len(one) and len(other):
                inter[a, b] = float(np.linalg.norm(one.mean(axis=0) - other.mean(axis=0)))
        else:
            one, other = x[(t[:, a] == 1) & (t[:, b] == 0)], x[(t[:, b] == 1) & (t[:, a] == 0)]
            if len(one) and len(other):
                inter[a, b] = float(cdist(one, other).mean())
    return intra, inter


@pytest.mark.parametrize("nulls", [0.0, 0.3])
@pytest.mark.parametrize("block", [7, 1024])
def test_every_row_equals_the_slow_loop(nulls: float, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", block)
    embeddings, targets, groups = cohort(nulls=nulls)
    table = separability(embeddings, targets, groups, VOCABULARY, seed=0)
    either = np.where((targets[:, :2] == 1).any(1), 1.0, np.where((targets[:, :2] == 0).any(1), 0.0, np.nan))
    domains = np.stack([either, targets[:, 2]], axis=1)
    for normalised, definition in itertools.product((False, True), ("pairwise", "centroid", "mixed")):
        x = embeddings.astype(np.float64)
        x = x / np.linalg.norm(x, axis=1, keepdims=True) if normalised else x
        rows = table.filter((pl.col("definition") == definition) & (pl.col("normalised") == normalised))
        intra, inter = slow(x, targets, definition)
        overall = rows.filter(pl.col("scope") == "overall").row(0, named=True)
        assert overall["intra"] == pytest.approx(np.mean(intra), rel=1e-5)
        assert overall["inter"] == pytest.approx(np.mean(list(inter.values())), rel=1e-5)
        assert overall["ratio"] == pytest.approx(overall["inter"] / overall["intra"], rel=1e-12)
        for scope, names, t in (("label", "abcd", targets), ("domain", "XY", domains)):
            intra, inter = slow(x, t, definition)
            for k, name in enumerate(names):
                row = rows.filter((pl.col("scope") == scope) & (pl.col("name") == name)).row(0, named=True)
                assert row["intra"] == pytest.approx(intra[k], rel=1e-5)
                assert row["inter"] == pytest.approx(np.mean([d for pair, d in inter.items() if k in pair]), rel=1e-5)
                assert row["members"] == (t[:, k] == 1).sum()


def test_null_z_and_p_are_those_of_shuffled_labels() -> None:
    embeddings, targets, groups = cohort()
    table = separability(embeddings, targets, groups, VOCABULARY, seed=5, permutations=25)
    x = embeddings.astype(np.float64)
    for definition in ("pairwise", "centroid", "mixed"):
        ratios = []
        for order in [np.arange(60), *patient_shuffles(groups, 25, 5)]:
            intra, inter = slow(x, targets[order], definition)
            of_b = np.mean([d for pair, d in inter.items() if 1 in pair]) / intra[1]
            ratios.append([np.mean(list(inter.values())) / np.mean(intra), of_b])
        rows = table.filter((pl.col("definition") == definition) & ~pl.col("normalised"))
        for k, name in enumerate(("overall", "b")):
            row = rows.filter(name=name).row(0, named=True)
            null = np.array(ratios)[1:, k]
            assert row["ratio_null"] == pytest.approx(null.mean(), rel=1e-5)
            assert row["ratio_z"] == pytest.approx((ratios[0][k] - null.mean()) / null.std(ddof=1), rel=1e-3)
            assert row["ratio_p"] == pytest.approx((1 + (null >= ratios[0][k]).sum()) / 26)
            assert row["null_images"] == 60
        overall = rows.filter(scope="overall").row(0, named=True)
        assert overall["ratio"] > overall["ratio_null"], "the embeddings know the labels"


def test_p_of_noise_is_not_small_and_of_knowledge_is() -> None:
    random = np.random.default_rng(4)
    _, targets, groups = cohort(120)
    noise = random.normal(size=(120, 8)).astype(np.float32)
    knows = noise + 3 * np.where(targets == 1, 1.0, 0.0).astype(np.float32) @ np.eye(4, 8, dtype=np.float32)
    for embeddings, known in ((noise, False), (knows, True)):
        table = separability(embeddings, targets, groups, VOCABULARY, seed=0, permutations=49)
        row = table.filter(scope="overall", definition="pairwise", normalised=False).row(0, named=True)
        assert (row["ratio_p"] == pytest.approx(1 / 50)) is known
        assert (row["ratio_z"] > 5) is known


def test_nothing_to_shuffle_has_no_z_and_no_p() -> None:
    embeddings, targets, _ = cohort()
    one_patient = separability(embeddings, targets, ["p"] * 60, VOCABULARY, seed=0, permutations=9)
    assert one_patient["ratio_z"].is_nan().all() and one_patient["ratio_p"].is_nan().all()
    assert one_patient.filter(scope="overall")["ratio"].is_not_nan().all()
    unasked = separability(embeddings, targets, [str(i) for i in range(60)], VOCABULARY, seed=0, permutations=0)
    assert unasked.select(pl.col("ratio_null", "ratio_z", "ratio_p").is_nan().all()).row(0) == (True,) * 3


def test_a_large_null_is_made_on_some_patients(monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings, targets, groups = cohort(200)
    exact = separability(embeddings, targets, groups, VOCABULARY, seed=3, permutations=9)
    monkeypatch.setattr(separability_module, "NULL_IMAGES", 50)
    table = separability(embeddings, targets, groups, VOCABULARY, seed=3, permutations=9)
    for column in ("inter", "intra", "ratio", "members"):
        assert table[column].equals(exact[column]), "exact on all images all the same"
    kept = some_patients(groups, 50, 3)
    assert len(kept) == 50 and (table["null_images"] == 50).all()
    held = separability(embeddings[kept], targets[kept], [groups[i] for i in kept], VOCABULARY, 3, 9)
    for column in ("ratio_null", "ratio_z", "ratio_p"):
        np.testing.assert_allclose(table[column], held[column], rtol=1e-9)


def test_noise_gives_what_is_known_of_noise() -> None:
    random = np.random.default_rng(1)
    targets = (random.random((400, 4)) < 0.25).astype(np.float32)
    groups = [str(i) for i in range(400)]
    table = separability(random.normal(size=(400, 64)).astype(np.float32), targets, groups, VOCABULARY, 0)
    overall = table.filter(pl.col("scope") == "overall")
    ratios = dict(overall.filter(~pl.col("normalised")).select("definition", "ratio").iter_rows())
    assert ratios["pairwise"] == pytest.approx(1.0, abs=0.01)
    assert ratios["mixed"] == pytest.approx(np.sqrt(2), abs=0.02)
    assert ratios["centroid"] < 0.3
    np.testing.assert_allclose(overall["ratio"], overall["ratio_null"], rtol=0.12)


def test_undefined_is_nan() -> None:
    embeddings, targets, groups = cohort()
    targets[:] = 0
    targets[0, 0] = 1  # one member: no pair within
    targets[1:9, 1] = 1
    table = separability(embeddings, targets, groups, VOCABULARY, seed=0)
    label = table.filter((pl.col("scope") == "label") & (pl.col("definition") == "pairwise") & ~pl.col("normalised"))
    a, b, c, _ = label.iter_rows(named=True)
    assert np.isnan(a["intra"]) and np.isnan(a["ratio"]) and a["inter"] > 0
    assert b["intra"] > 0 and b["inter"] == pytest.approx(a["inter"])
    assert np.isnan(c["inter"]) and np.isnan(c["intra"]) and c["members"] == 0
    targets[:] = np.nan
    empty = separability(embeddings, targets, groups, VOCABULARY, seed=0)
    assert empty.select(pl.col("inter", "intra", "ratio", "ratio_null").is_nan().all()).row(0) == (True,) * 4
    none = separability(embeddings[:0], targets[:0], [], VOCABULARY, seed=0)
    assert none["ratio"].is_nan().all()


@pytest.mark.parametrize(("offset", "spread"), [(0.0, 1.0), (1e4, 1.0), (0.0, 1e-6), (1e3, 1e-3)])
def test_distances_survive_cancellation(offset: float, spread: float) -> None:
    """Two tight clusters far apart, and duplicates: the textbook formula loses all digits there."""
    random = np.random.default_rng(0)
    centres = np.where(np.arange(200)[:, None] < 100, 0.0, 100.0)
    x = (offset + centres + spread * random.normal(size=(200, 32))).astype(np.float32)
    x[1] = x[0]
    points = Points(x, normalised=False)
    block = points.block(slice(0, 200))
    found = distances(block, block)
    np.testing.assert_allclose(found, squareform(pdist(x.astype(np.float64))), rtol=1e-6, atol=1e-12)
    assert found[0, 1] == 0.0
    prepared = points.prepared(slice(0, 200))
    light = block_distances(prepared, prepared)
    np.testing.assert_allclose(light, squareform(pdist(x.astype(np.float64))), rtol=1e-5, atol=1e-12)
    assert light[0, 1] == 0.0


@pytest.mark.parametrize("normalised", [False, True])
def test_float32_products_are_right_to_a_hundred_thousandth(normalised: bool) -> None:
    """Embeddings as encoders make them: far from the origin, few directions that matter, near duplicates."""
    random = np.random.default_rng(0)
    x = random.normal(size=(1200, 512)) * np.geomspace(3, 0.03, 512) + 5 * random.normal(size=512)
    x[600:] = x[:600] + 10 ** random.uniform(-6, 0, (600, 1)) * random.normal(size=(600, 512))
    x = x.astype(np.float32)
    truth = x.astype(np.float64)
    truth = truth / np.linalg.norm(truth, axis=1, keepdims=True) if normalised else truth
    points = Points(x, normalised=normalised)
    found = block_distances(points.prepared(slice(0, 700)), points.prepared(slice(700, 1200)))
    np.testing.assert_allclose(found, cdist(truth[:700], truth[700:]), rtol=1e-5)


def test_an_embedding_that_is_not_finite_is_named() -> None:
    embeddings, targets, groups = cohort()
    embeddings[41, 3] = np.nan
    with pytest.raises(DataError, match="image row 41 holds NaN"):
        separability(embeddings, targets, groups, VOCABULARY, seed=0)


@pytest.mark.parametrize("block", [11, 3, 100])
def test_set_products_equal_the_quadratic_form(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", block)
    random = np.random.default_rng(2)
    x = random.normal(size=(40, 5)).astype(np.float32)
    labellings = [(random.random((40, 3)) < 0.4).astype(np.float64) for _ in range(2)]
    full = squareform(pdist(x.astype(np.float64)))
    found = set_products(Points(x, normalised=False), [sparse.csr_array(labelling) for labelling in labellings])
    for sums, labelling in zip(found, labellings, strict=True):
        np.testing.assert_allclose(sums, labelling.T @ full @ labelling, rtol=1e-6)


def test_shuffled_centroids_equal_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 17)
    monkeypatch.setattr(module, "_CENTROIDS", 8)
    embeddings, targets, groups = cohort()
    members = np.concatenate([targets == 1, np.zeros((60, 1), np.bool_)], axis=1)
    points, orders = Points(embeddings, normalised=False), patient_shuffles(groups, 5, 0)
    spread, apart = shuffled_centroid_distances(points, members, orders)
    for p, order in enumerate(orders):
        alone = centroid_distances(points, members[order])
        np.testing.assert_allclose(spread[p], alone[0], rtol=1e-5)
        np.testing.assert_allclose(apart[p], alone[1], rtol=1e-5, atol=1e-6)


@given(arrays(np.float32, (9, 4), elements=st.sampled_from([0.0, 1.0, np.nan])))
@settings(max_examples=60, deadline=None)
def test_exclusive_members_follow_from_overlaps(targets: np.ndarray) -> None:
    x = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)
    sets = class_sets(targets)
    within, between = sets.mean_distances(set_products(Points(x, normalised=False), [sets.sets]))
    intra, inter = slow(x.astype(np.float64), targets, "pairwise")
    np.testing.assert_allclose(within[0], intra, rtol=1e-5)
    expected = np.full((4, 4), np.nan)
    for (a, b), mean in inter.items():
        expected[a, b] = expected[b, a] = mean
    np.testing.assert_allclose(between[0], expected, rtol=1e-4)


def test_shuffles_move_whole_patients() -> None:
    random = np.random.default_rng(0)
    groups = [f"p{i}" for i in range(30) for _ in range(1 + i % 3)]
    mixed = random.permutation(len(groups))
    shuffled = [groups[i] for i in mixed]
    orders = patient_shuffles(shuffled, 10, seed=0)
    for order in orders:
        assert sorted(order) == list(range(len(groups)))
        source = {}
        for image, taken in enumerate(order):
            source.setdefault(shuffled[image], set()).add(shuffled[taken])
        assert all(len(sources) == 1 for sources in source.values())
    assert not (orders[0] == orders[1]).all()
    np.testing.assert_array_equal(orders, patient_shuffles(shuffled, 10, seed=0))


def test_patients_with_image_counts_of_their_own_are_shuffled_too() -> None:
    groups = ["a"] + ["b"] * 2 + ["c"] * 3 + ["d"] * 9
    orders = patient_shuffles(groups, 8, seed=1)
    assert all(sorted(order) == list(range(15)) for order in orders)
    assert sum((order != np.arange(15)).any() for order in orders) >= 6


def test_a_test_split_like_iu_xrays_takes_seconds_at_most() -> None:
    random = np.random.default_rng(0)
    targets = (random.random((1500, 14)) < 0.1).astype(np.float32)
    embeddings = random.normal(size=(1500, 512)).astype(np.float32)
    start = time.process_time()
    separability(embeddings, targets, [str(i // 2) for i in range(1500)], load_vocabulary("chexpert-14"), 0)
    assert time.process_time() - start < 10, "about 1 s on one idle core, 99 shuffles included"
