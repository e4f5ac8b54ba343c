"""Training of small tensors on cached embeddings: minibatches, AdamW, cosine schedule, early stopping."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from radlens.adapt.calibration import calibrate
from radlens.adapt.losses import LossField, LossSpec, make_loss
from radlens.core.errors import DataError
from radlens.core.parts import AdaptationTask, Floats, Setting

_PART = 8192


class EmbeddingTraining(Setting):
    """Options of settings that train on embeddings.

    loss: a name of the table of losses, or a mapping of name and its options; over assessed entries, with the counts of
    train. learning_rate: at the start of a cosine that falls to 0 over `epochs`. weight_decay: decoupled, on all that
    is trained. epochs: at most so many. batch_size: images a step. patience: epochs without a lower validation loss
    before it stops; the best epoch's values are kept, the start counting as epoch 0. That validation loss is plain
    cross-entropy; with another training loss, which shifts logits on purpose, it is the cross-entropy after one slope
    and a bias per label are fitted to validation, or the start would mostly win.
    """

    loss: LossField = LossSpec()
    learning_rate: float = Field(1e-3, gt=0, allow_inf_nan=False)
    weight_decay: float = Field(1e-2, ge=0, allow_inf_nan=False)
    epochs: int = Field(100, ge=1)
    batch_size: int = Field(256, ge=1)
    patience: int = Field(10, ge=1)


@dataclass(frozen=True)
class Data:
    """One split: embeddings float32 (N, D), targets float32 (N, L) with NaN for null; its images' names if known."""

    embeddings: Floats
    targets: Floats
    image_ids: Sequence[str] = ()

    def tensors(self, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """Embeddings and targets as tensors."""
        x, t = (torch.from_numpy(np.ascontiguousarray(part)).to(device) for part in (self.embeddings, self.targets))
        return x, t


@dataclass(frozen=True)
class Epoch:
    """Mean losses of one pass: the training loss, plain cross-entropy on validation, and what it is stopped by."""

    epoch: int
    train_loss: float
    val_bce: float
    stopping_loss: float


@dataclass(frozen=True)
class Training:
    """What training came to. best_epoch 0: nothing was better than the start."""

    best_epoch: int
    val_bce: float
    stopping_loss: float
    start_bce: float
    history: tuple[Epoch, ...]

    def card(self) -> dict[str, Any]:
        """What a classifier's card holds of it."""
        return {
            "epochs_run": len(self.history),
            "best_epoch": self.best_epoch,
            "validation_bce": self.val_bce,
            "start_bce": self.start_bce,
            "history": [asdict(epoch) for epoch in self.history],
        }


def in_parts(logits: Callable[[Tensor], Tensor], embeddings: Tensor) -> Tensor:
    """(N, D) -> (N, L), so many rows at a time that what is made on the way stays small."""
    return torch.cat([logits(part) for part in torch.split(embeddings, _PART)])


def masked_bce(logits: Tensor, targets: Tensor) -> float:
    """Mean binary cross-entropy over assessed entries, in float64; (N, L) both. NaN if there is none."""
    known = ~targets.isnan()
    return float(binary_cross_entropy_with_logits(logits[known].double(), targets[known].double()))


def checked(task: AdaptationTask, split: str, setting: str) -> Data:
    """A split's embeddings and targets.

    Raises `DataError` where no target is assessed (in `train`: where no label has a positive), or where an embedding
    is not finite.
    """
    embeddings, targets = task.embeddings[split], task.targets[split]
    found = (targets == 1).any() if split == "train" else (~np.isnan(targets)).any()
    if not found:
        what = "positive of any label" if split == "train" else "assessed label"
        raise DataError(
            f"{setting} expected at least one {what} in the {split} split, found none among its {len(targets)} images; "
            "give the split more labelled images."
        )
    wrong = np.flatnonzero(~np.isfinite(embeddings).all(axis=1))
    if len(wrong):
        raise DataError(
            f"{setting} expected finite embeddings, found {len(wrong)} of {len(embeddings)} in the {split} split that "
            f"are not (the first is image {int(wrong[0]) + 1} of the split); check the model's weights, or embed in "
            "float32."
        )
    ids = task.images[split].image_ids if split in task.images else ()
    return Data(embeddings, targets, ids)


def without_positives(targets: Floats) -> npt.NDArray[np.bool_]:
    """(L,): labels of which no image is known to be positive."""
    return np.asarray(~(targets == 1).any(axis=0))


def trainable(targets: Floats) -> Floats:
    """The targets with labels without a positive made null, so that nothing is learnt from their negatives alone."""
    return np.where(without_positives(targets), np.float32(np.nan), targets).astype(np.float32)


def label_facts(task: AdaptationTask) -> dict[str, list[str]]:
    """Which labels cannot be estimated, for the card."""
    targets, names = task.targets["train"], task.vocabulary.names
    return {
        "not_estimable": [n for n, t in zip(names, targets.T, strict=True) if np.isnan(t).all()],
        "no_training_positives": [n for n, t in zip(names, without_positives(targets), strict=True) if t],
    }


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch computes on one thread inside: handing products of this size to a second takes longer than the products.

    On a machine that does other work besides, a second thread that has to be waited for costs 20 times the time.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def train(
    options: EmbeddingTraining,
    tensors: Sequence[Tensor],
    train_logits: Callable[[Tensor], Tensor],
    val_logits: Callable[[], Tensor],
    targets: Tensor,
    val_targets: Tensor,
    *,
    generator: np.random.Generator,
    on_epoch: Callable[[int], None],
    steps: int | None = None,
    image_ids: Sequence[str] = (),
    setting: str,
) -> Training:
    """Change `tensors` in place to their values of least validation loss.

    tensors: leaves that require gradients. train_logits: rows (B,) -> (B, L). val_logits: () -> (V, L), asked without
    gradients. targets (N, L), val_targets (V, L): NaN = not assessed; images without any are never drawn. steps: an
    epoch is at most so many batches of a permutation of all images. A loss that is not finite raises `DataError` naming
    the batch.
    """
    device = targets.device
    loss = make_loss(options.loss, targets.cpu().numpy())
    rows = torch.nonzero((~targets.isnan()).any(dim=1))[:, 0]
    # large batches learn in steps of nearly equal size: no stump at the end
    batches = math.ceil(len(rows) / options.batch_size)
    optimiser = torch.optim.AdamW(tensors, lr=options.learning_rate, weight_decay=options.weight_decay)
    calibrates = options.loss.name != "bce"
    best, best_epoch, history = [tensor.detach().clone() for tensor in tensors], 0, []
    start_bce, least = _validation(val_logits, val_targets, calibrates)
    best_bce = start_bce
    if not math.isfinite(start_bce):
        raise DataError(f"the start of {setting} has a validation loss of {start_bce}; check the model's embeddings.")
    for epoch in range(1, options.epochs + 1):
        now = loss.at((epoch - 1) / options.epochs)
        rate = options.learning_rate * (1 + math.cos(math.pi * (epoch - 1) / options.epochs)) / 2
        for group in optimiser.param_groups:
            group["lr"] = rate
        order = torch.from_numpy(generator.permutation(len(rows))).to(device)
        total, seen = 0.0, 0
        for batch in torch.tensor_split(rows[order], batches)[:steps]:
            with torch.enable_grad():
                value = now(train_logits(batch), targets[batch])
                if not torch.isfinite(value):
                    raise DataError(_runaway(setting, epoch, float(value.detach()), batch, image_ids))
                optimiser.zero_grad()
                value.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            total, seen = total + float(value.detach()) * len(batch), seen + len(batch)
        bce, stopping = _validation(val_logits, val_targets, calibrates)
        if not math.isfinite(bce):
            raise DataError(
                f"the validation loss of {setting} is {bce} after epoch {epoch}; use a lower learning_rate."
            )
        history.append(Epoch(epoch, total / seen, bce, stopping))
        on_epoch(epoch)
        if stopping < least:
            least, best_bce, best_epoch = stopping, bce, epoch
            best = [tensor.detach().clone() for tensor in tensors]
        elif epoch - best_epoch >= options.patience:
            break
    with torch.no_grad():
        for tensor, value in zip(tensors, best, strict=True):
            tensor.copy_(value)
    return Training(best_epoch, best_bce, least, start_bce, tuple(history))


def _validation(logits: Callable[[], Tensor], targets: Tensor, calibrates: bool) -> tuple[float, float]:
    """Plain cross-entropy, and the loss that training is stopped by."""
    with torch.no_grad():
        found = logits()
    bce = masked_bce(found, targets)
    if not (calibrates and math.isfinite(bce)):
        return bce, bce
    return bce, calibrate(found.cpu().numpy(), targets.cpu().numpy()).bce


def _runaway(setting: str, epoch: int, value: float, batch: Tensor, image_ids: Sequence[str]) -> str:
    rows = batch.tolist()
    names = [str(image_ids[row]) if image_ids else f"number {row + 1} of the split" for row in rows[:5]]
    more = f" and {len(rows) - 5} others" if len(rows) > 5 else ""
    return (
        f"the loss of {setting} is {value} in epoch {epoch}, in the batch of the images {', '.join(names)}{more}; use "
        "a lower learning_rate."
    )
