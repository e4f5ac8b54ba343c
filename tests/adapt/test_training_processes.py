"""Two processes that train together end where one does with the same global batch."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

TOY = Path(__file__).parent / "training_toy.py"


def start(miniature: Path, work: Path, out: Path, world: int, asked: dict[str, Any]) -> list[subprocess.Popen[str]]:
    """As torchrun does: one process each, its number in the environment."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = []
    for rank in range(world):
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        if world > 1:
            environment |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1"}
            environment |= {"WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world), "MASTER_PORT": str(port)}
        command = [sys.executable, str(TOY), str(miniature), str(work), str(out), json.dumps(asked)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        processes.append(subprocess.Popen(command, env=environment, text=True, **pipes))  # type: ignore[call-overload]
    return processes


def finish(processes: list[subprocess.Popen[str]]) -> list[str]:
    told = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), told
    return told


@pytest.mark.slow
def test_two_processes_train_to_the_same_validation_loss_as_one(miniature: Path, tmp_path: Path) -> None:
    # 40 images in steps of 13: pieces of 7 and 6, and a last step of one image, which the second process goes without
    options = {"epochs": 3, "batch_size": 13, "learning_rate": 1e-3, "patience": None, "precision": "float32"}
    asked = {"setting": "fine-tune", "options": options}
    for world in (1, 2):
        told = finish(start(miniature, tmp_path / f"work-{world}", tmp_path / f"out-{world}", world, asked))
        assert not any(told)
    cards = [json.loads((tmp_path / name).read_text()) for name in ("out-1/0.json", "out-2/0.json", "out-2/1.json")]
    alone, first, second = (card["history"] for card in cards)
    assert [card["processes"] for card in cards] == [1, 2, 2]
    for fact, apart in (("val_bce", 1e-5), ("train_loss", 1e-5), ("learning_rate", 0)):
        values = [[entry[fact] for entry in history] for history in (alone, first, second)]
        np.testing.assert_allclose(values[1], values[0], atol=apart)
        assert values[1] == values[2] or fact != "val_bce"
    one, *both = (
        load_file(tmp_path / name) for name in ("out-1/0.safetensors", "out-2/0.safetensors", "out-2/1.safetensors")
    )
    for name, tensor in one.items():
        assert torch.equal(both[0][name], both[1][name])
        torch.testing.assert_close(both[0][name], tensor, atol=1e-4, rtol=0)
    assert [path.name for path in (tmp_path / "work-2").iterdir()] == ["training.csv"]

    # killed after two epochs, a training of two processes goes on in one
    processes = start(miniature, tmp_path / "killed", tmp_path / "resumed", 2, asked | {"kill_at": 9})
    for process in processes:
        process.communicate(timeout=300)
    assert all(process.returncode for process in processes)
    assert (tmp_path / "killed" / "last.ckpt").is_file() and not (tmp_path / "resumed").exists()
    finish(start(miniature, tmp_path / "killed", tmp_path / "resumed", 1, asked))
    for name, tensor in load_file(tmp_path / "resumed/0.safetensors").items():
        torch.testing.assert_close(tensor, one[name], atol=1e-4, rtol=0)
