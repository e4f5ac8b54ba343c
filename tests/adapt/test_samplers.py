"""Orders are what seed and epoch say, caps hold, and processes divide them without a loss."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from radlens.adapt.samplers import SAMPLERS, epoch_order, shard
from radlens.core.errors import SpecError

Floats = npt.NDArray[np.float32]


def cohort(images: int = 300, seed: int = 0) -> Floats:
    """Labels of 60%, 10% and 2%, and one in ten null."""
    generator = np.random.default_rng(seed)
    targets = (generator.random((images, 3)) < [0.6, 0.1, 0.02]).astype(np.float32)
    targets[generator.random(targets.shape) < 0.1] = math.nan
    return targets


@pytest.mark.parametrize("name", SAMPLERS)
def test_an_order_is_a_function_of_seed_and_epoch(name: str) -> None:
    targets = cohort()
    first = epoch_order(name, targets, 3, 7, 2)
    assert first.dtype == np.int64
    np.testing.assert_array_equal(first, epoch_order(name, targets, 3, 7, 2))
    assert not np.array_equal(first, epoch_order(name, targets, 4, 7, 2))
    assert not np.array_equal(first, epoch_order(name, targets, 3, 8, 2))


def test_plain_is_a_permutation() -> None:
    order = epoch_order("plain", cohort(), 1, 0, 5)
    np.testing.assert_array_equal(np.sort(order), np.arange(300))


def test_class_aware_gives_rare_labels_their_turn() -> None:
    targets = cohort()
    positives = np.nansum(targets == 1, axis=0)
    seen = (targets[epoch_order("class-aware", targets, 0, 0, 4)] == 1).sum(axis=0)
    # the rarest is drawn as often as the cap allows, and of the first images a fair share is its own
    assert seen[2] == 4 * positives[2]
    assert (targets[epoch_order("class-aware", targets, 0, 0, 4)[:24], 2] == 1).sum() >= 5
    assert seen[0] < positives[0] * 1.2


def test_null_is_not_a_positive_and_unassessed_images_are_not_drawn() -> None:
    nan = math.nan
    targets = np.array([[1, 0], [nan, 0], [nan, nan], [0, 1], [nan, 1]], np.float32)
    order = epoch_order("class-aware", targets, 0, 0, 100)
    assert len(order) == 5
    assert set(order.tolist()) <= {0, 1, 3, 4}
    # three classes: label 0, label 1, no positives; each of the first three draws is of another
    kinds = {0: "a", 3: "b", 4: "b", 1: "none"}
    assert {kinds[row] for row in order[:3].tolist()} == {"a", "b", "none"}


@given(
    st.lists(st.lists(st.sampled_from([0.0, 1.0, math.nan]), min_size=3, max_size=3), min_size=1, max_size=25),
    st.integers(1, 4),
    st.integers(0, 5),
)
def test_cap_and_length_hold_for_any_labels(rows: list[list[float]], cap: int, epoch: int) -> None:
    targets = np.array(rows, np.float32)
    order = epoch_order("class-aware", targets, epoch, 1, cap)
    can_be_drawn = int((~np.isnan(targets)).any(axis=1).sum())
    assert len(order) == min(len(targets), cap * can_be_drawn)
    assert np.bincount(order, minlength=len(targets)).max(initial=0) <= cap
    assert not np.isnan(targets[order]).all(axis=1).any()


@given(st.integers(0, 60), st.integers(1, 5), st.integers(1, 16))
def test_shards_are_the_global_batches(images: int, world: int, batch_size: int) -> None:
    order = np.random.default_rng(0).permutation(images)
    parts = [shard(order, rank, world, batch_size) for rank in range(world)]
    assert {len(part) for part in parts} == {math.ceil(images / batch_size)}
    for step, batches in enumerate(zip(*parts, strict=True)):
        whole = order[step * batch_size : (step + 1) * batch_size]
        assert sorted(np.concatenate(batches).tolist()) == sorted(whole.tolist())
        sizes = [len(batch) for batch in batches]
        assert max(sizes) - min(sizes) <= 1


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(SpecError, match=r"unknown sampler 'class_aware'. Did you mean 'class-aware'"):
        epoch_order("class_aware", cohort(), 0, 0, 1)
    with pytest.raises(SpecError, match=r"at least 1; found 0"):
        epoch_order("plain", cohort(), 0, 0, 0)
    for rank, world, batch_size in ((2, 2, 4), (-1, 2, 4), (0, 1, 0)):
        with pytest.raises(ValueError, match="rank"):
            shard(np.arange(4), rank, world, batch_size)
