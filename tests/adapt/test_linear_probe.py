"""The probe against torch's AdamW, autograd and DataLoader, and what it does with odd cohorts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from radlens.adapt.linear_probe import LinearProbe
from radlens.adapt.logistic import binary_cross_entropy, fit_logistic
from radlens.core.errors import DataError
from radlens.core.parts import AdaptationTask
from radlens.core.vocabulary import Label, Vocabulary

Floats = npt.NDArray[np.float32]


def vocabulary(labels: int) -> Vocabulary:
    return Vocabulary(
        "test", tuple(Label(f"label {i}", None, (f"with {i}",), (f"without {i}",)) for i in range(labels))
    )


def cohort(
    seed: int, images: int = 200, dimension: int = 8, labels: int = 3, null: float = 0.0
) -> tuple[Floats, Floats]:
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(images, dimension)).astype(np.float32)
    directions = np.random.default_rng(0).normal(size=(dimension, labels))
    y = (x @ directions + generator.logistic(size=(images, labels)) > 0.5).astype(np.float32)
    y[generator.random(y.shape) < null] = np.nan
    return x, y


def task(train: tuple[Floats, Floats], val: tuple[Floats, Floats], seed: int = 0, **more: Any) -> AdaptationTask:
    fields: dict[str, Any] = {
        "vocabulary": vocabulary(train[1].shape[1]),
        "embeddings": {"train": train[0], "val": val[0]},
        "targets": {"train": train[1], "val": val[1]},
        "encode_texts": lambda texts: np.zeros((len(texts), 8), np.float32),
        "logit_scale": 50.0,
        "seed": seed,
        "progress": lambda done, total: None,
    }
    return AdaptationTask(**fields | more)


class Permutations(torch.utils.data.Sampler[int]):
    """The orders that numpy's generator draws, one an epoch."""

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.generator = count, np.random.default_rng(seed)

    def __iter__(self) -> Iterator[int]:
        return iter(self.generator.permutation(self.count).tolist())


def reference(train: tuple[Floats, Floats], epochs: int, batch: int, rate: float, decay: float) -> nn.Linear:
    """nn.Linear from zero, autograd, torch's AdamW and cosine, a DataLoader in the same orders."""
    x, y = map(torch.from_numpy, train)
    loader = DataLoader(TensorDataset(x, y), batch_size=batch, sampler=Permutations(len(x), 7))
    layer = nn.Linear(x.shape[1], y.shape[1])
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    optimiser = torch.optim.AdamW(layer.parameters(), lr=rate, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
    for _ in range(epochs):
        for inputs, targets in loader:
            assessed = ~targets.isnan()
            loss = nn.functional.binary_cross_entropy_with_logits(layer(inputs)[assessed], targets[assessed])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        schedule.step()
    return layer


@pytest.mark.parametrize(("images", "batch", "null"), [(200, 24, 0.0), (200, 24, 0.3), (48, 24, 0.1), (20, 24, 0.0)])
def test_equals_torch_adamw_over_a_data_loader(images: int, batch: int, null: float) -> None:
    train = cohort(1, images, null=null)
    epochs, rate, decay = 12, 1e-2, 1e-1
    ours = fit_logistic(
        train,
        train,
        learning_rate=rate,
        weight_decay=decay,
        epochs=epochs,
        batch_size=batch,
        patience=epochs,
        generator=np.random.default_rng(7),
    )
    layer = reference(train, epochs, batch, rate, decay)
    assert ours.best.epoch == epochs  # else the weights kept are of another epoch than the reference's
    np.testing.assert_allclose(ours.weight, layer.weight.detach().numpy(), atol=1e-5)
    np.testing.assert_allclose(ours.bias, layer.bias.detach().numpy(), atol=1e-5)
    z, t = layer(torch.from_numpy(train[0])), torch.from_numpy(train[1])
    loss = nn.functional.binary_cross_entropy_with_logits(z[~t.isnan()], t[~t.isnan()]).item()
    assert ours.best.val_bce == pytest.approx(loss, rel=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.1, 300))
def test_cross_entropy_is_torchs_and_never_overflows(seed: int, scale: float) -> None:
    generator = np.random.default_rng(seed)
    z = (generator.normal(size=(5, 4)) * scale).astype(np.float32)
    t = generator.integers(0, 2, (5, 4)).astype(np.float32)
    t[generator.random(t.shape) < 0.3] = np.nan
    known = ~np.isnan(t)
    if known.any():
        expected = nn.functional.binary_cross_entropy_with_logits(
            torch.from_numpy(z[known].astype(np.float64)), torch.from_numpy(t[known].astype(np.float64))
        )
        assert binary_cross_entropy(z, t) == pytest.approx(expected.item(), rel=1e-5, abs=1e-6)


def test_reaches_the_optimum_that_newtons_method_finds() -> None:
    train = cohort(1, 400)
    made = LinearProbe(weight_decay=0, learning_rate=3e-2, epochs=200, patience=200).fit(task(train, train))
    x = np.hstack([train[0], np.ones((400, 1))]).astype(np.float64)
    for i, target in enumerate(train[1].T):
        best = np.zeros(9)
        for _ in range(20):
            p = 1 / (1 + np.exp(-x @ best))
            best -= np.linalg.solve((x.T * (p * (1 - p))) @ x, x.T @ (p - target))
        np.testing.assert_allclose(made.head.weight[i].numpy(), best[:-1], atol=0.03)
        assert made.head.bias[i].item() == pytest.approx(best[-1], abs=0.03)


def test_learns_and_tells_what_it_did() -> None:
    calls: list[tuple[int, int]] = []
    options = LinearProbe(learning_rate=1e-2, epochs=15, patience=15)
    made = options.fit(task(cohort(1), cohort(2, 80), progress=lambda done, total: calls.append((done, total))))
    card = made.card
    assert (made.setting, made.head.normalise, made.head.scale, made.thresholds) == ("linear-probe", False, 1.0, None)
    assert card["trainable_parameters"] == 3 * 9
    assert card["options"] == options.model_dump()
    assert card["epochs_run"] == len(card["history"]) == 15
    assert [entry["epoch"] for entry in card["history"]] == list(range(1, 16))
    assert card["train_seconds"] > 0
    assert calls[:15] == [(i, 15) for i in range(1, 16)]
    test = cohort(3, 300)
    probabilities = made.probabilities(test[0])
    assert ((probabilities > 0.5) == (test[1] == 1)).mean() > 0.75  # the noise alone takes a fifth


def test_keeps_the_best_epoch_and_stops_after_patience() -> None:
    # validation labels are noise: the loss there rises soon
    val = cohort(2, 60)
    val = val[0], np.random.default_rng(5).integers(0, 2, val[1].shape).astype(np.float32)
    made = LinearProbe(learning_rate=5e-2, epochs=60, patience=4).fit(task(cohort(1), val))
    losses = [entry["val_bce"] for entry in made.card["history"]]
    best = int(np.argmin(losses))
    assert made.card["best_epoch"] == best + 1
    assert made.card["epochs_run"] == best + 1 + 4 < 60
    kept = binary_cross_entropy(made.head(torch.from_numpy(val[0])).numpy(), val[1])
    assert kept == pytest.approx(losses[best], rel=1e-6) == made.card["validation_bce"]


def test_seeded_and_deaf_to_the_global_state() -> None:
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    states = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first, other = (LinearProbe(epochs=3).fit(task(cohort(1), cohort(2), seed=s)) for s in (0, 1))
    assert torch.equal(states[0], torch.get_rng_state())
    np.testing.assert_array_equal(states[1], np.random.get_state()[1])  # noqa: NPY002
    torch.manual_seed(2)
    again = LinearProbe(epochs=3).fit(task(cohort(1), cohort(2), seed=0))
    assert torch.equal(first.head.weight, again.head.weight)
    assert not torch.equal(first.head.weight, other.head.weight)


def test_labels_that_cannot_be_learnt_are_named() -> None:
    train, val = cohort(1), cohort(2)
    train[1][:, 0] = np.nan
    train[1][:, 1] = 0
    made = LinearProbe(epochs=20, learning_rate=1e-2).fit(task(train, val))
    assert made.card["not_estimable"] == ["label 0"]
    assert made.card["no_training_positives"] == ["label 0", "label 1"]
    assert not made.head.weight[0].any() and not made.head.bias[0].any()
    assert made.head.bias[1] < 0  # all negative: learnt as rare
    assert made.head.weight[2].any()


def test_standardise_is_folded_back_into_the_head() -> None:
    train, val = cohort(1), cohort(2)
    scale, shift = np.geomspace(0.01, 100, 8).astype(np.float32), np.arange(8, dtype=np.float32)
    constant = np.full((200, 1), 3, np.float32)
    skewed = [(np.hstack([x * scale + shift, constant]), y) for x, y in (train, val)]
    options = {"epochs": 10, "learning_rate": 1e-2, "standardise": True}
    plain = LinearProbe(**options).fit(task(train, val))
    made = LinearProbe(**options).fit(task(*skewed))
    np.testing.assert_allclose(made.probabilities(skewed[1][0]), plain.probabilities(val[0]), atol=1e-4)
    mean, spread = train[0].mean(0), train[0].std(0)
    by_hand = LinearProbe(**options | {"standardise": False}).fit(
        task(*[((x - mean) / spread, y) for x, y in (train, val)])
    )
    np.testing.assert_allclose(plain.probabilities(val[0]), by_hand.probabilities((val[0] - mean) / spread), atol=1e-5)


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("images", [0, 10])
def test_a_split_without_assessed_targets_is_refused(split: str, images: int) -> None:
    empty = np.zeros((images, 8), np.float32), np.full((images, 3), np.nan, np.float32)
    splits = {"train": cohort(1), "val": cohort(2), split: empty}
    with pytest.raises(
        DataError, match=rf"at least one assessed label in the {split} split, found none among its {images}"
    ):
        LinearProbe().fit(task(splits["train"], splits["val"]))


def test_embeddings_that_are_not_finite_are_refused() -> None:
    train = cohort(1)
    train[0][[4, 9], 2] = np.nan
    with pytest.raises(DataError, match=r"found 2 of 200 in the train split.*image 5 of the split"):
        LinearProbe().fit(task(train, cohort(2)))


def test_a_loss_that_runs_away_is_told_in_a_sentence() -> None:
    train = cohort(1)
    with pytest.raises(DataError, match=r"loss is not finite in epoch 1 .* lower learning_rate"):
        LinearProbe(learning_rate=1e38).fit(task((train[0] * np.float32(1e20), train[1]), cohort(2)))


def test_ctrl_c_passes_through() -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        LinearProbe().fit(task(cohort(1), cohort(2), progress=interrupt))


@pytest.mark.parametrize(
    "options", [{"epochs": 0}, {"learning_rate": 0}, {"patience": 0}, {"batch_size": 0}, {"weight_decay": -1}]
)
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(options))):
        LinearProbe(**options)
