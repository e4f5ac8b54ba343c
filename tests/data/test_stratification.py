"""The split's laws on drawn cohorts, and its quality beside a random split by patient."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radlens.core.errors import DataError
from radlens.data.stratification import split_by_group

SHARES = {"train": 0.7, "val": 0.1, "test": 0.2}


@settings(max_examples=80, deadline=None)
@given(
    images=st.integers(3, 60),
    labels=st.integers(0, 4),
    patients=st.integers(0, 40),
    assessed=st.sampled_from([0.0, 0.5, 1.0]),
    prevalence=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    seed=st.integers(0, 1000),
)
def test_laws(images: int, labels: int, patients: int, assessed: float, prevalence: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    targets = (rng.random((images, labels)) < prevalence).astype(np.float32)
    targets[rng.random(targets.shape) > assessed] = np.nan
    rest = rng.integers(0, patients + 3, images - 3).tolist()
    groups = np.array([f"p{i}" for i in [0, 1, 2, *rest]], dtype=object)
    split = split_by_group(targets, groups, SHARES, seed)
    assert split.shape == groups.shape
    assert set(split) <= set(SHARES)
    for group in set(groups):
        assert len(set(split[groups == group])) == 1, "torn"
    np.testing.assert_array_equal(split, split_by_group(targets, groups, SHARES, seed))
    order = rng.permutation(images)
    np.testing.assert_array_equal(split[order], split_by_group(targets[order], groups[order], SHARES, seed))
    for column in targets.T:
        # every split gets a positive patient of the rarest label, if there are enough patients of it
        if all(len(set(groups[column == 1])) <= len(set(groups[other == v])) for other in targets.T for v in (0, 1)):
            with_it = len(set(groups[column == 1]))
            assert len(set(split[column == 1])) == min(with_it, 3)
            break


def drawn(images: int, seed: int = 0) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.object_]]:
    rng = np.random.default_rng(seed)
    prevalence = np.array([0.4, 0.1, 0.05, 0.02, 0.01, 0.004])
    patients = rng.geometric(0.4, images).cumsum()
    patients = np.searchsorted(patients, np.arange(images), side="right")
    sick = rng.random((patients.max() + 1, len(prevalence))) < prevalence
    flips = rng.random((images, len(prevalence))) < 0.02
    targets = np.where(flips, ~sick[patients], sick[patients]).astype(np.float32)
    targets[rng.random(targets.shape) < 0.2] = np.nan
    return targets, np.array([f"p{p}" for p in patients], dtype=object)


def random_split(groups: npt.NDArray[np.object_], seed: int) -> npt.NDArray[np.object_]:
    names, codes = np.unique(groups.astype(str), return_inverse=True)
    return np.random.default_rng(seed).choice(list(SHARES), len(names), p=list(SHARES.values()))[codes].astype(object)


def deviation(targets: npt.NDArray[np.float32], split: npt.NDArray[np.object_]) -> float:
    """Mean over labels, signs and splits of |share reached - share asked|."""
    return float(
        np.mean(
            [
                abs(((column == sign) & (split == name)).sum() / (column == sign).sum() - share)
                for column in targets.T
                for sign in (0, 1)
                for name, share in SHARES.items()
            ]
        )
    )


def test_much_closer_than_a_random_split() -> None:
    targets, groups = drawn(4000)
    ours = [deviation(targets, split_by_group(targets, groups, SHARES, seed)) for seed in range(3)]
    chance = [deviation(targets, random_split(groups, seed)) for seed in range(20)]
    assert max(ours) < min(chance) / 5
    split = split_by_group(targets, groups, SHARES, 0)
    for name, share in SHARES.items():
        assert abs((split == name).mean() - share) < 0.005


def test_patients_of_many_images_go_to_every_split() -> None:
    targets, groups = drawn(4000)
    split = split_by_group(targets, groups, SHARES, 0)
    names, first, sizes = np.unique(groups.astype(str), return_index=True, return_counts=True)
    for name in SHARES:
        mean = sizes[split[first] == name].mean()
        assert mean == pytest.approx(sizes.mean(), rel=0.15), f"{name}: {len(names)} patients"


@pytest.mark.parametrize(("positives", "expected"), [(1, {"train"}), (2, {"train", "test"}), (3, set(SHARES))])
def test_few_positives(positives: int, expected: set[str]) -> None:
    targets = np.zeros((200, 2), np.float32)
    targets[:positives, 0] = 1
    targets[::2, 1] = 1
    for seed in range(5):
        split = split_by_group(targets, np.arange(200).astype(object), SHARES, seed)
        assert set(split[:positives]) == expected


def test_few_negatives() -> None:
    targets = np.full((300, 1), np.nan, np.float32)
    targets[:100] = 1
    targets[100:103] = 0
    split = split_by_group(targets, np.arange(300).astype(object), SHARES, 0)
    assert set(split[100:103]) == set(SHARES)


def test_seeds_draw_other_splits() -> None:
    targets, groups = drawn(500)
    assert len({tuple(split_by_group(targets, groups, SHARES, seed)) for seed in range(5)}) == 5


def test_refused() -> None:
    with pytest.raises(DataError, match=r"4 images of 2 patients .* expected at least 3 patients"):
        split_by_group(np.zeros((4, 1)), np.array(["a", "a", "b", "b"], dtype=object), SHARES, 0)
    with pytest.raises(ValueError, match="must be positive"):
        split_by_group(np.zeros((4, 1)), np.arange(4).astype(object), {"train": 1.0, "test": 0.0}, 0)
    with pytest.raises(ValueError, match="must be"):
        split_by_group(np.zeros((4, 1)), np.arange(3).astype(object), SHARES, 0)
