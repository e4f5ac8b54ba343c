"""Fine-tuning against a bare PyTorch loop of the paper's protocol, and what its result is made of."""

from __future__ import annotations

import math
import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from radlens.adapt.fine_tune import FineTune
from radlens.adapt.linear_probe import LinearProbe
from radlens.adapt.samplers import epoch_order
from radlens.adapt.training.parameters import last_blocks, parameter_depths
from radlens.adapt.training.schedule import learning_rate, rate_share
from radlens.core.errors import ModelError
from radlens.core.parts import AdaptationTask
from radlens.models.encoder import OpenClipEncoder

TOY = runpy.run_path(str(Path(__file__).parent / "training_toy.py"))
SHORT: dict[str, Any] = {"epochs": 3, "batch_size": 12, "learning_rate": 1e-3, "patience": None}


@pytest.fixture(scope="module")
def encoder(miniature: Path) -> OpenClipEncoder:
    found: OpenClipEncoder = TOY["read_encoder"](miniature)
    return found


@pytest.fixture
def task(encoder: OpenClipEncoder, tmp_path: Path) -> AdaptationTask:
    made: AdaptationTask = TOY["make_task"](encoder, tmp_path / "work", 30, 12)
    made.targets["train"][::4, 0] = np.nan
    made.targets["train"][3] = np.nan
    made.targets["val"][::5, 1] = np.nan
    return made


def masked(logits: Tensor, targets: Tensor) -> Tensor:
    known = ~targets.isnan()
    return binary_cross_entropy_with_logits(logits[known], targets[known])


def pixels(task: AdaptationTask, split: str) -> Tensor:
    assert task.encoder is not None
    return torch.from_numpy(np.stack([task.encoder.transform(film) for film in task.images[split].films]))  # type: ignore[attr-defined]


def reference(task: AdaptationTask, epochs: int, batch: int, base: float) -> list[dict[str, Tensor]]:
    """The protocol in a bare loop: the weights after the warm-up, and after every step of the rest."""
    assert task.encoder is not None
    targets = torch.from_numpy(task.targets["train"])
    embeddings, images = torch.from_numpy(task.embeddings["train"]), pixels(task, "train")
    dimension = embeddings.shape[1]
    head, generator = nn.Linear(dimension, targets.shape[1]), torch.Generator().manual_seed(task.seed)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.uniform_(-1 / math.sqrt(dimension), 1 / math.sqrt(dimension), generator=generator)
    tower = task.encoder.with_image_tensors({}).image_module.requires_grad_(True)

    def weights() -> dict[str, Tensor]:
        named = [(f"tower.{n}", p) for n, p in tower.named_parameters()]
        return {n: p.detach().clone() for n, p in [*named, *((f"head.{n}", p) for n, p in head.named_parameters())]}

    optimiser = torch.optim.AdamW(head.parameters(), lr=base, weight_decay=1e-2)
    found = []
    for epoch in range(1, epochs + 1):
        if epoch == 2:
            found.append(weights())
            both = [*tower.parameters(), *head.parameters()]
            optimiser = torch.optim.AdamW(both, lr=base / 10, weight_decay=1e-2)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs - 1)
        order = epoch_order("plain", task.targets["train"], epoch, task.seed, 1)
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            embedded = embeddings[rows] if epoch == 1 else tower(images[rows])
            optimiser.zero_grad()
            masked(head(embedded), targets[rows]).backward()
            optimiser.step()
            if epoch > 1:
                found.append(weights())
        if epoch > 1:
            schedule.step()
    return found


def assert_equal(made: Any, expected: dict[str, Tensor], atol: float) -> None:
    found = {f"tower.{name}": tensor for name, tensor in made.image_tensors.items()}
    found |= {f"head.{name}": tensor for name, tensor in made.head.state_dict().items()}
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        difference = (found[name] - tensor).abs()
        if name.endswith("qkv.bias"):
            # softmax does not feel the bias of the keys: its gradient is rounding, which AdamW makes a whole step of
            difference[64:128] = 0
        assert difference.max() < atol, name


def without_positives_in_validation(task: AdaptationTask) -> AdaptationTask:
    """Then the last epoch's weights are kept, whichever was best."""
    return replace(task, targets=task.targets | {"val": np.zeros_like(task.targets["val"])})


def test_equals_the_papers_protocol_in_a_bare_loop(task: AdaptationTask) -> None:
    made = FineTune(**SHORT).fit(without_positives_in_validation(task))
    assert made.card["best_epoch"] == 3
    assert_equal(made, reference(task, 3, 12, 1e-3)[-1], 2e-5)


def test_the_moving_average_is_the_formula(task: AdaptationTask) -> None:
    made = FineTune(**SHORT | {"epochs": 2}, ema=0.75).fit(without_positives_in_validation(task))
    average, *steps = reference(task, 2, 12, 1e-3)
    assert len(steps) == 3
    for step in steps:
        average = {name: 0.75 * average[name] + 0.25 * tensor for name, tensor in step.items()}
    assert_equal(made, average, 2e-5)


def test_phases_and_rates_are_told(task: AdaptationTask) -> None:
    history = FineTune(**SHORT | {"epochs": 5}).fit(task).card["history"]
    assert [entry["phase"] for entry in history] == ["head", "all", "all", "all", "all"]
    rates = [1e-3, *(1e-4 * (1 + math.cos(math.pi * done / 4)) / 2 for done in range(4))]
    np.testing.assert_allclose([entry["learning_rate"] for entry in history], rates)
    assert [entry["step"] for entry in history] == [3, 6, 9, 12, 15]
    assert learning_rate(2, base=1, warm_up_epochs=0, epochs=2, unfrozen_factor=0.1) == pytest.approx(0.05)


def test_the_preset_is_the_papers_and_departures_are_named() -> None:
    paper = FineTune()
    assert (paper.warm_up_epochs, paper.unfrozen_factor, paper.weight_decay, paper.batch_size) == (1, 0.1, 1e-2, 24)
    assert (paper.augmentation, paper.loss.name, paper.sampler, paper.ema) == ("none", "bce", "plain", None)
    assert (paper.last_k_blocks, paper.layer_decay, paper.precision) == (None, 1.0, "float32")


def test_learns_what_a_linear_probe_cannot(encoder: OpenClipEncoder) -> None:
    task = TOY["make_task"](encoder, None)
    probe = min(LinearProbe(learning_rate=rate).fit(task).card["validation_bce"] for rate in (1e-2, 3e-2, 1e-1))
    made = FineTune(learning_rate=1e-2, epochs=12, batch_size=8, patience=None).fit(task)
    assert made.card["validation_bce"] < 0.8 * probe
    assert made.card["departs_from_preset"] == ["learning_rate", "epochs", "batch_size", "patience"]


def test_the_result_is_the_best_epochs_and_the_shared_encoder_stays(task: AdaptationTask) -> None:
    assert isinstance(task.encoder, OpenClipEncoder)
    before = {name: tensor.clone() for name, tensor in task.encoder.model.state_dict().items()}
    made = FineTune(**SHORT).fit(task)
    assert all(torch.equal(tensor, before[name]) for name, tensor in task.encoder.model.state_dict().items())
    assert not any(p.requires_grad for p in task.encoder.model.parameters())
    assert made.encoder is not None and made.encoder.fingerprint != task.encoder.fingerprint
    with torch.no_grad():
        loss = masked(made.logits(pixels(task, "val")), torch.from_numpy(task.targets["val"])).item()
    card = made.card
    assert card["validation_bce"] == pytest.approx(loss, abs=1e-5)
    assert card["validation_bce"] == min(entry["val_bce"] for entry in card["history"])
    tower = sum(p.numel() for p in task.encoder.image_module.parameters())
    assert card["trainable_parameters"] == card["total_parameters"] == tower + 2 * 25
    assert 0 <= card["data_wait_share"] <= 1 and card["train_seconds"] > 0
    assert (card["device"], card["training_precision"], card["processes"]) == ("cpu", "float32", 1)
    assert (made.setting, card["preset"], card["epochs_run"]) == ("fine-tune", "paper", 3)


def test_the_best_epoch_may_be_the_warm_up(task: AdaptationTask) -> None:
    # the encoder joins at a rate that spoils it at once
    made = FineTune(**SHORT | {"unfrozen_factor": 1.0, "learning_rate": 0.05, "patience": 1, "epochs": 9}).fit(task)
    assert (made.card["best_epoch"], made.card["epochs_run"]) == (1, 2)
    assert made.image_tensors == {} and made.encoder is task.encoder


def test_last_blocks_alone(task: AdaptationTask) -> None:
    made = FineTune(**SHORT, last_k_blocks=2).fit(without_positives_in_validation(task))
    places = {name.removeprefix("trunk.").partition(".")[0] for name in made.image_tensors}
    assert places == {"blocks", "norm", "head"}
    assert {name.split(".")[2] for name in made.image_tensors if "blocks" in name} == {"4", "5"}
    with pytest.raises(ModelError, match=r"last_k_blocks is 7, but the image tower of .* has 6 blocks"):
        FineTune(**SHORT, last_k_blocks=7).fit(task)


def test_depths_and_shares(encoder: OpenClipEncoder, miniature_parts: dict[str, Any], tmp_path: Path) -> None:
    depths, blocks = parameter_depths(encoder)
    assert blocks == 6
    expected = {"trunk.cls_token": 0, "trunk.pos_embed": 0, "trunk.patch_embed.proj.weight": 0, "trunk.norm.bias": 7}
    expected |= {"head.proj.weight": 7, "trunk.blocks.0.norm1.weight": 1, "trunk.blocks.5.mlp.fc2.bias": 6}
    assert {name: depths[name] for name in expected} == expected
    own = {"layers": 2, "width": 32, "head_width": 16, "patch_size": 16, "image_size": 32}
    other = TOY["read_encoder"](miniature_parts["build_miniature"](tmp_path / "own", vision=own))
    depths, blocks = parameter_depths(other)
    assert blocks == 2
    assert {depths[name] for name in ("class_embedding", "positional_embedding", "conv1.weight", "ln_pre.bias")} == {0}
    assert {depths[name] for name in ("proj", "ln_post.weight")} == {3}
    assert not any(p.requires_grad for p in other.image_module.parameters())
    assert last_blocks(other, 1) == {name for name, depth in depths.items() if depth >= 2}
    assert [rate_share(depth, 6, 0.5) for depth in (7, 6, 1, 0)] == [1, 0.5, 0.5**6, 0.5**7]


def test_layer_decay_moves_deep_layers_less(task: AdaptationTask) -> None:
    def moved(decay: float) -> dict[str, float]:
        assert task.encoder is not None
        options = SHORT | {"epochs": 2, "batch_size": 30, "weight_decay": 0}
        made = FineTune(**options, layer_decay=decay).fit(without_positives_in_validation(task))
        before = task.encoder.image_module.state_dict()
        return {name: float((tensor - before[name]).abs().max()) for name, tensor in made.image_tensors.items()}

    # AdamW's first step is the learning rate, whatever the gradient: what moved is the rate
    even, decayed = moved(1.0), moved(0.5)
    for name, depth in {
        "trunk.patch_embed.proj.bias": 0,
        "trunk.blocks.2.mlp.fc1.bias": 3,
        "trunk.norm.bias": 7,
    }.items():
        assert decayed[name] == pytest.approx(even[name] * 0.5 ** (7 - depth), rel=0.02)


def test_a_tower_without_blocks_trains_whole_with_its_statistics_frozen(
    miniature_parts: dict[str, Any], tmp_path: Path
) -> None:
    vision = {"timm_model_name": "test_efficientnet", "timm_pool": "avg", "timm_proj": "linear", "image_size": 64}
    encoder = TOY["read_encoder"](miniature_parts["build_miniature"](tmp_path / "resnet", vision=vision))
    task = without_positives_in_validation(TOY["make_task"](encoder, None, 12, 6))
    names = FineTune(**SHORT).fit(task).image_tensors
    assert names and not any("running_" in name or "num_batches" in name for name in names)
    for options, named in (
        ({"layer_decay": 0.5}, "layer_decay"),
        ({"activation_checkpointing": True}, "checkpointing"),
    ):
        with pytest.raises(ModelError, match=f"has no transformer blocks; leave out .*{named}"):
            FineTune(**SHORT | options).fit(task)
