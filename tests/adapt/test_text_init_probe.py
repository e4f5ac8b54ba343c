"""The probe that starts at zero-shot: its two ends, its choice on validation, and labels without positives."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from pydantic import ValidationError
from sklearn.linear_model import LogisticRegression

from radlens.adapt.text_init_probe import STRENGTHS, TextInitProbe
from radlens.adapt.zero_shot import ZeroShot
from radlens.core.errors import DataError
from radlens.core.parts import AdaptationTask
from radlens.core.vocabulary import Label, Vocabulary

Floats = npt.NDArray[np.float32]
LABELS, DIMENSION = 3, 10
TRUE = np.random.default_rng(0).normal(size=(LABELS, DIMENSION))
VOCABULARY = Vocabulary(
    "test", tuple(Label(f"label {i}", None, (f"with {i}",), (f"without {i}",)) for i in range(LABELS))
)


def encode_texts(texts: Any) -> Floats:
    """Sentences near the true directions, so that zero-shot is good but not the best."""
    noise = np.random.default_rng(1).normal(size=(LABELS, DIMENSION))
    rows = [(1 if text.startswith("with ") else -1) * (TRUE + 0.8 * noise)[int(text.split()[-1])] + 2 for text in texts]
    return np.array(rows, np.float32)


def cohort(seed: int, images: int, null: float = 0.0) -> tuple[Floats, Floats]:
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(images, DIMENSION)) + 0.5
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    z = 6 * (unit - unit.mean(axis=0)) @ TRUE.T + generator.logistic(size=(images, LABELS))
    y = (z > [0, 1.5, 3]).astype(np.float32)
    y[generator.random(y.shape) < null] = np.nan
    return x.astype(np.float32), y


def task(train: tuple[Floats, Floats], val: tuple[Floats, Floats], seed: int = 0) -> AdaptationTask:
    return AdaptationTask(
        vocabulary=VOCABULARY,
        embeddings={"train": train[0], "val": val[0]},
        targets={"train": train[1], "val": val[1]},
        encode_texts=encode_texts,
        logit_scale=50.0,
        seed=seed,
        progress=lambda done, total: None,
    )


def bce(probabilities: npt.NDArray[np.float64], targets: Floats) -> float:
    probabilities = np.clip(probabilities, 1e-12, 1 - 1e-12)
    return float(-np.nanmean(np.where(targets == 1, np.log(probabilities), np.log1p(-probabilities))))


def test_infinite_strength_orders_images_as_zero_shot_with_calibrated_probabilities() -> None:
    made_for = task(cohort(1, 400), cohort(2, 200))
    made, plain = TextInitProbe(strengths=(float("inf"),)).fit(made_for), ZeroShot().fit(made_for)
    x, y = cohort(3, 300)
    for ours, theirs in zip(made.probabilities(x).T, plain.probabilities(x).T, strict=True):
        np.testing.assert_array_equal(np.argsort(ours[np.argsort(theirs)]), np.arange(300))
    train = cohort(1, 400)
    np.testing.assert_allclose(made.probabilities(train[0]).mean(axis=0), train[1].mean(axis=0), atol=1e-4)
    assert bce(made.probabilities(x), y) < bce(plain.probabilities(x), y)


def test_strength_zero_is_the_plain_probe_of_scikit_learn() -> None:
    train = cohort(1, 600, null=0.2)
    made = TextInitProbe(strengths=(0.0,), fallback=0).fit(task(train, cohort(2, 200)))
    unit = train[0] / np.linalg.norm(train[0], axis=1, keepdims=True)
    for label in range(LABELS):
        known = ~np.isnan(train[1][:, label])
        reference = LogisticRegression(C=1e12, tol=1e-10, max_iter=5000).fit(unit[known], train[1][known, label])
        np.testing.assert_allclose(made.head.weight[label].numpy(), reference.coef_[0], rtol=2e-3, atol=2e-2)
    assert made.card["converged"]


def test_finite_strength_is_the_stated_optimum() -> None:
    train = cohort(1, 400, null=0.2)
    made = TextInitProbe(strengths=(0.1,), fallback=0.1).fit(task(train, cohort(2, 200)))
    unit = train[0].astype(np.float64) / np.linalg.norm(train[0], axis=1, keepdims=True)
    assert made.card["variance"] == pytest.approx(unit.var(axis=0).mean(), rel=1e-5)
    centre = made.card["slope"] * 50.0 * ZeroShot().fit(task(train, train)).head.weight.numpy()
    for label, target in enumerate(train[1].T):
        known = ~np.isnan(target)
        w = made.head.weight[label].numpy()
        error = 1 / (1 + np.exp(-(unit[known] @ w + made.head.bias[label].item()))) - target[known]
        away = -0.1 * made.card["variance"] * (w - centre[label])
        np.testing.assert_allclose(unit[known].T @ error / known.sum(), away, atol=1e-5)


def test_few_images_gain_by_the_prior_and_many_leave_it() -> None:
    val, test = cohort(2, 400), cohort(3, 2000)
    few, many = task(cohort(1, 40), val), task(cohort(1, 3000), val)
    drawn = TextInitProbe().fit(few)
    for strengths in ((0.0,), (float("inf"),)):
        other = TextInitProbe(strengths=strengths, fallback=strengths[0]).fit(few)
        assert bce(drawn.probabilities(test[0]), test[1]) < bce(other.probabilities(test[0]), test[1])
    chosen = [TextInitProbe().fit(each).card["strengths"]["label 0"]["strength"] for each in (few, many)]
    assert float(chosen[0]) > float(chosen[1])


def test_card_records_strengths_and_who_chose_them() -> None:
    val = cohort(2, 200)
    val[1][:, 1] = 0
    val[1][:4, 1] = 1
    made = TextInitProbe().fit(task(cohort(1, 300), val))
    card = json.loads(json.dumps(made.card))
    assert [card["strengths"][f"label {i}"]["chosen_by"] for i in range(3)] == ["own", "shared", "own"]
    assert card["options"]["strengths"] == ["infinite", *STRENGTHS[1:]]
    sums = [each["validation_bce"] for each in card["tried"]]
    assert card["strengths"]["label 1"]["strength"] == card["tried"][int(np.argmin(sums))]["strength"]
    assert card["trainable_parameters"] == LABELS * (DIMENSION + 1)
    assert card["validation_bce"] == pytest.approx(bce(made.probabilities(val[0]), val[1]), rel=1e-5)
    assert made.head.normalise


def test_labels_without_training_positives_keep_zero_shots_direction() -> None:
    train = cohort(1, 300)
    train[1][:, 0], train[1][:, 2] = 0, np.nan
    made = TextInitProbe().fit(task(train, cohort(2, 200)))
    centre = made.card["slope"] * 50 * ZeroShot().fit(task(train, train)).head.weight
    torch.testing.assert_close(made.head.weight[[0, 2]], centre[[0, 2]])
    assert made.card["no_training_positives"] == ["label 0", "label 2"]
    assert made.card["not_estimable"] == ["label 2"]
    kept = made.card["zero_shot_direction_kept"]
    assert set(kept) == {"label 0", "label 2"}
    assert kept["label 0"]["bias"] == pytest.approx(made.head.bias[0].item())
    logits = made.head(torch.from_numpy(train[0])).mean(dim=0)
    assert logits[0].item() == pytest.approx(np.log(0.5 / 300.5), abs=1e-3)
    assert logits[2].item() == pytest.approx(0, abs=1e-3)


def test_validation_without_positives_falls_back_to_the_stated_strength() -> None:
    val = cohort(2, 100)
    val[1][:] = 0
    made = TextInitProbe(strengths=(1.0, 0.1), fallback=0.5).fit(task(cohort(1, 300), val))
    assert all(each == {"strength": 0.5, "chosen_by": "fallback"} for each in made.card["strengths"].values())
    same = TextInitProbe(strengths=(0.5,)).fit(task(cohort(1, 300), cohort(2, 100)))
    torch.testing.assert_close(made.head.weight, same.head.weight, atol=1e-3, rtol=1e-3)
    # else a fallback that is not among the strengths is never taken
    chosen = TextInitProbe(strengths=(1.0,), fallback=0.01).fit(task(cohort(1, 300), cohort(2, 100)))
    assert {each["strength"] for each in chosen.card["strengths"].values()} == {1.0}


def test_deterministic_whatever_the_seed() -> None:
    first, second = (TextInitProbe().fit(task(cohort(1, 100), cohort(2, 100), seed)) for seed in (0, 1))
    assert torch.equal(first.head.weight, second.head.weight) and torch.equal(first.head.bias, second.head.bias)


def test_bad_input_is_told() -> None:
    none = cohort(1, 50)
    none[1][:] = 0
    with pytest.raises(DataError, match="text-init-probe expected at least one positive of any label in the train"):
        TextInitProbe().fit(task(none, cohort(2, 50)))
    odd = cohort(2, 50)
    odd[0][3, 2] = np.inf
    with pytest.raises(DataError, match="finite embeddings, found 1 of 50 in the val split"):
        TextInitProbe().fit(task(cohort(1, 50), odd))
    for strengths in ((), (-1.0,), (float("nan"),)):
        with pytest.raises(ValidationError, match="strengths"):
            TextInitProbe(strengths=strengths)
