"""Where a training stands, on disk: written aside and renamed, so that a kill at any moment loses no earlier one."""

from __future__ import annotations

import csv
import pickle
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from radlens.core.errors import SpecError, StoreError
from radlens.core.store import write_failure, writing

_COLUMNS = ("epoch", "step", "train_loss", "val_bce", "learning_rate", "seconds", "images_per_second")


@dataclass
class Progress:
    """Plain facts of a training under way.

    epoch: epochs that are done. step: steps done in the next one. loss_sum, assessed: of that epoch so far, over its
    known targets. best_epoch: 0 while there is none. seconds: of training so far; waited: of them for images;
    epoch_seconds: of the epoch that is under way.
    """

    epoch: int = 0
    step: int = 0
    steps: int = 0
    loss_sum: float = 0.0
    assessed: int = 0
    best_epoch: int = 0
    best_bce: float = float("inf")
    seconds: float = 0.0
    waited: float = 0.0
    epoch_seconds: float = 0.0
    finished: bool = False
    history: list[dict[str, Any]] = field(default_factory=list)


class Checkpoints:
    """`last.ckpt`, `best-<epoch>.safetensors` and `training.csv` in a folder.

    writes: whether this process writes; all read. The best weights carry their epoch in their name, and older ones go
    only after a `last.ckpt` names the newer: the two always belong together.
    """

    def __init__(self, folder: Path, writes: bool) -> None:
        self.folder, self.writes = folder, writes
        self.last = folder / "last.ckpt"

    def begin(self, job: Mapping[str, Any]) -> dict[str, Any] | None:
        """The checkpoint of the same job, or None where there is none.

        One of another job raises `SpecError` saying what changed; a damaged one `StoreError`.
        """
        if not self.last.is_file():
            return None
        try:
            found: dict[str, Any] = torch.load(self.last, map_location="cpu", weights_only=True)
            before = dict(found["job"])
        except (OSError, RuntimeError, EOFError, KeyError, TypeError, ValueError, pickle.UnpicklingError) as error:
            raise StoreError(f"{self.last} cannot be read; delete the folder {self.folder} to begin anew.") from error
        names = sorted(key for key in before.keys() | job.keys() if before.get(key) != job.get(key))
        if names:
            changes = "; ".join(f"{name}: {_told(before.get(name))} -> {_told(job.get(name))}" for name in names[:5])
            more = f" (and {len(names) - 5} more)" if len(names) > 5 else ""
            raise SpecError(
                f"the training in {self.folder} was begun with other values ({changes}{more}); change them back to go "
                "on with it, or delete that folder to begin anew."
            )
        return found

    def save(self, job: Mapping[str, Any], progress: Progress, state: Mapping[str, Any]) -> None:
        """Write `last.ckpt`, then remove best weights that it no longer names."""
        if not self.writes:
            return
        with writing(self.last) as aside:
            try:
                torch.save({"job": dict(job), "progress": asdict(progress), **state}, aside)
            except RuntimeError as error:
                # torch tells of a full disk in an error of its own
                raise StoreError(f"cannot write {self.last}: {str(error).splitlines()[0]}.") from error
        for path in self.folder.glob("best-*.safetensors"):
            if path != self.best(progress.best_epoch):
                path.unlink(missing_ok=True)

    def best(self, epoch: int) -> Path:
        """Where the weights of the best epoch lie."""
        return self.folder / f"best-{epoch}.safetensors"

    def save_best(self, epoch: int, tensors: Mapping[str, Tensor]) -> None:
        """Write the weights that did best so far."""
        if self.writes:
            with writing(self.best(epoch)) as aside:
                save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, aside)

    def load_best(self, epoch: int) -> dict[str, Tensor]:
        """What `save_best` wrote; `StoreError` where it is gone."""
        path = self.best(epoch)
        try:
            return dict(load_file(path))
        except (OSError, SafetensorError) as error:
            raise StoreError(
                f"the best weights {path} cannot be read; delete the folder {self.folder} to begin anew."
            ) from error

    def write_history(self, history: list[dict[str, Any]]) -> None:
        """`training.csv`, one row an epoch."""
        if not self.writes:
            return
        with writing(self.folder / "training.csv") as aside, aside.open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, _COLUMNS, extrasaction="ignore")
            table.writeheader()
            table.writerows(history)

    def remove(self) -> None:
        """Remove all but `training.csv`."""
        if not self.writes:
            return
        try:
            self.last.unlink(missing_ok=True)
            for path in self.folder.glob("best-*.safetensors"):
                path.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(write_failure(self.last, error)) from error


def _told(value: Any) -> str:
    return "not set" if value is None else str(value)
