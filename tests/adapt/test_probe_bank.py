"""Heads trained together against `fit_logistic`, and against torch's own autograd and AdamW, one head at a time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from radlens.adapt import probe_group
from radlens.adapt.logistic import Epoch, binary_cross_entropy, fit_logistic
from radlens.adapt.losses import LOSSES, LossSpec, make_loss
from radlens.adapt.probe_bank import BankFit, Variant, fit_bank
from radlens.core.errors import DataError

Floats = npt.NDArray[np.float32]
Split = tuple[Floats, Floats]


def cohort(seed: int, images: int = 200, dimension: int = 8, null: float = 0.2) -> tuple[Floats, Floats]:
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(images, dimension)).astype(np.float32)
    directions = np.random.default_rng(0).normal(size=(dimension, 3))
    y = (x @ directions + generator.logistic(size=(images, 3)) > np.array([0.5, 2, 3])).astype(np.float32)
    y[generator.random(y.shape) < null] = math.nan
    return x, y


TRAIN, VAL = cohort(1), cohort(2)
PROTOCOL: dict[str, Any] = {"epochs": 20, "batch_size": 24, "patience": 20}


def reference(
    variant: Variant, epochs: int, batch_size: int, patience: int, train: Split = TRAIN, val: Split = VAL
) -> tuple[Floats, Epoch, int]:
    """nn.Linear from zero in float64, autograd, torch's AdamW; weight and bias as (L, D + 1)."""
    x, y = (torch.from_numpy(part).double() for part in train)
    loss = make_loss(variant.loss, train[1])
    layer = nn.Linear(x.shape[1], y.shape[1]).double()
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    optimiser = torch.optim.AdamW(layer.parameters(), lr=variant.learning_rate, weight_decay=variant.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
    generator = np.random.default_rng(variant.seed)
    best, kept, ran = Epoch(0, math.inf, math.inf), np.zeros((3, 9), np.float32), 0
    for epoch in range(1, epochs + 1):
        ran = epoch
        for rows in torch.split(torch.from_numpy(generator.permutation(len(x))), batch_size):
            optimiser.zero_grad()
            loss.at((epoch - 1) / epochs)(layer(x[rows]), y[rows]).backward()
            optimiser.step()
        schedule.step()
        with torch.no_grad():
            value = binary_cross_entropy(layer(torch.from_numpy(val[0]).double()).numpy(), val[1])
            if value < best.val_bce:
                best = Epoch(epoch, math.nan, value)
                kept = torch.hstack([layer.weight, layer.bias[:, None]]).numpy()
            elif epoch - best.epoch >= patience:
                break
    return kept, best, ran


def together(fit: BankFit) -> Floats:
    return np.hstack([fit.weight, fit.bias[:, None]])


def test_one_head_with_bce_is_the_linear_probe() -> None:
    variant = Variant(seed=5, learning_rate=0.02)
    (fit,) = fit_bank(TRAIN, VAL, [variant], **PROTOCOL)
    alone = fit_logistic(
        TRAIN, VAL, learning_rate=0.02, weight_decay=1e-2, generator=np.random.default_rng(5), **PROTOCOL
    )
    np.testing.assert_allclose(fit.weight, alone.weight, atol=1e-5)
    np.testing.assert_allclose(fit.bias, alone.bias, atol=1e-5)
    assert fit.best.epoch == alone.best.epoch
    assert fit.best.val_bce == pytest.approx(alone.best.val_bce, rel=1e-5)
    for ours, theirs in zip(fit.history, alone.history, strict=True):
        assert (ours.train_bce, ours.val_bce) == pytest.approx((theirs.train_bce, theirs.val_bce), rel=1e-5)
    assert fit.failed is None


def test_every_head_is_what_it_is_alone() -> None:
    variants = [
        Variant(LossSpec(name=name), seed, rate, decay)
        for name in LOSSES
        for seed, rate, decay in ((3, 0.02, 0.01), (0, 0.01, 0.01), (3, 0.01, 0.3))
    ]
    # an odd number of heads a seed, out of order
    variants.append(Variant(LossSpec(name="ldam", scale=4.0, defer=0.3, beta=0.9), 1, 0.02, 0.0))
    fits = fit_bank(TRAIN, VAL, variants, epochs=12, batch_size=32, patience=3)
    for variant, fit in zip(variants, fits, strict=True):
        weight, best, ran = reference(variant, 12, 32, 3)
        assert fit.variant == variant
        assert fit.best.epoch == best.epoch, variant
        assert len(fit.history) == ran
        assert fit.best.val_bce == pytest.approx(best.val_bce, rel=1e-4)
        np.testing.assert_allclose(together(fit), weight, atol=2e-4)


WIDE_GRID = [
    Variant(loss, seed, rate)
    for loss in (
        LossSpec(),
        LossSpec(name="focal", gamma=0.0, alpha=0.61),
        LossSpec(name="asymmetric"),
        LossSpec(name="asymmetric", gamma_neg=0.0, gamma_pos=0.0, clip=0.2),
        LossSpec(name="asymmetric", gamma_neg=0.5, gamma_pos=2.0, clip=0.1),
        LossSpec(name="distribution-balanced", negative_scale=5.0, bias_scale=0.3),
    )
    for seed, rate in ((0, 0.02), (1, 0.02), (2, 0.04))
]


@pytest.mark.parametrize("null", [0.0, 0.2])
@pytest.mark.parametrize("batch_size", [24, 300])
def test_every_option_of_a_focus_with_and_without_nulls(null: float, batch_size: int) -> None:
    train, val = cohort(3, images=220, null=null), cohort(4, null=null)
    for variant, fit in zip(
        WIDE_GRID, fit_bank(train, val, WIDE_GRID, epochs=6, batch_size=batch_size, patience=6), strict=True
    ):
        weight, best, _ = reference(variant, 6, batch_size, 6, train, val)
        assert fit.best.val_bce == pytest.approx(best.val_bce, rel=1e-4), variant
        np.testing.assert_allclose(together(fit), weight, atol=2e-4, err_msg=str(variant))


@pytest.mark.parametrize("weights, rows", [(1, 192), (60, 30), (200, 1), (1 << 20, 500)])
def test_how_the_work_is_cut_does_not_matter(monkeypatch: pytest.MonkeyPatch, weights: int, rows: int) -> None:
    expected = fit_bank(TRAIN, VAL, WIDE_GRID, epochs=8, batch_size=24, patience=2)
    monkeypatch.setattr(probe_group, "WEIGHTS_TOGETHER", weights)
    monkeypatch.setattr(probe_group, "ROWS_PREPARED", rows)
    for fit, one in zip(fit_bank(TRAIN, VAL, WIDE_GRID, epochs=8, batch_size=24, patience=2), expected, strict=True):
        assert len(fit.history) == len(one.history)
        np.testing.assert_allclose(together(fit), together(one), atol=1e-5)
        assert fit.best.train_bce == pytest.approx(one.best.train_bce, rel=1e-5)


def test_stopped_heads_leave_the_others_as_they_are() -> None:
    fast, slow = Variant(seed=0, learning_rate=0.5), Variant(seed=0, learning_rate=0.003)
    many = fit_bank(TRAIN, VAL, [fast, slow, fast], epochs=25, batch_size=24, patience=2)
    (alone,) = fit_bank(TRAIN, VAL, [slow], epochs=25, batch_size=24, patience=2)
    assert len(many[0].history) < len(many[1].history)
    assert many[0].best.epoch + 2 == len(many[0].history)
    np.testing.assert_allclose(together(many[1]), together(alone), atol=1e-5)
    np.testing.assert_allclose(together(many[0]), together(many[2]), atol=1e-5)


def test_a_head_that_runs_away_is_reported_and_spoils_no_other() -> None:
    train = (TRAIN[0] * 1e3, TRAIN[1])
    val = (VAL[0] * 1e3, VAL[1])
    wild, tame = Variant(learning_rate=1e37), Variant(learning_rate=1e-4)
    fits = fit_bank(train, val, [tame, wild, tame], **PROTOCOL)
    (alone,) = fit_bank(train, val, [tame], **PROTOCOL)
    assert fits[1].failed is not None
    assert "not finite in epoch 1" in fits[1].failed
    assert fits[1].best.epoch == 0
    assert (fits[1].weight == 0).all()
    for fit in (fits[0], fits[2]):
        assert fit.failed is None
        np.testing.assert_allclose(together(fit), together(alone), rtol=1e-4, atol=1e-7)


def test_progress_ends_full_and_never_falls() -> None:
    seen: list[tuple[int, int]] = []
    variants = [Variant(learning_rate=0.5), Variant(learning_rate=0.01)]
    fit_bank(
        TRAIN,
        VAL,
        variants,
        epochs=9,
        batch_size=50,
        patience=1,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen[-1] == (18, 18)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_a_label_without_assessed_targets_keeps_weight_zero() -> None:
    targets = TRAIN[1].copy()
    targets[:, 1] = math.nan
    fits = fit_bank((TRAIN[0], targets), VAL, [Variant(LossSpec(name=name)) for name in LOSSES], **PROTOCOL)
    for fit in fits:
        assert fit.failed is None
        assert (fit.weight[1] == 0).all()
        assert fit.bias[1] == 0
        assert (fit.weight[0] != 0).any()


def test_threads_are_given_back_and_nothing_is_asked_for_nothing() -> None:
    before = torch.get_num_threads()
    assert fit_bank(TRAIN, VAL, [], **PROTOCOL) == []
    assert torch.get_num_threads() == before


def test_what_cannot_be_trained_on_is_refused() -> None:
    broken = TRAIN[0].copy()
    broken[3, 2] = math.inf
    with pytest.raises(DataError, match="finite embeddings, found 1 of 200 in the train split"):
        fit_bank((broken, TRAIN[1]), VAL, [Variant()], **PROTOCOL)
    with pytest.raises(DataError, match="at least one assessed label in the val split"):
        fit_bank(TRAIN, (VAL[0], np.full_like(VAL[1], math.nan)), [Variant()], **PROTOCOL)
