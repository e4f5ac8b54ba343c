"""The exact solvers against scikit-learn, gradients at the optimum, leave-one-out by hand."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from torch import nn

from radlens.adapt.logistic import fit_logistic
from radlens.adapt.logistic_lbfgs import LogisticProblem
from radlens.adapt.logistic_ridge import LEAST_SLOPE, fit_ridge, platt
from radlens.adapt.probe_grid import choose, label_losses

Floats = npt.NDArray[np.float32]


def cohort(seed: int = 0, images: int = 300, null: float = 0.2) -> tuple[Floats, Floats]:
    """Four labels of falling prevalence on 12 features, far from zero and of unlike scales."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(images, 12)) * np.geomspace(0.05, 3, 12) + np.arange(12)
    z = 2 * (x - np.arange(12)) @ np.random.default_rng(9).normal(size=(12, 4)) / 3
    y = (z + generator.logistic(size=z.shape) > [0, 1, 2, 3]).astype(np.float32)
    y[generator.random(y.shape) < null] = np.nan
    return x.astype(np.float32), y


@pytest.mark.parametrize("strength", [1.0, 1e-2, 1e-4])
@pytest.mark.parametrize("null", [0.0, 0.3])
def test_lbfgs_is_scikit_learns_logistic_regression(strength: float, null: float) -> None:
    x, y = cohort(null=null)
    found = LogisticProblem(x, y).fit(np.full(4, strength))
    assert found.converged
    for label, target in enumerate(y.T):
        known = ~np.isnan(target)
        reference = LogisticRegression(
            C=1 / (known.sum() * strength), tol=1e-10, max_iter=20000, solver="newton-cholesky"
        )
        reference.fit(x[known].astype(np.float64), target[known])
        np.testing.assert_allclose(found.weight[label], reference.coef_[0], atol=2e-4, rtol=2e-4)
        assert found.bias[label] == pytest.approx(reference.intercept_[0], abs=2e-3)


def test_lbfgs_in_blocks_and_from_a_start_ends_in_the_same_optimum(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = cohort()
    strengths = np.array([1e-3, 1e-1, 1e-2, 1.0])
    plain = LogisticProblem(x, y).fit(strengths)
    monkeypatch.setattr("radlens.adapt.logistic_lbfgs.MOST_HELD", 0)
    monkeypatch.setattr("radlens.adapt.logistic_lbfgs.BLOCK", 37)
    problem = LogisticProblem(x, y)
    started = problem.fit(strengths, problem.fit(np.full(4, 10.0)))
    np.testing.assert_allclose(started.weight, plain.weight, atol=1e-4)
    np.testing.assert_allclose(started.bias, plain.bias, atol=1e-3)


def test_penalty_draws_to_the_centre_and_an_infinite_one_holds_it() -> None:
    x, y = cohort()
    centre = np.random.default_rng(3).normal(size=(4, 12))
    found = LogisticProblem(x, y, centre).fit(np.array([np.inf, 1e6, 1e-2, 1e-2]))
    np.testing.assert_array_equal(found.weight[0], centre[0])
    np.testing.assert_allclose(found.weight[1], centre[1], atol=1e-5)
    for label, strength in ((0, None), (1, None), (2, 1e-2), (3, 1e-2)):
        known = ~np.isnan(y[:, label])
        p = 1 / (1 + np.exp(-(x[known] @ found.weight[label] + found.bias[label])))
        # the optimum's own equations: no error on average; the mean error's direction is the penalty's
        assert (p - y[known, label]).mean() == pytest.approx(0, abs=1e-5)
        if strength is not None:
            of_loss = x[known].T.astype(np.float64) @ (p - y[known, label]) / known.sum()
            np.testing.assert_allclose(of_loss, -strength * (found.weight[label] - centre[label]), atol=2e-5)


def test_labels_with_one_class_keep_the_centre_with_the_bias_stated() -> None:
    x, y = cohort(null=0)
    y[:, 0], y[:, 1], y[:100, 2], y[100:, 2] = 0, 1, np.nan, 0
    centre = np.random.default_rng(3).normal(size=(4, 12))
    found = LogisticProblem(x, y, centre).fit(np.full(4, 1e-2))
    np.testing.assert_array_equal(found.weight[:3], centre[:3])
    logits = x @ found.weight.T + found.bias
    assert logits[:, 0].mean() == pytest.approx(np.log(0.5 / 300.5), abs=1e-4)
    assert logits[:, 1].mean() == pytest.approx(np.log(300.5 / 0.5), abs=1e-4)
    assert logits[100:, 2].mean() == pytest.approx(np.log(0.5 / 200.5), abs=1e-4)
    y[:] = np.nan
    nothing = LogisticProblem(x, y, centre).fit(np.full(4, 1e-2))
    np.testing.assert_allclose((x @ nothing.weight.T + nothing.bias).mean(axis=0), 0, atol=1e-4)
    assert nothing.converged


@pytest.mark.parametrize("null", [0.0, 0.3])
def test_ridge_is_scikit_learns_and_its_scores_leave_one_out(null: float) -> None:
    x, y = cohort(images=80, null=null)
    strengths = (1.0, 1e-3)
    found = fit_ridge(x, y, strengths)
    for number, strength in enumerate(strengths):
        for label, target in enumerate(y.T):
            known = np.flatnonzero(~np.isnan(target))
            inputs, signs = x[known].astype(np.float64), 2 * target[known].astype(np.float64) - 1
            reference = Ridge(alpha=len(known) * strength).fit(inputs, signs)
            slope = found.slope[number, label]
            np.testing.assert_allclose(found.weight[number, label] / slope, reference.coef_, atol=1e-7)
            left_out = [
                Ridge(alpha=len(known) * strength)
                .fit(np.delete(inputs, row, 0), np.delete(signs, row))
                .predict(inputs[row : row + 1])[0]
                for row in range(len(known))
            ]
            a, b = platt(np.array(left_out), signs > 0)
            assert slope == pytest.approx(a, rel=1e-3)
            expected = a * reference.intercept_ + b
            assert found.bias[number, label] == pytest.approx(expected, rel=1e-3, abs=1e-2)


def test_ridge_of_labels_with_one_class_and_of_constant_features() -> None:
    x, y = cohort(null=0)
    x[:, 3] = 7
    y[:, 0], y[:, 1] = 0, np.nan
    found = fit_ridge(x, y, [0.0])
    assert not found.weight[0, :2].any()
    assert found.bias[0, 0] == pytest.approx(np.log(0.5 / 300.5))
    assert found.bias[0, 1] == 0
    assert np.isfinite(found.weight).all()
    np.testing.assert_allclose(found.weight[0, :, 3], 0, atol=1e-9)


def test_platt_is_the_optimum_and_never_reverses() -> None:
    generator = np.random.default_rng(0)
    scores = generator.normal(size=500)
    positive = 3 * scores - 2 + generator.logistic(size=500) > 0
    slope, shift = platt(scores, positive)
    z, t = (
        torch.tensor(scores),
        torch.tensor(np.where(positive, (positive.sum() + 1) / (positive.sum() + 2), 1 / ((~positive).sum() + 2))),
    )
    free = torch.tensor([slope, shift], requires_grad=True)
    nn.functional.binary_cross_entropy_with_logits(free[0] * z + free[1], t).backward()  # type: ignore[no-untyped-call]
    assert free.grad is not None
    np.testing.assert_allclose(free.grad.numpy(), 0, atol=1e-6)
    assert platt(-scores, positive)[0] == LEAST_SLOPE


def test_choice_by_label_where_validation_has_the_positives() -> None:
    targets = np.zeros((40, 3), np.float32)
    targets[:12, 0], targets[:3, 1], targets[:2, 2] = 1, 1, np.nan
    losses = [np.array([5.0, 1.0, 1.0]), np.array([1.0, 3.0, 2.0]), np.array([2.0, 0.5, 1.0])]
    chosen = choose(losses, targets, fallback=0)
    assert (chosen.index.tolist(), chosen.by) == ([1, 2, 2], ("own", "shared", "shared"))
    targets[targets == 1] = 0
    chosen = choose(losses, targets, fallback=1)
    assert (chosen.index.tolist(), chosen.by) == ([1, 1, 1], ("fallback",) * 3)
    z = np.random.default_rng(0).normal(size=(40, 3)) * 30
    for label in range(3):
        known = ~np.isnan(targets[:, label])
        expected = nn.functional.binary_cross_entropy_with_logits(
            torch.tensor(z[known, label]), torch.tensor(targets[known, label]).double(), reduction="sum"
        )
        assert label_losses(z, targets)[label] == pytest.approx(expected.item())


@pytest.mark.parametrize("decay", [5.0, 20.0, 100.0])
def test_a_decay_that_shrinks_weights_fast_is_torchs_too(decay: float) -> None:
    x, y = cohort(null=0.1)
    x = (x - x.mean(axis=0)).astype(np.float32)
    ours = fit_logistic(
        (x, y),
        (x, y),
        learning_rate=1e-2,
        weight_decay=decay,
        epochs=5,
        batch_size=3,
        patience=5,
        generator=np.random.default_rng(7),
    )
    layer, generator = nn.Linear(12, 4), np.random.default_rng(7)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    optimiser = torch.optim.AdamW(layer.parameters(), lr=1e-2, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 5)
    found = []
    for _ in range(5):
        for rows in torch.split(torch.from_numpy(generator.permutation(300)), 3):
            t = torch.from_numpy(y)[rows]
            z = layer(torch.from_numpy(x)[rows])
            optimiser.zero_grad()
            nn.functional.binary_cross_entropy_with_logits(z[~t.isnan()], t[~t.isnan()]).backward()
            optimiser.step()
        schedule.step()
        found.append(layer.weight.detach().numpy().copy())
    np.testing.assert_allclose(ours.weight, found[ours.best.epoch - 1], atol=1e-5)
