"""Errors and losses of a block of steps against each loss's own derivative, in float64, entry by entry."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from radlens.adapt.losses import LossSpec, make_loss
from radlens.adapt.objective.batches import StepBlock, Targets
from radlens.adapt.objective.stacked import StackedForms

LABELS, IMAGES, BATCH, STEPS = 4, 40, 5, 3
SPECS: list[dict[str, Any]] = [
    {"name": "bce"},
    {"name": "weighted-bce"},
    {"name": "class-balanced"},
    {"name": "distribution-balanced"},
    {"name": "distribution-balanced", "negative_scale": 5.0, "bias_scale": 0.3, "map_mu": 0.5},
    {"name": "ldam", "scale": 3.0},
    {"name": "logit-adjusted"},
    {"name": "focal"},
    {"name": "focal", "gamma": 0.0, "alpha": 0.6},
    {"name": "focal", "gamma": 0.5},
    {"name": "asymmetric"},
    {"name": "asymmetric", "clip": 0.0},
    {"name": "asymmetric", "gamma_neg": 0.0, "gamma_pos": 0.0, "clip": 0.3},
    {"name": "asymmetric", "gamma_neg": 0.5, "gamma_pos": 2.0, "clip": 0.2},
]
FOCUSING = 7


@pytest.mark.parametrize("null", [0.0, 0.3])
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_errors_and_plain_losses(null: float, scale: float) -> None:
    generator = np.random.default_rng(0)
    y = (generator.random((IMAGES, LABELS)) < np.array([0.5, 0.2, 0.1, 0.9])).astype(np.float32)
    y[generator.random(y.shape) < null] = math.nan
    losses = [make_loss(LossSpec(**spec), y) for spec in SPECS]
    of_seeds = [losses, losses[:-FOCUSING][::-1] + losses[-FOCUSING:][::-1]]
    rows = torch.from_numpy(generator.permuted(np.tile(np.arange(IMAGES), (STEPS, 2, 1)), axis=2)[..., :BATCH])
    targets = Targets.of(y, losses)
    block = StepBlock((STEPS + 1, 2, BATCH, len(losses), LABELS), FOCUSING)
    block.prepare(rows, targets, StackedForms(of_seeds, LABELS), of_seeds)
    z = scale * torch.from_numpy(generator.normal(size=(STEPS, 2, BATCH, len(losses), LABELS))).float()
    expected = np.zeros((2, len(losses), LABELS))
    for step in range(STEPS):
        block.logits[step].copy_(z[step].flatten(2))
        errors = block.to_error(step).view(2, BATCH, len(losses), LABELS)
        for seed, of_seed in enumerate(of_seeds):
            t = torch.from_numpy(y)[rows[step, seed]].double()
            known = ~t.isnan()
            for head, loss in enumerate(of_seed):
                logits = z[step, seed, :, head].double()
                slopes = loss.slopes(logits, t) / known.sum()
                np.testing.assert_allclose(errors[seed, :, head], slopes, atol=2e-6, err_msg=str((SPECS, head)))
                cost = torch.logaddexp(logits, torch.zeros_like(logits)) - t.nan_to_num(0.0) * logits
                expected[seed, head] += (cost * known).sum(dim=0).numpy()
    found = block.plain_losses(rows, targets).view(2, len(losses), LABELS)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
