"""An image tower and a linear head as Lightning trains them."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any, cast

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim import AdamW

from radlens.adapt.training.averaging import AveragedWeights
from radlens.adapt.training.checkpoint import Progress
from radlens.adapt.training.job import TrainingJob
from radlens.adapt.training.schedule import learning_rate
from radlens.adapt.training.stream import Batch, Stream, divide, validation_plan
from radlens.adapt.training.surroundings import Surroundings
from radlens.adapt.training.together import add_up
from radlens.adapt.training.validation import validate
from radlens.core.classifier import Encoder
from radlens.core.errors import DataError


class EncoderTraining(LightningModule):
    """Everything unfrozen, from where `progress` stands to the last epoch.

    trainable: name -> (parameter of the tower, its share of the learning rate). Order, schedule and random numbers
    follow from (seed, epoch, step) alone, so that a training that goes on equals one that was never stopped. An epoch
    that is under way is given to Lightning as a shorter one.
    """

    def __init__(
        self,
        encoder: Encoder,
        head: nn.Linear,
        trainable: Mapping[str, tuple[nn.Parameter, float]],
        job: TrainingJob,
        around: Surroundings,
        progress: Progress,
    ) -> None:
        super().__init__()
        self.tower, self.head = encoder.image_module, head
        self.embed = encoder.encode_images
        self.job, self.around, self.progress = job, around, progress
        self.shares = {f"tower.{name}": share for name, (_, share) in trainable.items()}
        self.tensors: dict[str, nn.Parameter] = {f"tower.{name}": p for name, (p, _) in trainable.items()}
        for name, parameter in head.named_parameters():
            self.tensors[f"head.{name}"], self.shares[f"head.{name}"] = parameter, 1.0
        self.average = AveragedWeights(self.tensors, job.ema) if job.ema is not None else None
        self.known = (~np.isnan(around.train.targets)).sum(axis=1)
        self._stream: Stream | None = None
        self._images = 0
        self._loss = around.loss
        self._of_step: Tensor | float = 0.0
        self._saved: Mapping[str, Any] | None = None
        self._saved_at = self._mark = time.perf_counter()

    def train_dataloader(self) -> Stream:
        """What is left of the epoch that is next."""
        around, job, at = self.around, self.job, self.progress
        crew, order = around.crew, around.order(at.epoch + 1)
        plan = divide(order, self.known, job.batch_size, crew.rank, crew.world, job.accumulate)
        at.steps, self._images = plan[-1].step + 1, len(order)
        rest = [micro for micro in plan if micro.step >= at.step]
        self._stream = Stream(around.train, rest, at.epoch + 1, around.workers, around.pin)
        return self._stream

    def configure_optimizers(self) -> AdamW:
        """AdamW with one group for each share of the learning rate; its weight decay is on all parameters."""
        by_share: dict[float, list[nn.Parameter]] = {}
        for name, parameter in self.tensors.items():
            by_share.setdefault(self.shares[name], []).append(parameter)
        groups = [{"params": parameters, "share": share} for share, parameters in by_share.items()]
        fused = self.device.type in ("cpu", "cuda")
        return AdamW(groups, lr=self.job.learning_rate, weight_decay=self.job.weight_decay, fused=fused)

    def rate(self, epoch: int) -> float:
        """The learning rate of an epoch, counted from 1."""
        job = self.job
        phases = {"warm_up_epochs": job.warm_up_epochs, "epochs": job.epochs}
        return learning_rate(epoch, base=job.learning_rate, unfrozen_factor=job.unfrozen_factor, **phases)

    def on_train_start(self) -> None:
        if self._saved is not None:
            self._optimiser().load_state_dict(self._saved["optimiser"])
            self.trainer.precision_plugin.load_state_dict(dict(self._saved["precision"]))
            self._saved = None
        if self.average is not None:
            self.average.to(self.device)
        self._training_mode()
        self._saved_at = self._mark = time.perf_counter()

    def on_train_epoch_start(self) -> None:
        for group in self._optimiser().param_groups:
            group["lr"] = self.rate(self.progress.epoch + 1) * group["share"]

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        at, piece = self.progress, batch_idx % self.job.accumulate
        place = (self.around.train.seed, at.epoch, batch["step"], piece, self.around.crew.rank)
        # dropout: what it drops follows from the place in the training, not from what ran before
        torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1, np.uint64)[0] >> 1))
        if piece == 0:
            self._of_step = 0.0
            self._loss = self.around.loss.at((at.epoch + at.step / at.steps) / self.job.epochs)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """What this piece adds to the step's mean over known targets, times what the mean over pieces divides by."""
        logits = self.head(self.embed(batch["pixels"])).float()
        mine = int((~batch["targets"].isnan()).sum())
        # without a known target the loss is 0, but the processes still wait for each other's gradients
        value = self._loss(logits, batch["targets"]) * (mine / batch["assessed"]) if mine else (logits * 0).sum()
        self._of_step = self._of_step + value.detach()
        if batch["last"]:
            total = add_up([float(self._of_step)], self.around.crew)[0]
            if not math.isfinite(total):
                raise DataError(self._not_finite(batch, logits))
            self.progress.loss_sum += total * batch["assessed"]
            self.progress.assessed += batch["assessed"]
        return value * (self.around.crew.world * self.job.accumulate)

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        if not batch["last"]:
            return
        at = self.progress
        at.step = batch["step"] + 1
        if self.average is not None:
            self.average.update(self.tensors)
        self.around.tell(at.epoch * at.steps + at.step, self.job.epochs * at.steps)
        if time.perf_counter() - self._saved_at >= 60 * self.job.checkpoint_minutes and at.step < at.steps:
            self.save()

    def on_train_epoch_end(self) -> None:
        """Validate, remember the best weights, save, and say whether it is over."""
        at, job = self.progress, self.job
        self._clock()
        speed = self._images / at.epoch_seconds
        bce = self._validation_bce()
        at.epoch += 1
        if not math.isfinite(bce) and self.around.keeps_best:
            raise DataError(
                f"{job.setting}: the validation loss is {bce} after epoch {at.epoch}; use a lower learning_rate, or "
                f"precision: float32{self._kept()}."
            )
        self._clock()
        at.history.append(
            {
                "epoch": at.epoch,
                "phase": "all",
                "step": at.steps + (at.history[-1]["step"] if at.history else 0),
                "train_loss": at.loss_sum / max(1, at.assessed),
                "val_bce": bce,
                "learning_rate": self.rate(at.epoch),
                "seconds": at.epoch_seconds,
                "images_per_second": speed,
            }
        )
        at.step, at.loss_sum, at.assessed, at.epoch_seconds = 0, 0.0, 0, 0.0
        if not self.around.keeps_best or bce < at.best_bce:
            at.best_epoch, at.best_bce = at.epoch, bce
            self.around.checkpoints.save_best(at.epoch, self.evaluated())
        elif job.patience is not None and at.epoch - at.best_epoch >= job.patience:
            at.finished = True
        at.finished |= at.epoch == job.epochs
        self.trainer.should_stop = at.finished
        self.save()
        if "csv" in job.loggers:
            self.around.checkpoints.write_history(at.history)
        for logger in self.loggers:
            told = {name: value for name, value in at.history[-1].items() if name not in ("phase", "step")}
            logger.log_metrics(told, step=at.history[-1]["step"])

    def evaluated(self) -> Mapping[str, Tensor]:
        """The weights that count: the average where there is one."""
        return self.tensors if self.average is None else self.average.tensors

    def save(self) -> None:
        """Write where the training stands; only between steps."""
        self._clock()
        state: dict[str, Any] = {
            "tensors": {name: tensor.detach() for name, tensor in self.tensors.items()},
            "optimiser": self._optimiser().state_dict(),
            "precision": self.trainer.precision_plugin.state_dict(),
        }
        if self.average is not None:
            state["average"] = self.average.tensors
        self.around.checkpoints.save(self.around.identity, self.progress, state)
        self._saved_at = time.perf_counter()

    def resume(self, saved: Mapping[str, Any]) -> None:
        """Take what `save` wrote."""
        with torch.no_grad():
            for name, parameter in self.tensors.items():
                parameter.copy_(saved["tensors"][name])
        if self.average is not None:
            self.average.load(saved["average"])
        self._saved = saved

    def _validation_bce(self) -> float:
        around, crew = self.around, self.around.crew
        plan = validation_plan(len(around.val.targets), self.job.batch_size, crew.rank, crew.world)
        self.eval()
        averaged = nullcontext() if self.average is None else self.average.in_place_of(self.tensors)
        stream = Stream(around.val, plan, 0, around.workers, around.pin)
        with averaged, self.trainer.precision_plugin.val_step_context():
            found = validate(lambda pixels: self.head(self.embed(pixels)), stream, self.device, crew)
        self._training_mode()
        self.progress.waited += stream.waited
        return found.bce

    def _training_mode(self) -> None:
        self.train()
        for module in self.modules():
            # running statistics stay as released: those of a few images are noise, and differ between processes
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()

    def _optimiser(self) -> torch.optim.Optimizer:
        return cast(torch.optim.Optimizer, self.optimizers(use_pl_optimizer=False))

    def _clock(self) -> None:
        now, at = time.perf_counter(), self.progress
        at.seconds, at.epoch_seconds = at.seconds + now - self._mark, at.epoch_seconds + now - self._mark
        self._mark = now
        if self._stream is not None:
            at.waited, self._stream.waited = at.waited + self._stream.waited, 0.0

    def _not_finite(self, batch: Batch, logits: Tensor) -> str:
        at, ids = self.progress, self.around.train.source.image_ids
        rows = batch["rows"].tolist()
        wrong = [row for row, fine in zip(rows, logits.isfinite().all(1).tolist(), strict=False) if not fine]
        named = ", ".join(str(ids[row]) for row in (wrong or rows)[:5])
        return (
            f"{self.job.setting}: the loss is not finite in epoch {at.epoch + 1}, step {batch['step'] + 1}, in a batch "
            f"with the images {named}; use a lower learning_rate, or precision: float32{self._kept()}."
        )

    def _kept(self) -> str:
        last = self.around.checkpoints.last
        return f" (the last good checkpoint is {last})" if last.is_file() else ""
