"""BitFit and layer norm tuning: nothing but what they name changes."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from radlens.adapt.bitfit import BitFit
from radlens.adapt.layernorm_tuning import LayerNormTuning
from radlens.core.classifier import load_classifier
from radlens.core.parts import AdaptationTask

TOY = runpy.run_path(str(Path(__file__).parent / "training_toy.py"))
SHORT: dict[str, Any] = {"epochs": 4, "batch_size": 12, "learning_rate": 1e-2}


@pytest.fixture
def task(miniature: Path) -> AdaptationTask:
    made: AdaptationTask = TOY["make_task"](TOY["read_encoder"](miniature), None, 36, 16)
    return made


@pytest.mark.parametrize(("setting", "ends"), [(BitFit, (".bias",)), (LayerNormTuning, ("norm",))])
def test_only_the_named_tensors_change(
    task: AdaptationTask, setting: type[BitFit | LayerNormTuning], ends: tuple[str, ...]
) -> None:
    made = setting(**SHORT).fit(task)
    assert task.encoder is not None
    tower = dict(task.encoder.image_module.named_parameters())
    if setting is BitFit:
        expected = {name for name in tower if name.endswith(".bias")}
    else:
        expected = {name for name in tower if name.split(".")[-2].startswith("norm")}
    assert made.image_tensors.keys() == expected and len(expected) > 20
    count = sum(tower[name].numel() for name in expected)
    assert made.card["trainable_parameters"] == count + 2 * 25 < 0.02 * made.card["total_parameters"]
    assert (
        made.card["best_epoch"] > 1 and made.card["history"][-1]["train_loss"] < made.card["history"][0]["train_loss"]
    )


def test_open_clips_own_attention_has_its_biases_in_one(miniature_parts: dict[str, Any], tmp_path: Path) -> None:
    own = {"layers": 2, "width": 32, "head_width": 16, "patch_size": 16, "image_size": 32}
    encoder = TOY["read_encoder"](miniature_parts["build_miniature"](tmp_path / "own", vision=own))
    changed = BitFit(**SHORT).fit(TOY["make_task"](encoder, None, 24, 12)).image_tensors
    assert any(name.endswith("attn.in_proj_bias") for name in changed)
    assert all(name.endswith("bias") for name in changed)


def test_saved_and_loaded_it_predicts_the_same(task: AdaptationTask, tmp_path: Path) -> None:
    from dataclasses import replace

    made = BitFit(**SHORT).fit(task)
    assert task.encoder is not None and made.encoder is not None
    about = {"encoder": {"fingerprint": task.encoder.fingerprint}}
    replace(made, card=dict(made.card) | about).save(tmp_path / "saved")
    loaded = load_classifier(tmp_path / "saved", task.encoder)
    films = torch.from_numpy(np.stack([task.encoder.transform(task.images["val"][row]) for row in range(4)]))
    with torch.no_grad():
        torch.testing.assert_close(loaded.logits(films), made.logits(films), atol=1e-6, rtol=0)
    assert loaded.encoder is not None and loaded.encoder.fingerprint == made.encoder.fingerprint
