"""Label-conditional separability: what it removes, and each number against a slow loop."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from radlens.core.vocabulary import Label, Vocabulary
from radlens.evaluate import conditional_separability as module
from radlens.evaluate import distances
from radlens.evaluate.conditional_separability import conditional_separability
from radlens.evaluate.separability import separability


def vocabulary(*names: str, no_finding: str | None = None) -> Vocabulary:
    return Vocabulary("some", tuple(Label(name, None, (), ()) for name in names), no_finding)


THREE = vocabulary("finding", "tube", "other")


def co_occurring(n: int = 600, seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Embeddings that know the tube and nothing else; most images with the finding have a tube, few others do."""
    random = np.random.default_rng(seed)
    finding, other = random.random(n) < 0.3, random.random(n) < 0.2
    tube = np.where(finding, random.random(n) < 0.8, random.random(n) < 0.1)
    embeddings = random.normal(size=(n, 16))
    embeddings[:, 0] += 6 * tube
    targets = np.stack([finding, tube, other], axis=1).astype(np.float32)
    return embeddings.astype(np.float32), targets, [f"p{i // 2}" for i in range(n)]


def slow(x: np.ndarray, targets: np.ndarray, groups: list[str], k: int, keys: list[tuple]) -> tuple[float, float]:
    """inter and intra of label k with strata given as a key for each image, one pair at a time."""
    inter, intra, weights = [], [], []
    for key in set(keys):
        means = {}
        for kind, (one, other) in {"pp": (1, 1), "pn": (1, 0), "nn": (0, 0)}.items():
            found = [
                np.linalg.norm(x[i] - x[j])
                for i in range(len(x))
                for j in range(len(x))
                if keys[i] == keys[j] == key
                and groups[i] != groups[j]
                and targets[i, k] == one
                and targets[j, k] == other
            ]
            means[kind] = np.mean(found) if found else np.nan
        if not any(np.isnan(mean) for mean in means.values()):
            inter.append(means["pn"])
            intra.append((means["pp"] + means["nn"]) / 2)
            weights.append(sum(keys[i] == key and targets[i, k] == 1 for i in range(len(x))))
    if not weights:
        return np.nan, np.nan
    return float(np.average(inter, weights=weights)), float(np.average(intra, weights=weights))


def test_co_occurrence_alone_looks_separable_and_is_removed() -> None:
    embeddings, targets, groups = co_occurring(seed=1)
    plain = separability(embeddings, targets, groups, THREE, seed=0)
    conditional = conditional_separability(embeddings, targets, groups, THREE, seed=0)
    for normalised in (False, True):
        before = plain.filter(scope="label", definition="pairwise", normalised=normalised, name="finding")
        assert before["ratio"][0] > 1.1 and before["ratio_z"][0] > 5 and before["ratio_p"][0] == pytest.approx(0.01)
        rows = {row["name"]: row for row in conditional.filter(normalised=normalised).iter_rows(named=True)}
        assert rows["finding"]["ratio_unmatched"] > 1.05, "it is the matching that removes it, not the definition"
        assert rows["finding"]["ratio"] == pytest.approx(1.0, abs=0.005)
        assert abs(rows["finding"]["ratio_z"]) < 3 and rows["finding"]["ratio_p"] > 0.05
        assert rows["tube"]["ratio"] > 1.15 and rows["tube"]["ratio_z"] > 10
        assert rows["tube"]["ratio_p"] == pytest.approx(0.01)


@pytest.mark.parametrize("block", [5, 1024])
def test_every_row_equals_the_slow_loop(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distances, "BLOCK", block)
    random = np.random.default_rng(3)
    targets = (random.random((70, 3)) < 0.4).astype(np.float32)
    targets[random.random((70, 3)) < 0.15] = np.nan
    groups = [f"p{i}" for i in random.integers(0, 25, 70)]
    embeddings = (random.normal(size=(70, 4)) + np.nan_to_num(targets) @ random.normal(size=(3, 4))).astype(np.float32)
    table = conditional_separability(embeddings, targets, groups, THREE, seed=0, permutations=3)
    for normalised in (False, True):
        x = embeddings.astype(np.float64)
        x = x / np.linalg.norm(x, axis=1, keepdims=True) if normalised else x
        for k, name in enumerate(THREE.names):
            others = np.nan_to_num(np.delete(targets, k, axis=1), nan=2)
            inter, intra = slow(x, targets, groups, k, [tuple(row) for row in others])
            all_inter, all_intra = slow(x, targets, groups, k, [()] * 70)
            row = table.filter(name=name, normalised=normalised).row(0, named=True)
            assert row["inter"] == pytest.approx(inter, rel=1e-5)
            assert row["intra"] == pytest.approx(intra, rel=1e-5)
            assert row["ratio"] == pytest.approx(inter / intra, rel=1e-5)
            assert row["ratio_unmatched"] == pytest.approx(all_inter / all_intra, rel=1e-5)
        overall = table.filter(name="overall", normalised=normalised).row(0, named=True)
        labels = table.filter((pl.col("name") != "overall") & (pl.col("normalised") == normalised))
        assert overall["ratio"] == pytest.approx(labels["ratio"].mean())


def test_no_finding_does_not_part_the_sick_from_the_healthy() -> None:
    """Matched on "no finding" as well, an image with one finding could be held against no healthy image."""
    random = np.random.default_rng(0)
    finding = random.random(200) < 0.3
    targets = np.stack([~finding, finding], axis=1).astype(np.float32)
    embeddings = (random.normal(size=(200, 4)) + 4 * finding[:, None]).astype(np.float32)
    groups = [str(i) for i in range(200)]
    named = conditional_separability(embeddings, targets, groups, vocabulary("none", "a", no_finding="none"), 0, 9)
    row = named.filter(name="a", normalised=False).row(0, named=True)
    assert row["ratio"] > 1.5 and row["positives_matched"] == row["positives"] == finding.sum()
    row = named.filter(name="none", normalised=False).row(0, named=True)
    assert np.isnan(row["ratio"]) and "alike in the other labels" in row["reason"] and row["strata"] == 0


def test_images_of_one_patient_are_no_pair() -> None:
    """Two images of a patient that are the same image: counted, they would bring positives together."""
    random = np.random.default_rng(1)
    once = random.normal(size=(100, 8)).astype(np.float32)
    targets = np.repeat((random.random((100, 1)) < 0.2).astype(np.float32), 2, axis=0)
    groups = [f"p{i // 2}" for i in range(200)]
    twice = conditional_separability(np.repeat(once, 2, axis=0), targets, groups, vocabulary("a"), 0, 9)
    alone = conditional_separability(once, targets[::2], groups[::2], vocabulary("a"), 0, 9)
    np.testing.assert_allclose(twice["ratio"], alone["ratio"], rtol=1e-5)


def test_undefined_and_subsample(monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings, targets, groups = co_occurring(200)
    monkeypatch.setattr(module, "IMAGES", 100)
    table = conditional_separability(embeddings, targets, groups, THREE, 0, 3)
    assert (table["images"] == 100).all()
    targets[:] = np.nan
    for n in (200, 0):
        table = conditional_separability(embeddings[:n], targets[:n], groups[:n], THREE, 0, 3)
        assert table.select(pl.col("inter", "intra", "ratio", "ratio_p").is_nan().all()).row(0) == (True,) * 4
    one = conditional_separability(embeddings, co_occurring(200)[1], ["p"] * 200, THREE, 0, 3)
    assert one["ratio"].is_nan().all()
