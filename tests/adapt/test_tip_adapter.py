"""Tip-Adapter: what its cache holds, what it says, and that it is right where neighbours are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from radlens.adapt.cache_model import CAUTION, cache_values, choose_rows
from radlens.adapt.tip_adapter import ALPHAS, BETAS, TipAdapter
from radlens.adapt.zero_shot import ZeroShot
from radlens.core.classifier import load_classifier
from radlens.core.errors import DataError
from radlens.core.heads import CacheHead
from radlens.core.parts import AdaptationTask
from radlens.core.vocabulary import Label, Vocabulary

Floats = npt.NDArray[np.float32]
D, L = 16, 3
VOCABULARY = Vocabulary("test", tuple(Label(f"label {i}", None, (f"with {i}",), (f"without {i}",)) for i in range(L)))


def encode(texts: Sequence[str]) -> Floats:
    rows = np.zeros((len(texts), D), np.float32)
    for row, text in zip(rows, texts, strict=True):
        side, index = text.split()
        row[int(index) + (0 if side == "with" else L)] = 4
    return rows


def islands(seed: int, images: int = 200, null: float = 0.0) -> tuple[Floats, Floats]:
    """Each image lies near one of 24 places; the place alone decides its labels, along no direction."""
    fixed = np.random.default_rng(99)
    places = fixed.normal(size=(24, D)).astype(np.float32)
    of_place = (fixed.random((24, L)) < [0.5, 0.3, 0.15]).astype(np.float32)
    generator = np.random.default_rng(seed)
    which = generator.integers(0, 24, images)
    x = places[which] + 0.15 * generator.normal(size=(images, D)).astype(np.float32)
    y = of_place[which].copy()
    y[generator.random(y.shape) < null] = np.nan
    return (x * 7).astype(np.float32), y


def noise(seed: int, images: int = 120) -> tuple[Floats, Floats]:
    """Labels that embeddings know nothing of."""
    generator = np.random.default_rng(seed)
    return generator.normal(size=(images, D)).astype(np.float32), generator.integers(0, 2, (images, L)).astype(
        np.float32
    )


def task(train: tuple[Floats, Floats], val: tuple[Floats, Floats], seed: int = 0, **more: Any) -> AdaptationTask:
    fields: dict[str, Any] = {
        "vocabulary": VOCABULARY,
        "embeddings": {"train": train[0], "val": val[0]},
        "targets": {"train": train[1], "val": val[1]},
        "encode_texts": encode,
        "logit_scale": 30.0,
        "seed": seed,
        "progress": lambda done, total: None,
    }
    return AdaptationTask(**fields | more)


def auroc(probabilities: npt.NDArray[np.float64], y: Floats) -> npt.NDArray[np.float64]:
    known = ~np.isnan(y)
    return np.array([roc_auc_score(y[k, i], probabilities[k, i]) for i, k in enumerate(known.T)])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.floats(0, 0.9))
def test_a_cache_holds_up_to_so_many_of_each_kind(seed: int, most: int, null: float) -> None:
    generator = np.random.default_rng(seed)
    y = (generator.random((60, 4)) < [0.5, 0.05, 0.9, 0]).astype(np.float32)
    y[generator.random(y.shape) < null] = np.nan
    rows = choose_rows(y, most, np.random.default_rng(seed))
    assert len(rows) <= 2 * 4 * most
    assert (np.diff(rows) > 0).all()
    for value in (0, 1):
        there, cached = (y == value).sum(axis=0), (y[rows] == value).sum(axis=0)
        assert (cached >= np.minimum(there, most)).all()
    assert not np.isnan(y[rows]).all(axis=1).any()
    np.testing.assert_array_equal(rows, choose_rows(y, most, np.random.default_rng(seed)))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_values_are_centred_targets_and_null_says_nothing(seed: int, images: int) -> None:
    generator = np.random.default_rng(seed)
    y = (generator.random((images, 4)) < [0.5, 0.1, 0.9, 0]).astype(np.float32)
    y[generator.random(y.shape) < 0.3] = np.nan
    values = cache_values(y)
    assert (values[np.isnan(y)] == 0).all()
    np.testing.assert_allclose(values.sum(axis=0), 0, atol=1e-6)
    for value, target in zip(values.T, y.T, strict=True):
        known = target[~np.isnan(target)].astype(float)
        p, n = (known.mean(), len(known)) if len(known) else (0, 0)
        if p in (0, 1):
            assert not value.any()
            continue
        rarer = min(known.sum(), (1 - known).sum())
        expected = (known - p) / (p * (1 - p) * n) * rarer / (rarer + CAUTION)
        np.testing.assert_allclose(value[~np.isnan(target)], expected, rtol=1e-5)


def test_exact_duplicates_are_remembered() -> None:
    # labels that nothing but memory can know
    train = noise(1)
    made = TipAdapter().fit(task(train, train))
    assert (auroc(made.probabilities(train[0]), train[1]) > 0.999).all()
    assert ((made.probabilities(train[0]) > 0.5) == (train[1] == 1)).mean() > 0.99


def test_near_images_decide_where_no_direction_can() -> None:
    train, val, test = (islands(seed, null=0.1) for seed in (1, 2, 3))
    given = task(train, val)
    made = TipAdapter().fit(given)
    assert auroc(ZeroShot().fit(given).probabilities(test[0]), test[1]).mean() < 0.7
    assert (auroc(made.probabilities(test[0]), test[1]) > 0.95).all()
    card = made.card
    assert (card["trainable_parameters"], card["epochs_run"], card["history"]) == (0, 0, [])
    assert card["cached_images"] <= 200
    assert len(card["tried"]) == len(ALPHAS) * len(BETAS)
    least = min(card["tried"], key=lambda one: one["validation_bce"])
    assert (least["alpha"], least["beta"]) == (card["alpha"], card["beta"])
    assert card["validation_bce"] == pytest.approx(least["validation_bce"], rel=1e-3)


def test_the_head_is_zero_shot_plus_the_cache_and_calibrated() -> None:
    train, val = islands(1), islands(2)
    given = task(train, val)
    made = TipAdapter(alpha=2.0, beta=16.0).fit(given)
    head, x = made.head, torch.from_numpy(val[0])
    assert isinstance(head, CacheHead)
    zero_shot = ZeroShot().fit(given).head(x)
    unit, keys = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (val[0], head.keys.numpy()))
    said = np.exp(-16 * (1 - unit @ keys.T)) @ head.values.numpy()
    # the cache's spread is alpha times zero-shot's
    assert head.alpha * np.sqrt(said.var(axis=0).mean()) == pytest.approx(
        2 * made.card["slope"] * np.sqrt(zero_shot.numpy().var(axis=0).mean()), rel=1e-3
    )
    expected = made.card["slope"] * zero_shot.numpy() + head.alpha * said + head.bias.numpy()
    np.testing.assert_allclose(head(x).numpy(), expected, atol=1e-3)
    np.testing.assert_allclose(made.probabilities(val[0]).mean(axis=0), val[1].mean(axis=0), atol=5e-3)


def test_a_cache_that_knows_nothing_is_not_listened_to() -> None:
    # zero-shot knows all, the cache was labelled at random
    val = noise(2, 400)
    val[1][:] = (val[0][:, :L] - val[0][:, L : 2 * L] > 0).astype(np.float32)
    card = TipAdapter().fit(task(noise(1, 400), val)).card
    assert card["alpha"] <= 0.25


def test_a_capped_cache_is_small_and_goes_to_disk(tmp_path: Path) -> None:
    train, val = islands(1, 600), islands(2)
    made = TipAdapter(cache_per_label=10).fit(task(train, val))
    assert made.card["cached_images"] <= 60 < 600
    assert made.card["cache_bytes"] == 4 * made.card["cached_images"] * (D + L)
    made.save(tmp_path)
    np.testing.assert_array_equal(load_classifier(tmp_path).probabilities(val[0]), made.probabilities(val[0]))


def test_trained_keys_do_better_and_stay_of_length_one() -> None:
    train, val, test = (islands(seed, 240) for seed in (1, 2, 3))
    options: dict[str, Any] = {"cache_per_label": 60, "learning_rate": 0.02, "batch_size": 40}
    options |= {"epochs": 30, "beta": 16.0, "alpha": 4.0}
    free = TipAdapter(**options).fit(task(train, val))
    made = TipAdapter(trained=True, **options).fit(task(train, val))
    head = made.head
    assert isinstance(head, CacheHead)
    torch.testing.assert_close(head.keys.norm(dim=1), torch.ones(len(head.keys)))
    assert made.card["start_bce"] == pytest.approx(free.card["validation_bce"], rel=1e-4)
    assert made.card["validation_bce"] < 0.8 * made.card["start_bce"]
    assert made.card["trainable_parameters"] == head.keys.numel() + L
    assert made.card["epochs_run"] == len(made.card["history"]) > 0
    gained = auroc(made.probabilities(test[0]), test[1]) - auroc(free.probabilities(test[0]), test[1])
    assert gained.mean() > 0
    assert not head.keys.requires_grad and not head.bias.requires_grad


def test_a_training_image_is_told_by_the_others_only() -> None:
    train, val = islands(1, 60, null=0.2), islands(2)
    train[1][1:, 2] = np.where(np.isnan(train[1][1:, 2]), np.nan, 0)
    train[1][0, 2] = 1  # one positive, which nobody else can speak for
    options: dict[str, Any] = {"beta": 5.0, "alpha": 3.0, "cache_per_label": 12, "learning_rate": 1e-12, "epochs": 1}
    made = TipAdapter(trained=True, **options).fit(task(train, val))
    head = made.head
    assert isinstance(head, CacheHead)
    unit = train[0] / np.linalg.norm(train[0], axis=1, keepdims=True)
    near = np.exp(-5 * (1 - unit @ head.keys.numpy().T))
    own = near > 1 - 1e-5
    assert 0 < own.any(axis=1).sum() < 60
    values, losses = head.values.numpy(), []
    for row, label in np.argwhere(~np.isnan(train[1])):
        said, known = 0.0, True
        for sign in (1, -1):
            kind = np.sign(values[:, label]) == sign
            others = kind & ~own[row]
            known &= bool(others.any())
            if known:
                said += near[row, others].mean() * values[kind, label].sum()
        if known:
            x = head.scale * float(unit[row] @ head.weight[label].numpy()) + float(head.bias[label])
            z = x + head.alpha * said
            losses.append(np.logaddexp(0, z) - train[1][row, label] * z)
    assert made.card["history"][0]["train_loss"] == pytest.approx(np.mean(losses), rel=1e-3)


@pytest.mark.parametrize("trained", [False, True])
def test_repeats_with_its_seed(trained: bool) -> None:
    train, val = islands(1), islands(2)
    options: dict[str, Any] = {"trained": trained, "cache_per_label": 8, "epochs": 2}
    first, again, other = (TipAdapter(**options).fit(task(train, val, seed)).head for seed in (0, 0, 1))
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])
    assert not torch.equal(first.state_dict()["keys"], other.state_dict()["keys"][: len(first.state_dict()["keys"])])


@pytest.mark.parametrize("trained", [False, True])
def test_of_a_label_without_positives_the_cache_says_nothing(trained: bool) -> None:
    train, val = islands(1), islands(2)
    train[1][:, 0], train[1][:, 1] = 0, np.nan
    given = task(train, val)
    made = TipAdapter(trained=trained, epochs=2).fit(given)
    assert made.card["not_estimable"] == ["label 1"]
    assert made.card["no_training_positives"] == ["label 0", "label 1"]
    plain = ZeroShot().fit(given).head(torch.from_numpy(val[0]))
    logits = made.head(torch.from_numpy(val[0]))
    for label in (0, 1):
        expected = made.card["slope"] * plain[:, label] + made.head.bias[label]
        torch.testing.assert_close(logits[:, label], expected, atol=1e-3, rtol=1e-3)


def test_null_targets_have_no_say() -> None:
    train, val = islands(1), islands(2)
    more = (
        np.concatenate([train[0], train[0][:40] * -1]),
        np.concatenate([train[1], np.full((40, L), np.nan, np.float32)]),
    )
    first, second = (TipAdapter().fit(task(split, val)) for split in (train, more))
    np.testing.assert_array_equal(first.probabilities(val[0]), second.probabilities(val[0]))


def test_validation_without_positives_still_chooses() -> None:
    val = islands(2)
    val[1][:] = 0
    made = TipAdapter().fit(task(islands(1), val))
    assert np.isfinite(made.card["validation_bce"])
    assert np.isfinite(made.probabilities(val[0])).all()


def test_bad_splits_are_one_sentence() -> None:
    good, none, null = (islands(seed) for seed in range(3))
    none[1][:] = 0
    null[1][:] = np.nan
    with pytest.raises(DataError, match=r"tip-adapter expected at least one positive of any label in the train split"):
        TipAdapter().fit(task(none, good))
    with pytest.raises(DataError, match=r"at least one assessed label in the val split, found none among its 200"):
        TipAdapter().fit(task(good, null))
