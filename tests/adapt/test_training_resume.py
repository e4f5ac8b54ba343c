"""A training that is killed and called again, and what stands in its folder meanwhile."""

from __future__ import annotations

import json
import runpy
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from radlens.adapt.fine_tune import FineTune
from radlens.adapt.lora import Lora
from radlens.core.errors import SpecError, StoreError
from radlens.core.parts import AdaptationTask

TOY = Path(__file__).parent / "training_toy.py"
SHORT: dict[str, Any] = {"epochs": 3, "batch_size": 12, "learning_rate": 1e-3, "patience": None}


@pytest.fixture(scope="module")
def toy() -> dict[str, Any]:
    return runpy.run_path(str(TOY))


@pytest.fixture
def task(toy: dict[str, Any], miniature: Path, tmp_path: Path) -> AdaptationTask:
    made: AdaptationTask = toy["make_task"](toy["read_encoder"](miniature), tmp_path / "work", 24, 12)
    return made


def run(miniature: Path, work: Path, out: Path, **asked: Any) -> int:
    command = [sys.executable, str(TOY), str(miniature), str(work), str(out), json.dumps(asked)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    assert not done.stderr  # Lightning says nothing
    return done.returncode


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setting", "options", "kills"),
    [
        # 40 images in steps of 12: 4 steps an epoch; the kill at 6 falls between two epoch ends
        ("fine-tune", {"checkpoint_minutes": 0, "ema": 0.5, "augmentation": "radiograph"}, (6, 11)),
        ("lora", {"dropout": 0.3, "accumulate": 2, "sampler": "class-aware"}, (7,)),
    ],
)
def test_kill_and_the_same_call_end_where_an_uninterrupted_run_does(
    miniature: Path, tmp_path: Path, setting: str, options: dict[str, Any], kills: tuple[int, ...]
) -> None:
    asked = {"setting": setting, "options": SHORT | options}
    assert run(miniature, tmp_path / "whole", tmp_path / "a", **asked) == 0
    for step in kills:
        assert run(miniature, tmp_path / "killed", tmp_path / "b", kill_at=step, **asked) == -signal.SIGKILL
        assert not (tmp_path / "b").exists()
    assert run(miniature, tmp_path / "killed", tmp_path / "b", **asked) == 0
    whole, resumed = (load_file(tmp_path / name / "0.safetensors") for name in "ab")
    assert whole.keys() == resumed.keys() and any(name.startswith("tower.") for name in whole)
    for name, tensor in whole.items():
        torch.testing.assert_close(resumed[name], tensor, atol=1e-6, rtol=0)
    cards = [json.loads((tmp_path / name / "0.json").read_text()) for name in "ab"]
    for fact in ("train_loss", "val_bce", "learning_rate", "step"):
        found = [[entry[fact] for entry in card["history"]] for card in cards]
        np.testing.assert_allclose(*found, atol=1e-6)
    assert cards[0]["best_epoch"] == cards[1]["best_epoch"]
    assert [path.name for path in (tmp_path / "killed").iterdir()] == ["training.csv"]


def stopped(task: AdaptationTask, setting: FineTune | Lora, at: int) -> AdaptationTask:
    """Ctrl-C after that many steps."""

    def interrupt(done: int, total: int) -> None:
        if done == at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        setting.fit(replace(task, progress=interrupt))
    return task


def test_ctrl_c_leaves_the_last_checkpoint_and_pythons_own_handler(task: AdaptationTask) -> None:
    before = signal.getsignal(signal.SIGINT)
    stopped(task, FineTune(**SHORT), 5)
    assert signal.getsignal(signal.SIGINT) is before
    assert task.place is not None
    told: list[str] = []
    assert (task.place.folder / "last.ckpt").is_file()
    made = FineTune(**SHORT).fit(replace(task, tell=told.append))
    assert told == ["fine-tune: going on after epoch 2, step 0"]
    assert made.card["epochs_run"] == 3


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"learning_rate": 2e-3}, r"learning_rate: 0\.001 -> 0\.002"),
        ({"last_k_blocks": 2}, r"last_k_blocks: not set -> 2"),
        ({"epochs": 4, "ema": 0.9}, r"ema: not set -> 0\.9; epochs: 3 -> 4"),
    ],
)
def test_a_changed_spec_is_refused_with_what_changed(
    task: AdaptationTask, options: dict[str, Any], sentence: str
) -> None:
    stopped(task, FineTune(**SHORT), 5)
    assert task.place is not None
    with pytest.raises(SpecError, match=rf"{sentence}.*delete that folder") as found:
        FineTune(**SHORT | options).fit(task)
    assert str(task.place.folder) in str(found.value)


def test_changed_data_are_refused_and_changed_bookkeeping_is_not(task: AdaptationTask) -> None:
    stopped(task, FineTune(**SHORT), 5)
    other = {split: targets.copy() for split, targets in task.targets.items()}
    other["train"][0, 0] = np.nan
    with pytest.raises(SpecError, match="targets: "):
        FineTune(**SHORT).fit(replace(task, targets=other))
    with pytest.raises(SpecError, match="seed: 0 -> 1"):
        FineTune(**SHORT).fit(replace(task, seed=1))
    made = FineTune(**SHORT, keep_checkpoints=True, checkpoint_minutes=3, accumulate=2).fit(task)
    assert made.card["epochs_run"] == 3


def test_a_damaged_checkpoint_is_told_with_its_folder(task: AdaptationTask) -> None:
    stopped(task, FineTune(**SHORT), 5)
    assert task.place is not None
    last = task.place.folder / "last.ckpt"
    last.write_bytes(last.read_bytes()[:5000])
    with pytest.raises(StoreError, match=r"last\.ckpt cannot be read; delete the folder"):
        FineTune(**SHORT).fit(task)


def test_a_failed_write_keeps_the_checkpoint_before(task: AdaptationTask, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the process dies while it writes: what stood there still does."""
    writes: list[Any] = []
    save: Callable[..., None] = torch.save

    def half(value: Any, place: Path) -> None:
        writes.append(value)
        if len(writes) == 2:
            Path(place).write_bytes(b"half a checkpoint")
            raise OSError(28, "No space left on device")
        save(value, place)

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(StoreError, match="no space left"):
        FineTune(**SHORT).fit(task)
    monkeypatch.undo()
    assert task.place is not None
    assert torch.load(task.place.folder / "last.ckpt", weights_only=True)["progress"]["epoch"] == 2
    assert FineTune(**SHORT).fit(task).card["epochs_run"] == 3


def test_checkpoints_are_kept_when_asked_and_a_finished_call_trains_no_more(task: AdaptationTask) -> None:
    setting = FineTune(**SHORT, keep_checkpoints=True)
    made = setting.fit(task)
    assert task.place is not None
    best = f"best-{made.card['best_epoch']}.safetensors"
    assert sorted(p.name for p in task.place.folder.iterdir()) == sorted([best, "last.ckpt", "training.csv"])
    steps: list[int] = []
    again = setting.fit(replace(task, progress=lambda done, total: steps.append(done)))
    assert steps == [3]  # the bar alone
    assert all(torch.equal(again.image_tensors[name], tensor) for name, tensor in made.image_tensors.items())
