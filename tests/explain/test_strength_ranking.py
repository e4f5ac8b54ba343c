"""AUROC over patients against scikit-learn, and its interval against a bootstrap written out."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from radlens.core.patient_weights import bootstrap_weights
from radlens.explain.strength_ranking import strength_auroc


def drawn(images: int, patients: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Strengths (images, 3) with ties, one column that tells presence, present, patients."""
    random = np.random.default_rng(seed)
    present = random.random(images) < 0.4
    strengths = random.integers(0, 6, (images, 3)).astype(float)
    strengths[:, 2] += 4 * present
    return strengths, present, np.array([f"p{k % patients}" for k in range(images)])


def test_values_and_replicates() -> None:
    strengths, present, patients = drawn(80, 35)
    found = strength_auroc(strengths, present, patients, seed=3, replicates=200)
    assert found.reason == (None, None, None)
    names, index = np.unique(patients, return_inverse=True)
    (weights,) = bootstrap_weights(len(names), 200, 3, 200)
    for m in range(3):
        assert found.value[m] == pytest.approx(roc_auc_score(present, strengths[:, m]))
        replicates = [roc_auc_score(present, strengths[:, m], sample_weight=w[index]) for w in weights.T]
        low, high = np.quantile(replicates, [0.025, 0.975])
        # BCa moves the ends by little here
        assert found.low[m] == pytest.approx(low, abs=0.03) and found.high[m] == pytest.approx(high, abs=0.03)
    assert found.low[2] > 0.8 and found.low[0] < 0.5 < found.high[0]


def test_no_interval_but_a_reason() -> None:
    strengths, present, patients = drawn(80, 35)
    few = strength_auroc(strengths, present, np.where(present, "one", patients))
    assert few.value == pytest.approx(strength_auroc(strengths, present, patients).value)
    assert np.isnan(few.low).all() and "1 patients with the finding" in str(few.reason[0])
    for side, why in ((True, "no image without the finding"), (False, "no image with the finding")):
        none = strength_auroc(strengths, np.full(80, side), patients)
        assert np.isnan(none.value).all() and none.reason == (f"undefined: {why}",) * 3
    apart = strength_auroc(present[:, None].astype(float), present, patients)
    assert apart.value[0] == 1 and "the same value in every replicate" in str(apart.reason[0])
    assert strength_auroc(np.zeros((80, 0)), present, patients).reason == ()


def test_intervals_cover() -> None:
    covered = 0
    for seed in range(60):
        random = np.random.default_rng(seed)
        present = np.arange(60) % 2 == 0
        noise = random.normal(size=(60, 1))
        found = strength_auroc(noise, present, np.arange(60).astype(str), seed=seed, replicates=300)
        covered += bool(found.low[0] <= 0.5 <= found.high[0])
    assert covered >= 50
