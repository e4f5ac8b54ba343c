"""What the engine does with options, odd splits and failures; the protocol itself is in test_fine_tune.py."""

from __future__ import annotations

import csv
import importlib.util
import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from radlens.adapt.fine_tune import FineTune
from radlens.adapt.lora import Lora
from radlens.adapt.training.lightning_trainer import check_precision, choose_accelerator
from radlens.adapt.training.stream import Images
from radlens.core.classifier import Classifier
from radlens.core.errors import DataError, ModelError, SpecError
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
    made: AdaptationTask = TOY["make_task"](encoder, tmp_path / "work", 26, 12)
    made.targets["train"][::4, 0] = np.nan
    return made


def folder(task: AdaptationTask) -> Path:
    assert task.place is not None
    return task.place.folder


def tensors(made: Classifier) -> dict[str, Tensor]:
    return {**made.image_tensors, **made.head.state_dict()}


def assert_same(first: Classifier, other: Classifier, atol: float) -> None:
    assert tensors(first).keys() == tensors(other).keys()
    for name, tensor in tensors(first).items():
        difference = (tensors(other)[name] - tensor).abs()
        if name.endswith("qkv.bias"):
            # the bias of the keys has no gradient but rounding
            difference[64:128] = 0
        assert difference.max() <= atol, name


def test_a_seed_makes_it_repeatable_and_the_global_state_stays(task: AdaptationTask) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    options = SHORT | {"augmentation": "radiograph", "dropout": 0.3}
    first = Lora(**options).fit(task)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(6)
    again, other = Lora(**options).fit(task), Lora(**options).fit(replace(task, seed=1))
    assert_same(first, again, 0)
    assert any(not torch.equal(tensor, tensors(other)[name]) for name, tensor in tensors(first).items())


@pytest.mark.parametrize("pieces", [3, 5])
def test_accumulation_equals_the_whole_batch(task: AdaptationTask, pieces: int) -> None:
    """26 images in steps of 12: the last step has 2, fewer than pieces."""
    assert_same(FineTune(**SHORT).fit(task), FineTune(**SHORT, accumulate=pieces).fit(task), 1e-5)


def test_activation_checkpointing_equals_without(task: AdaptationTask) -> None:
    for more in ({}, {"last_k_blocks": 2}):
        plain = FineTune(**SHORT | more).fit(task)
        assert_same(plain, FineTune(**SHORT | more, activation_checkpointing=True).fit(task), 1e-6)


def test_bfloat16_trains_close_to_float32(task: AdaptationTask) -> None:
    exact, short = (FineTune(**SHORT, precision=precision).fit(task) for precision in ("float32", "bf16"))
    losses = [[entry["train_loss"] for entry in made.card["history"]] for made in (exact, short)]
    assert losses[0] != losses[1]
    np.testing.assert_allclose(*losses, atol=0.02)
    assert {tensor.dtype for tensor in tensors(short).values()} == {torch.float32}
    assert short.card["training_precision"] == "bf16"


def test_what_a_device_cannot_do_is_told(task: AdaptationTask, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        SpecError, match=r"fp16 trains on CUDA devices alone, and this runs on cpu; use bf16 or float32"
    ):
        FineTune(**SHORT, precision="fp16").fit(task)
    with pytest.raises(SpecError, match="precision bf16 is not what this mps device can do; use float32"):
        check_precision("bf16", "mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SpecError, match=r"compute.device is cuda, but this machine has none"):
        choose_accelerator("cuda")


def test_null_targets_teach_nothing(task: AdaptationTask) -> None:
    """An image without any known target may be any image; a label without any stays at 0 and is named."""
    task.targets["train"][5] = np.nan
    task.targets["train"][:, 1] = np.nan
    first = FineTune(**SHORT).fit(task)
    films = TOY["Films"](26, 1)
    films.films[5] = 255 - films.films[5]
    embeddings = {split: rows.copy() for split, rows in task.embeddings.items()}
    embeddings["train"][5] *= -3
    second = FineTune(**SHORT).fit(replace(task, images={**task.images, "train": films}, embeddings=embeddings))
    assert_same(first, second, 1e-6)
    assert first.card["not_estimable"] == first.card["no_training_positives"] == ["label 1"]
    assert not first.head.weight[1].any() and not first.head.bias[1].any()


def test_early_stopping_keeps_the_best_epoch(task: AdaptationTask) -> None:
    # validation labels turned round: what is learnt is wrong there
    wrong = {**task.targets, "val": 1 - task.targets["val"]}
    steps: list[tuple[int, int]] = []
    options = SHORT | {"epochs": 20, "patience": 2, "learning_rate": 1e-2, "warm_up_epochs": 2}
    made = FineTune(**options).fit(replace(task, targets=wrong, progress=lambda *step: steps.append(step)))
    losses = [entry["val_bce"] for entry in made.card["history"]]
    best = made.card["best_epoch"]
    assert best == 2 + int(np.argmin(losses[1:])) and made.card["validation_bce"] == losses[best - 1]
    assert made.card["epochs_run"] == len(losses) == best + 2 < 20
    assert steps[0] == (7, 60) and steps[-1] == (len(losses), len(losses))


def test_the_log_is_a_table_of_epochs(task: AdaptationTask) -> None:
    made = FineTune(**SHORT).fit(task)
    with (folder(task) / "training.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["epoch", "step", "train_loss", "val_bce", "learning_rate", "seconds", "images_per_second"]
    for row, entry in zip(rows, made.card["history"], strict=True):
        assert {name: float(value) for name, value in row.items()} == pytest.approx(
            {name: entry[name] for name in row}, rel=1e-12
        )


def test_loggers(task: AdaptationTask, monkeypatch: pytest.MonkeyPatch) -> None:
    FineTune(**SHORT, loggers=()).fit(task)
    assert not list(folder(task).iterdir())
    if importlib.util.find_spec("tensorboard") is not None:
        FineTune(**SHORT, loggers=("csv", "tensorboard")).fit(task)
        assert list((folder(task) / "tensorboard").glob("events.*"))
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "mlflow" else find(name, *more)
    )
    with pytest.raises(SpecError, match="loggers names mlflow, whose package is not installed; pip install mlflow"):
        FineTune(**SHORT, loggers=("mlflow",)).fit(task)


def test_a_loss_that_is_not_a_number_names_the_batch(task: AdaptationTask, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare = Images.prepare

    def broken(self: Images, row: int, epoch: int, draw: int = 0) -> Any:
        pixels = prepare(self, row, epoch, draw)
        return pixels * np.nan if (row, epoch) == (7, 3) else pixels

    monkeypatch.setattr(Images, "prepare", broken)
    sentence = r"not finite in epoch 3, step \d, in a batch with the images film-1-7; use a lower .*last.ckpt\)"
    with pytest.raises(DataError, match=sentence):
        FineTune(**SHORT).fit(task)
    saved = torch.load(folder(task) / "last.ckpt", weights_only=True)
    assert saved["progress"]["epoch"] == 2
    assert all(tensor.isfinite().all() for tensor in saved["tensors"].values())


def test_a_rate_that_runs_away_is_told(task: AdaptationTask) -> None:
    with pytest.raises(DataError, match=r"fine-tune: the (validation )?loss is .*use a lower learning_rate"):
        FineTune(**SHORT | {"learning_rate": 1e30, "unfrozen_factor": 1.0}).fit(task)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        MemoryError(),
    ],
)
def test_out_of_memory_says_which_option_helps(task: AdaptationTask, error: BaseException) -> None:
    def fail(done: int, total: int) -> None:
        raise error

    with pytest.raises(ModelError, match=r"accumulate: 2 .*activation_checkpointing: true.*precision: bf16.*now 12"):
        FineTune(**SHORT).fit(replace(task, progress=fail))
    with pytest.raises(ModelError) as found:
        FineTune(**SHORT, precision="bf16", activation_checkpointing=True, keep_checkpoints=True).fit(
            replace(task, progress=fail)
        )
    assert "precision" not in str(found.value) and "activation" not in str(found.value)


def test_other_errors_stay_what_they_are(task: AdaptationTask) -> None:
    def fail(done: int, total: int) -> None:
        raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        FineTune(**SHORT).fit(replace(task, progress=fail))


def test_a_validation_split_without_positives(task: AdaptationTask) -> None:
    without = replace(task, targets={**task.targets, "val": np.zeros_like(task.targets["val"])})
    with pytest.raises(DataError, match=r"no positive of any label among its 12 images.*patience: null to train all 3"):
        FineTune(**SHORT | {"patience": 5}).fit(without)
    made = FineTune(**SHORT).fit(without)
    assert made.card["best_epoch"] == 3  # the last, since none is best
    unknown = replace(task, targets={**task.targets, "val": np.full_like(task.targets["val"], np.nan)})
    with pytest.raises(DataError, match="at least one assessed label in the val split"):
        FineTune(**SHORT | {"patience": 5}).fit(unknown)
    assert np.isnan(FineTune(**SHORT).fit(unknown).card["validation_bce"])


def test_splits_that_cannot_be_trained_on(task: AdaptationTask) -> None:
    unknown = {**task.targets, "train": np.full_like(task.targets["train"], np.nan)}
    with pytest.raises(DataError, match="assessed label in the train split, found none among its 26 images"):
        FineTune(**SHORT).fit(replace(task, targets=unknown))
    embeddings = {split: rows.copy() for split, rows in task.embeddings.items()}
    embeddings["val"][4, 0] = np.inf
    with pytest.raises(DataError, match=r"found 1 in the val split that are not .*film-2-4"):
        FineTune(**SHORT).fit(replace(task, embeddings=embeddings))


def test_a_broken_image_stops_the_training_by_its_id(task: AdaptationTask) -> None:
    films = TOY["Films"](26, 1)
    films.broken = {9}
    with pytest.raises(DataError, match="training needs every image, but image 'film-1-9' cannot be decoded"):
        FineTune(**SHORT).fit(replace(task, images={**task.images, "train": films}))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"epochs": 1}, r"epochs \(1\) must be more than warm_up_epochs \(1\)"),
        ({"accumulate": 13}, "batch_size 12 cannot be divided among 1 processes with accumulate 13"),
        ({"sampler": "plane"}, "unknown sampler 'plane'. Did you mean 'plain'"),
    ],
)
def test_options_that_do_not_fit_together(task: AdaptationTask, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SpecError, match=sentence):
        FineTune(**SHORT | options).fit(task)


@pytest.mark.parametrize("loss", ["asymmetric", "ldam"])
def test_any_loss_and_sampler_train_and_validation_stays_plain(task: AdaptationTask, loss: str) -> None:
    made = FineTune(**SHORT, loss=loss, sampler="class-aware", sampler_cap=2).fit(task)
    assert task.encoder is not None
    pixels = torch.from_numpy(np.stack([task.encoder.transform(task.images["val"][row]) for row in range(12)]))
    with torch.no_grad():
        plain = torch.nn.functional.binary_cross_entropy_with_logits(
            made.logits(pixels), torch.from_numpy(task.targets["val"])
        )
    assert made.card["validation_bce"] == pytest.approx(plain.item(), abs=1e-5)
    assert made.card["options"]["loss"]["name"] == loss


def test_it_needs_images_and_trains_without_a_place(task: AdaptationTask) -> None:
    with pytest.raises(ValueError, match="needs the encoder and the images"):
        FineTune(**SHORT).fit(replace(task, images={}))
    with_folder, without = FineTune(**SHORT).fit(task), FineTune(**SHORT).fit(replace(task, place=None))
    assert_same(with_folder, without, 0)
