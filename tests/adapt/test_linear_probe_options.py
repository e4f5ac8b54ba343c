"""The probe's solvers, grids, losses, samplers and heads, and which options go together."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from radlens.adapt import probe_solvers
from radlens.adapt.linear_probe import LinearProbe
from radlens.adapt.logistic import fit_logistic
from radlens.adapt.losses import LOSSES, make_loss
from radlens.adapt.samplers import epoch_order
from radlens.core.classifier import load_classifier
from radlens.core.errors import DataError, SpecError
from radlens.core.heads import PerceptronHead
from radlens.core.parts import AdaptationTask
from radlens.core.spec import ModelSpec
from radlens.core.store import Cache
from radlens.core.vocabulary import Label, Vocabulary
from radlens.models.loading import load_encoder, resolve

Floats = npt.NDArray[np.float32]


def cohort(seed: int, images: int = 200, null: float = 0.0) -> tuple[Floats, Floats]:
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(images, 8)).astype(np.float32)
    directions = np.random.default_rng(0).normal(size=(8, 3))
    y = (x @ directions + generator.logistic(size=(images, 3)) > 0.5).astype(np.float32)
    y[generator.random(y.shape) < null] = np.nan
    return x, y


def ring(seed: int, images: int = 300) -> tuple[Floats, Floats]:
    """Positives in the middle: no linear probe finds them."""
    x = np.random.default_rng(seed).normal(size=(images, 8)).astype(np.float32)
    return x, np.stack([(x[:, i] ** 2 < 0.4) for i in range(3)], axis=1).astype(np.float32)


def task(train: tuple[Floats, Floats], val: tuple[Floats, Floats], seed: int = 0, **more: Any) -> AdaptationTask:
    labels = tuple(Label(f"label {i}", None, (f"with {i}",), (f"without {i}",)) for i in range(3))
    fields: dict[str, Any] = {
        "vocabulary": Vocabulary("test", labels),
        "embeddings": {"train": train[0], "val": val[0]},
        "targets": {"train": train[1], "val": val[1]},
        "encode_texts": lambda texts: np.zeros((len(texts), 8), np.float32),
        "logit_scale": 50.0,
        "seed": seed,
        "progress": lambda done, total: None,
    }
    return AdaptationTask(**fields | more)


def bce(made: Any, data: tuple[Floats, Floats]) -> float:
    z, t = made.head(torch.from_numpy(data[0])), torch.from_numpy(data[1])
    known = ~t.isnan()
    return float(nn.functional.binary_cross_entropy_with_logits(z[known], t[known]))


@pytest.mark.parametrize("standardise", [False, True])
def test_lbfgs_is_scikit_learns_optimum(standardise: bool) -> None:
    train, val = cohort(1, null=0.2), cohort(2)
    made = LinearProbe(solver="lbfgs", weight_decay=0.05, standardise=standardise).fit(task(train, val, seed=3))
    x = (train[0] - train[0].mean(0)) / train[0].std(0) if standardise else train[0]
    for label, target in enumerate(train[1].T):
        known = ~np.isnan(target)
        reference = LogisticRegression(C=1 / (known.sum() * 0.05), tol=1e-9).fit(x[known], target[known])
        expected = reference.decision_function((val[0] - train[0].mean(0)) / train[0].std(0) if standardise else val[0])
        np.testing.assert_allclose(made.head(torch.from_numpy(val[0]))[:, label], expected, atol=2e-3)
    assert made.card["converged"] and made.card["epochs_run"] == 0 and made.card["history"] == []
    assert made.card["validation_bce"] == pytest.approx(bce(made, val), rel=1e-5)


def test_closed_form_orders_as_ridge_and_its_probabilities_are_honest() -> None:
    train, val, test = cohort(1, 60), cohort(2), cohort(3, 3000)
    made = LinearProbe(solver="closed-form", weight_decay=1e-3).fit(task(train, val))
    exact = LinearProbe(solver="lbfgs", weight_decay=1e-3).fit(task(train, val))
    # 60 images are few: logistic regression is sure of itself, leave-one-out scaling is not
    assert bce(made, test) < bce(exact, test)
    assert set(made.card["platt_slope"]) == {"label 0", "label 1", "label 2"}
    correlation = np.corrcoef(made.probabilities(test[0])[:, 0], exact.probabilities(test[0])[:, 0])[0, 1]
    assert correlation > 0.95


@pytest.mark.parametrize("solver", ["lbfgs", "closed-form"])
def test_a_grid_chooses_each_labels_decay_on_validation(solver: Any) -> None:
    train, val = cohort(1, 120), cohort(2)
    val[1][:, 2] = 0
    val[1][:3, 2] = 1
    grid = (1e-4, 1e-2, 1.0)
    made = LinearProbe(solver=solver, weight_decay=grid).fit(task(train, val))
    single = {decay: LinearProbe(solver=solver, weight_decay=decay).fit(task(train, val)) for decay in grid}
    losses = {}
    for decay, each in single.items():
        z = each.head(torch.from_numpy(val[0]))
        losses[decay] = nn.functional.binary_cross_entropy_with_logits(
            z, torch.from_numpy(val[1]), reduction="none"
        ).sum(0)
    shared = min(grid, key=lambda decay: float(losses[decay].sum()))
    for label, by in enumerate(("own", "own", "shared")):
        expected = shared if by == "shared" else min(grid, key=lambda decay: float(losses[decay][label]))
        assert made.card["weight_decay_chosen"][f"label {label}"] == {"strength": expected, "chosen_by": by}
        torch.testing.assert_close(made.head.weight[label], single[expected].head.weight[label], atol=1e-4, rtol=1e-3)
    val[1][:] = 0
    made = LinearProbe(solver=solver, weight_decay=grid).fit(task(train, val))
    assert {tuple(x.values()) for x in made.card["weight_decay_chosen"].values()} == {(1.0, "fallback")}


def test_adamw_grid_is_the_best_of_its_single_fits() -> None:
    made_for = task(cohort(1, 60), cohort(2))
    grid = (1e-2, 10.0, 50.0)
    options: dict[str, Any] = {"epochs": 15, "learning_rate": 1e-2}
    made = LinearProbe(weight_decay=grid, **options).fit(made_for)
    single = {decay: LinearProbe(weight_decay=decay, **options).fit(made_for) for decay in grid}
    best = min(grid, key=lambda decay: float(single[decay].card["validation_bce"]))
    assert made.card["weight_decay_chosen"] == best
    assert len({each["validation_bce"] for each in made.card["weight_decays_tried"]}) == 3
    torch.testing.assert_close(made.head.weight, single[best].head.weight, atol=2e-4, rtol=1e-3)


def test_the_default_is_fit_logistic_bit_for_bit() -> None:
    train, val = cohort(1), cohort(2)
    made = LinearProbe(epochs=5).fit(task(train, val, seed=4))
    plain = fit_logistic(
        train, val, learning_rate=1e-3, weight_decay=1e-2, epochs=5, batch_size=24, patience=10,
        generator=np.random.default_rng(4),
    )  # fmt: skip
    np.testing.assert_array_equal(made.head.weight.numpy(), plain.weight)
    np.testing.assert_array_equal(made.head.bias.numpy(), plain.bias)


def test_a_sweep_is_one_batched_problem_with_each_fits_own_result(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counted(*arguments: Any, **named: Any) -> Any:
        calls.append(len(arguments[2]))
        return fit_bank(*arguments, **named)

    fit_bank = probe_solvers.fit_bank
    monkeypatch.setattr(probe_solvers, "fit_bank", counted)
    train, val = cohort(1, null=0.1), cohort(2)
    parts = [LinearProbe(loss=loss, epochs=4, learning_rate=1e-2) for loss in LOSSES for _ in range(2)]
    tasks = [task(train, val, seed) for _ in LOSSES for seed in range(2)]
    together = LinearProbe.fit_together(parts, tasks)
    assert calls == [2 * len(LOSSES)]
    for part, each, made in zip(parts, tasks, together, strict=True):
        alone = part.fit(each)
        torch.testing.assert_close(made.head.weight, alone.head.weight, atol=1e-4, rtol=1e-3)
        assert made.card["options"] == part.model_dump()
        assert made.card["trained_together"] == 2 * len(LOSSES)
        assert made.card["validation_bce"] == pytest.approx(alone.card["validation_bce"], rel=1e-4)


def test_parts_that_do_not_share_a_protocol_are_fitted_in_their_groups() -> None:
    train, val = cohort(1), cohort(2)
    parts = [
        LinearProbe(epochs=3),
        LinearProbe(epochs=4),
        LinearProbe(epochs=3, loss="focal"),
        LinearProbe(solver="lbfgs"),
        LinearProbe(hidden=4, epochs=2),
        LinearProbe(epochs=3, standardise=True),
    ]
    found = LinearProbe.fit_together(parts, [task(train, val) for _ in parts])
    assert [made.card.get("trained_together") for made in found] == [2, None, 2, None, None, None]
    assert [made.card["epochs_run"] for made in found] == [3, 4, 3, 0, 2, 3]


def test_a_runaway_head_of_a_sweep_is_named() -> None:
    train = cohort(1)
    made_for = task((train[0] * np.float32(1e20), train[1]), cohort(2))
    with pytest.raises(DataError, match=r"\(focal, seed 0, learning rate 1e\+38\).*loss is not finite in epoch 1"):
        LinearProbe(learning_rate=1e38, loss="focal").fit(made_for)


def test_a_runaway_head_of_a_sweep_leaves_the_others() -> None:
    train = cohort(1)
    made_for = [task((train[0] * np.float32(1e20), train[1]), cohort(2)) for _ in range(2)]
    parts = [LinearProbe(learning_rate=rate, loss="focal", epochs=2) for rate in (1e38, 1e-25)]
    gone, kept = LinearProbe.fit_together(parts, made_for)
    assert isinstance(gone, DataError)
    assert kept.card["epochs_run"] == 2


def reference(train: tuple[Floats, Floats], val: tuple[Floats, Floats], loss: str) -> nn.Linear:
    """The class-aware sampler's epochs by an independent loop."""
    x, y = map(torch.from_numpy, train)
    layer = nn.Linear(8, 3)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    optimiser = torch.optim.AdamW(layer.parameters(), lr=1e-2, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 4)
    objective = make_loss(LinearProbe(loss=loss).loss, train[1])
    for epoch in range(1, 5):
        order = epoch_order("class-aware", train[1], epoch, 5, 2)
        for start in range(0, len(order), 24):
            rows = order[start : start + 24]
            optimiser.zero_grad()
            objective(layer(x[rows]), y[rows]).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        schedule.step()
    return layer


@pytest.mark.parametrize("loss", ["bce", "weighted-bce"])
def test_class_aware_sampler_and_loss(loss: str) -> None:
    train, val = cohort(1, null=0.2), cohort(1, null=0.2)
    options: dict[str, Any] = {"epochs": 4, "learning_rate": 1e-2, "loss": loss}
    made = LinearProbe(sampler="class-aware", sampler_cap=2, **options).fit(task(train, val, seed=5))
    layer = reference(train, val, loss)
    assert made.card["best_epoch"] == 4
    np.testing.assert_allclose(made.head.weight.numpy(), layer.weight.detach().numpy(), atol=1e-5)


def test_a_hidden_layer_learns_what_no_line_does_and_saves(tmp_path: Path) -> None:
    train, val, test = ring(1), ring(2), ring(3)
    options: dict[str, Any] = {"learning_rate": 1e-2, "epochs": 40, "standardise": True}
    made = LinearProbe(hidden=32, **options).fit(task(train, val))
    line = LinearProbe(**options).fit(task(train, val))
    assert bce(made, test) < 0.75 * bce(line, test)
    assert isinstance(made.head, PerceptronHead)
    assert made.card["trainable_parameters"] == 32 * 8 + 32 + 3 * 32 + 3
    assert made.card["validation_bce"] == pytest.approx(bce(made, val), rel=1e-4)
    made.save(tmp_path)
    np.testing.assert_array_equal(load_classifier(tmp_path).probabilities(test[0]), made.probabilities(test[0]))
    again = LinearProbe(hidden=32, **options).fit(task(train, val))
    other = LinearProbe(hidden=32, **options).fit(task(train, val, seed=1))
    assert torch.equal(made.head.weight, again.head.weight) and not torch.equal(made.head.weight, other.head.weight)


def test_a_hidden_layer_that_runs_away_is_told() -> None:
    train = cohort(1)
    with pytest.raises(DataError, match=r"loss is not finite in epoch 1 .* lower learning_rate"):
        LinearProbe(hidden=4, learning_rate=1e30).fit(task((train[0] * np.float32(1e20), train[1]), cohort(2)))


@pytest.mark.parametrize("solver", ["adamw", "lbfgs", "closed-form"])
def test_cards_are_json_and_name_labels_that_cannot_be_learnt(solver: Any) -> None:
    train = cohort(1)
    train[1][:, 0], train[1][:, 1] = np.nan, 0
    made = LinearProbe(solver=solver, weight_decay=[0.1, 0.01]).fit(task(train, cohort(2)))
    card = json.loads(json.dumps(made.card))
    assert card["not_estimable"] == ["label 0"]
    assert card["no_training_positives"] == ["label 0", "label 1"]
    assert not made.head.weight[0].any() and made.head.bias[1] < 0 and made.head.weight[2].any()
    assert card["train_seconds"] > 0 and card["trainable_parameters"] == 27


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"solver": "lbfgs", "epochs": 3}, "solver: lbfgs does not use epochs"),
        ({"solver": "closed-form", "loss": "focal", "hidden": 4}, "closed-form does not use hidden, loss"),
        ({"solver": "lbfgs", "sampler": "class-aware"}, "does not use sampler"),
        ({"sampler_cap": 3}, "sampler: plain does not use sampler_cap"),
        ({"loss": "hinge"}, "hinge"),
    ],
)
def test_an_option_that_is_not_used_is_refused(options: Mapping[str, Any], sentence: str) -> None:
    with pytest.raises(SpecError, match=sentence):
        LinearProbe(**options)


def test_trunk_features_feed_a_head_on_the_encoder_before_its_projection(miniature: Path, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    encoder = load_encoder(resolve(ModelSpec(path=str(miniature)), Path(), cache), "cpu")
    cut = encoder.without_projection()
    pixels = torch.randn(12, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features = cut.encode_images(pixels).numpy()
    train = features, cohort(1, 12)[1]
    made_for = task(cohort(1, 12), cohort(1, 12), encoder=encoder, trunk=lambda: {"train": features, "val": features})
    made = LinearProbe(features="trunk", epochs=20, learning_rate=1e-2).fit(made_for)
    assert made.features == "trunk"
    assert made.head.dimension == cut.dimension == features.shape[1] != encoder.dimension
    assert made.card["validation_bce"] == pytest.approx(bce(made, train), rel=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(
            torch.sigmoid(made.logits(pixels)).double(),
            torch.from_numpy(made.probabilities(features)),
            atol=1e-5,
            rtol=1e-4,
        )
    made = replace(made, card=dict(made.card) | {"encoder": {"fingerprint": encoder.fingerprint}})
    made.save(tmp_path / "saved")
    loaded = load_classifier(tmp_path / "saved", encoder)
    with torch.no_grad():
        torch.testing.assert_close(loaded.logits(pixels), made.logits(pixels))


def test_trunk_features_need_a_model_that_can_make_them() -> None:
    with pytest.raises(SpecError, match="features: trunk needs a model whose images are at hand"):
        LinearProbe(features="trunk").fit(task(cohort(1), cohort(2)))
