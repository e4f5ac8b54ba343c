"""The loop against torch written out, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from radlens.adapt.embedding_training import Training, masked_bce, train
from radlens.adapt.tip_adapter import TipAdapter
from radlens.core.errors import DataError


def problem(seed: int = 0, null: float = 0.2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(90, 5, generator=generator)
    y = (x[:, :2] + 0.5 * torch.randn(90, 2, generator=generator) > 0.3).float()
    y[torch.rand(90, 2, generator=generator) < null] = torch.nan
    return x, y


def run(weight: Tensor, seed: int = 3, ids: tuple[str, ...] = (), steps: int | None = None, **options: Any) -> Training:
    (x, y), (val_x, val_y) = problem(), problem(1)
    return train(
        TipAdapter(**{"epochs": 6, "batch_size": 30, "learning_rate": 0.05, "weight_decay": 0.1} | options),
        [weight],
        lambda rows: x[rows] @ weight.T,
        lambda: val_x @ weight.T,
        y,
        val_y,
        generator=np.random.default_rng(seed),
        on_epoch=lambda epoch: None,
        image_ids=ids,
        steps=steps,
        setting="ours",
    )


def zeros() -> Tensor:
    return torch.zeros(2, 5, requires_grad=True)


def test_equals_torch_written_out() -> None:
    weight, expected = zeros(), zeros()
    made = run(weight, patience=6)
    (x, y), (val_x, val_y) = problem(), problem(1)
    rows = [i for i in range(len(y)) if not y[i].isnan().all()]
    generator = np.random.default_rng(3)
    optimiser = torch.optim.AdamW([expected], lr=0.05, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 6)
    for epoch in range(6):
        order = generator.permutation(len(rows))
        for batch in np.array_split(order, -(-len(rows) // 30)):
            chosen = [rows[i] for i in batch]
            known = ~y[chosen].isnan()
            loss = binary_cross_entropy_with_logits((x[chosen] @ expected.T)[known], y[chosen][known])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        schedule.step()
        known = ~val_y.isnan()
        bce = binary_cross_entropy_with_logits((val_x @ expected.T)[known], val_y[known]).item()
        assert made.history[epoch].val_bce == pytest.approx(bce, rel=1e-5)
    assert made.best_epoch == 6
    torch.testing.assert_close(weight, expected, atol=1e-6, rtol=1e-5)
    assert made.start_bce == pytest.approx(np.log(2))


def test_keeps_the_best_and_the_start_counts() -> None:
    weight = zeros()
    made = run(weight, learning_rate=30.0, epochs=10, patience=3)
    assert made.best_epoch == 0 and len(made.history) == 3
    assert not weight.any()
    assert made.val_bce == made.start_bce


def test_another_loss_is_stopped_by_calibrated_cross_entropy() -> None:
    weight = zeros()
    made = run(weight, loss="weighted-bce", patience=6)
    assert made.best_epoch > 0
    assert made.stopping_loss < made.val_bce
    val_x, val_y = problem(1)
    assert made.val_bce == pytest.approx(masked_bce(val_x @ weight.detach().T, val_y), rel=1e-6)
    best = made.history[made.best_epoch - 1]
    assert best.stopping_loss == min(epoch.stopping_loss for epoch in made.history)


def test_repeats_with_its_seed_alone() -> None:
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first, again, other = zeros(), zeros(), zeros()
    run(first)
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(1)
    run(again)
    run(other, seed=4)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_an_epoch_may_be_cut_short() -> None:
    whole, cut = zeros(), zeros()
    run(whole, epochs=1)
    run(cut, epochs=1, steps=1)
    assert not torch.equal(whole, cut) and cut.any()


def test_a_loss_that_is_not_finite_names_its_images() -> None:
    (x, y), weight = problem(null=0), zeros()
    x[7] = torch.inf
    given: npt.NDArray[np.str_] = np.array([f"image{i}" for i in range(90)])
    with pytest.raises(
        DataError, match=r"loss of ours is nan in epoch 1, in the batch of the images .*image7\b.*lower"
    ):
        train(
            TipAdapter(batch_size=5),
            [weight],
            lambda rows: x[rows] @ weight.T,
            lambda: x[:5] @ weight.T,
            y,
            y[:5],
            generator=np.random.default_rng(0),
            on_epoch=lambda epoch: None,
            image_ids=given.tolist(),
            setting="ours",
        )
