"""CLIP-Adapter on embeddings whose findings point elsewhere than the prompts do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from sklearn.metrics import roc_auc_score

from radlens.adapt.clip_adapter import RATIOS, ClipAdapter
from radlens.adapt.zero_shot import ZeroShot
from radlens.core.classifier import load_classifier
from radlens.core.errors import DataError
from radlens.core.heads import ResidualHead
from radlens.core.parts import AdaptationTask
from radlens.core.vocabulary import Label, Vocabulary

Floats = npt.NDArray[np.float32]
D, L = 24, 3
VOCABULARY = Vocabulary("test", tuple(Label(f"label {i}", None, (f"with {i}",), (f"without {i}",)) for i in range(L)))


def encode(texts: Sequence[str]) -> Floats:
    """Positive prompts along axes 0 to 2, negative ones along 3 to 5."""
    rows = np.zeros((len(texts), D), np.float32)
    for row, text in zip(rows, texts, strict=True):
        side, index = text.split()
        row[int(index) + (0 if side == "with" else L)] = 4
    return rows


def cohort(seed: int, images: int = 240, along: int = 2 * L, null: float = 0.0) -> tuple[Floats, Floats]:
    """Findings shift the embedding along the axes from `along` on, where zero-shot does not look (6) or does (0)."""
    generator = np.random.default_rng(seed)
    y = (generator.random((images, L)) < [0.5, 0.3, 0.1]).astype(np.float32)
    x = generator.normal(size=(images, D)).astype(np.float32) * 0.3
    x[:, -1] += 2  # a cone, as of real embeddings
    x[:, along : along + L] += 2 * y - 1
    y[generator.random(y.shape) < null] = np.nan
    return x, y


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


FAST: dict[str, Any] = {"learning_rate": 0.03, "epochs": 40, "batch_size": 60, "reduction": 2}


def test_finds_directions_that_zero_shot_does_not_look_along() -> None:
    train, val, test = (cohort(seed, null=0.1) for seed in (1, 2, 3))
    given = task(train, val)
    before = auroc(ZeroShot().fit(given).probabilities(test[0]), test[1])
    made = ClipAdapter(ratio=0.6, **FAST).fit(given)
    assert (before < 0.65).all()
    assert (auroc(made.probabilities(test[0]), test[1]) > 0.93).all()
    card = made.card
    assert isinstance(made.head, ResidualHead)
    assert card["trainable_parameters"] == 2 * 12 * D + L
    assert card["validation_bce"] < card["start_bce"]
    directions = np.eye(L, D) - np.eye(L, D, L)
    np.testing.assert_array_equal(made.head.weight.numpy(), directions)


def test_an_untrained_adapter_of_no_weight_is_calibrated_zero_shot() -> None:
    train, val, test = (cohort(seed, along=0) for seed in (1, 2, 3))
    given = task(train, val)
    made = ClipAdapter(ratio=1e-6, learning_rate=1e-12, epochs=1).fit(given)
    plain = ZeroShot().fit(given).head(torch.from_numpy(test[0]))
    slope = made.card["slope"]
    torch.testing.assert_close(made.head(torch.from_numpy(test[0])), slope * plain + made.head.bias, atol=1e-3, rtol=0)
    # calibrated: what is expected on train is what is found there
    expected = made.probabilities(train[0]).mean(axis=0)
    np.testing.assert_allclose(expected, train[1].mean(axis=0), atol=2e-3)


def test_the_ratio_is_the_best_of_validation() -> None:
    done: list[tuple[int, int]] = []
    given = task(cohort(1), cohort(2), progress=lambda now, total: done.append((now, total)))
    card = ClipAdapter(**FAST | {"epochs": 6}).fit(given).card
    tried = {entry["ratio"]: entry["validation_bce"] for entry in card["ratios_tried"]}
    assert tuple(tried) == RATIOS
    assert tried[card["ratio"]] == min(tried.values()) == card["validation_bce"]
    alone = ClipAdapter(**FAST | {"epochs": 6}, ratio=card["ratio"]).fit(given).card
    assert alone["history"] == card["history"]
    of_grid = [now for now, total in done if total == 24]
    assert of_grid[-1] == 24 and of_grid == sorted(of_grid)
    assert done[-1] == (6, 6)


def test_the_zero_shot_weights_stay_or_are_trained() -> None:
    given = task(cohort(1), cohort(2))
    kept = ClipAdapter(ratio=0.2, **FAST | {"epochs": 3}).fit(given)
    moved = ClipAdapter(ratio=0.2, train_weights=True, **FAST | {"epochs": 3}).fit(given)
    prompts = ZeroShot().fit(given).head.weight
    assert torch.equal(kept.head.weight, prompts)
    assert not torch.equal(moved.head.weight, prompts)
    assert moved.card["trainable_parameters"] - kept.card["trainable_parameters"] == L * D


def test_repeats_with_its_seed() -> None:
    train, val = cohort(1), cohort(2)
    first, again, other = (ClipAdapter(ratio=0.4, epochs=3).fit(task(train, val, seed)) for seed in (0, 0, 1))
    for name, tensor in first.head.state_dict().items():
        assert torch.equal(tensor, again.head.state_dict()[name])
    assert not torch.equal(first.head.state_dict()["down"], other.head.state_dict()["down"])


def test_a_label_without_positives_keeps_zero_shot_s_order() -> None:
    train, val, test = (cohort(seed, along=0) for seed in (1, 2, 3))
    train[1][:, 0], train[1][:, 1] = 0, np.nan
    given = task(train, val)
    made = ClipAdapter(ratio=0.2, **FAST).fit(given)
    assert made.card["not_estimable"] == ["label 1"]
    assert made.card["no_training_positives"] == ["label 0", "label 1"]
    probabilities = made.probabilities(test[0])
    assert np.isfinite(probabilities).all()
    assert probabilities[:, 0].mean() < 0.05
    assert (auroc(probabilities, test[1])[:2] > 0.9).all()


def test_null_targets_have_no_say() -> None:
    train, val = cohort(1, null=0.3), cohort(2)
    without = train[0].copy(), train[1].copy()
    # images that nothing is known of may look like anything
    nothing = np.full((30, D), 5, np.float32), np.full((30, L), np.nan, np.float32)
    more = np.concatenate([without[0], nothing[0]]), np.concatenate([without[1], nothing[1]])
    first, second = (ClipAdapter(ratio=0.4, epochs=3).fit(task(split, val)) for split in (without, more))
    torch.testing.assert_close(first.head.bias, second.head.bias)
    torch.testing.assert_close(first.head.state_dict()["up"], second.head.state_dict()["up"])


def test_validation_without_positives_still_stops_it() -> None:
    val = cohort(2)
    val[1][:] = 0
    made = ClipAdapter(ratio=0.4, epochs=4).fit(task(cohort(1), val))
    assert np.isfinite(made.card["validation_bce"])


def test_another_loss_is_asked_for_by_name(tmp_path: Path) -> None:
    made = ClipAdapter(ratio=0.4, loss={"name": "focal", "gamma": 1.0}, **FAST | {"epochs": 8}).fit(
        task(cohort(1), cohort(2))
    )
    assert made.card["options"]["loss"] == {"name": "focal", "gamma": 1.0, "alpha": 0.25}
    assert made.card["best_epoch"] > 0
    made.save(tmp_path)
    back = load_classifier(tmp_path)
    np.testing.assert_array_equal(back.probabilities(cohort(3)[0]), made.probabilities(cohort(3)[0]))


def test_bad_splits_are_one_sentence() -> None:
    good, none, null, broken = (cohort(seed) for seed in range(4))
    none[1][:] = 0
    null[1][:] = np.nan
    broken[0][[4, 7], 1] = np.inf
    with pytest.raises(DataError, match=r"clip-adapter expected at least one positive of any label in the train split"):
        ClipAdapter().fit(task(none, good))
    with pytest.raises(DataError, match=r"at least one assessed label in the val split, found none among its 240"):
        ClipAdapter().fit(task(good, null))
    with pytest.raises(DataError, match=r"found 2 of 240 in the train split .*image 5 of the split"):
        ClipAdapter().fit(task(broken, good))
