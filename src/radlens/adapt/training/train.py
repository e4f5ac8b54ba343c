"""Train an image tower and a linear head: the way through the whole of it."""

from __future__ import annotations

import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from radlens.adapt.losses import make_loss
from radlens.adapt.samplers import epoch_order
from radlens.adapt.training.checkpoint import Checkpoints, Progress
from radlens.adapt.training.job import Trained, TrainingJob
from radlens.adapt.training.lightning_trainer import check_precision, choose_accelerator, make_trainer, quietly
from radlens.adapt.training.module import EncoderTraining
from radlens.adapt.training.parameters import changed_tensors, make_trainable, parameter_depths, recompute_activations
from radlens.adapt.training.schedule import rate_share
from radlens.adapt.training.stream import Images
from radlens.adapt.training.surroundings import Surroundings
from radlens.adapt.training.warm_up import new_head, warm_up
from radlens.core.classifier import Encoder
from radlens.core.crew import Crew, crew
from radlens.core.errors import DataError, ModelError, SpecError
from radlens.core.heads import Head
from radlens.core.parts import AdaptationTask, TrainingPlace
from radlens.core.store import fingerprint

# what may change without changing what comes out: bookkeeping, and what a lack of memory asks for
_FREE = ("keep_checkpoints", "checkpoint_minutes", "loggers", "accumulate", "activation_checkpointing")


def train_encoder(job: TrainingJob, task: AdaptationTask) -> Trained:
    """The head alone for the warm-up epochs, then the head and the chosen parameters of the tower together.

    The task's encoder stays as it is. In a crew every process calls this and gets the same result. A call that was
    stopped goes on from its last checkpoint in `task.place.folder`. Raises `DataError` for splits, images and losses
    that cannot be trained on, `SpecError` for options, `ModelError` for encoders and a lack of memory.
    """
    if task.encoder is None or not {"train", "val"} <= task.images.keys():
        raise ValueError(f"{job.setting} needs the encoder and the images of the splits train and val.")
    team = crew()
    with tempfile.TemporaryDirectory() if task.place is None and team.first else nullcontext() as scratch:
        place = task.place or TrainingPlace(Path(str(team.agree(scratch))))
        return _train(job, task, task.encoder, place, team)


def _train(job: TrainingJob, task: AdaptationTask, released: Encoder, place: TrainingPlace, team: Crew) -> Trained:
    _check(job, task, team)
    device = choose_accelerator(place.device)
    check_precision(job.precision, device)
    encoder = released.with_image_tensors({})
    chosen = make_trainable(encoder, job.choose(encoder))
    if not chosen:
        raise ModelError(f"{job.setting} finds nothing to train in the image tower of {released.name}.")
    head = new_head(task)
    total = sum(p.numel() for p in (*released.image_module.parameters(), *head.parameters()))
    train, val = (
        Images(task.images[split], task.targets[split], encoder.transform, augmentation, task.seed)
        for split, augmentation in (("train", job.augmentation), ("val", None))
    )
    loss = make_loss(job.loss, task.targets["train"])
    checkpoints = Checkpoints(place.folder, team.first)
    identity = _identity(job, task, released)

    def order(epoch: int) -> Any:
        return epoch_order(job.sampler, task.targets["train"], epoch, task.seed, job.sampler_cap)

    saved = checkpoints.begin(identity)
    progress = Progress() if saved is None else Progress(**saved["progress"])
    keeps_best = bool((task.targets["val"] == 1).any())
    if saved is None:
        progress.history = team.agree(list(warm_up(head, task, job, loss, order)))
        _begin(progress, keeps_best)
    around = Surroundings(
        train, val, order, loss, team, checkpoints, identity, task.progress, place.workers, device == "cuda", keeps_best
    )
    module = EncoderTraining(encoder, head, _with_rates(encoder, chosen, job), job, around, progress)
    if saved is not None:
        module.resume(saved)
        task.tell(f"{job.setting}: going on after epoch {progress.epoch}, step {progress.step}")
    elif progress.best_epoch:
        checkpoints.save_best(progress.best_epoch, module.tensors)
    if not progress.finished:
        if job.activation_checkpointing:
            recompute_activations(encoder)
        devices = [torch.cuda.current_device()] if device == "cuda" else []
        # float32 means float32: by default convolutions on CUDA would round to 10 bits
        exact = torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled, allow_tf32=False)
        with quietly(job), torch.random.fork_rng(devices), exact:
            make_trainer(job, device, team, job.epochs - progress.epoch, place.folder).fit(module)
        module.cpu()
    team.barrier()
    best = checkpoints.load_best(progress.best_epoch)
    with torch.no_grad():
        for name, parameter in module.tensors.items():
            parameter.copy_(best[name])
    trainable = sum(parameter.numel() for parameter in module.tensors.values())
    job.merge(encoder.image_module)
    card = _card(job, task, released, progress, {"trainable_parameters": trainable, "total_parameters": total}, device)
    changed = changed_tensors(released.image_module.state_dict(), encoder.image_module.state_dict())
    team.barrier()
    if not job.keep_checkpoints:
        checkpoints.remove()
    # stopped early: the bar is full all the same
    task.progress(progress.epoch, progress.epoch)
    weight, bias = (parameter.detach().cpu().clone() for parameter in (head.weight, head.bias))
    return Trained(Head(weight, bias, normalise=False), changed, card)


def _check(job: TrainingJob, task: AdaptationTask, team: Crew) -> None:
    for split in ("train", "val"):
        targets = task.targets[split]
        if np.isnan(targets).all() and (split == "train" or job.patience is not None):
            raise DataError(
                f"{job.setting} expected at least one assessed label in the {split} split, found none among its "
                f"{len(targets)} images; give the split more labelled images."
            )
        wrong = np.flatnonzero(~np.isfinite(task.embeddings[split]).all(axis=1))
        if len(wrong):
            raise DataError(
                f"{job.setting} expected finite embeddings, found {len(wrong)} in the {split} split that are not (the "
                f"first is of image {task.images[split].image_ids[int(wrong[0])]}); check the model's weights, or "
                "embed in float32."
            )
    if job.patience is not None and not (task.targets["val"] == 1).any():
        raise DataError(
            f"{job.setting} stops early by the validation loss, but the validation split has no positive of any label "
            f"among its {len(task.targets['val'])} images; give it some, or set patience: null to train all "
            f"{job.epochs} epochs."
        )
    if job.epochs <= job.warm_up_epochs:
        raise SpecError(
            f"{job.setting}: epochs ({job.epochs}) must be more than warm_up_epochs ({job.warm_up_epochs}), in which "
            "only the head trains."
        )
    if job.batch_size < team.world * job.accumulate:
        raise SpecError(
            f"{job.setting}: batch_size {job.batch_size} cannot be divided among {team.world} processes with "
            f"accumulate {job.accumulate}; it must be at least {team.world * job.accumulate}."
        )


def _begin(progress: Progress, keeps_best: bool) -> None:
    """Stand after the warm-up."""
    progress.epoch = len(progress.history)
    progress.seconds = sum(entry["seconds"] for entry in progress.history)
    if progress.history and keeps_best:
        # the weights at hand are those of its last epoch; a warm-up is one epoch, rarely more
        progress.best_epoch, progress.best_bce = progress.epoch, float(progress.history[-1]["val_bce"])


def _with_rates(
    encoder: Encoder, chosen: dict[str, nn.Parameter], job: TrainingJob
) -> dict[str, tuple[nn.Parameter, float]]:
    if job.layer_decay == 1:
        return {name: (parameter, 1.0) for name, parameter in chosen.items()}
    depths, blocks = parameter_depths(encoder)
    return {name: (p, rate_share(depths[name], blocks, job.layer_decay)) for name, p in chosen.items()}


def _identity(job: TrainingJob, task: AdaptationTask, encoder: Encoder) -> dict[str, Any]:
    """All that decides what comes out, in plain values that a message can name."""
    options = {key: _plain(value) for key, value in job.options.items() if key not in _FREE}
    return {
        "setting": job.setting,
        **options,
        "seed": task.seed,
        "encoder": encoder.fingerprint,
        "training images": fingerprint(list(task.images["train"].image_ids)),
        "validation images": fingerprint(list(task.images["val"].image_ids)),
        "labels": ", ".join(task.vocabulary.names),
        "targets": fingerprint(task.targets["train"], task.targets["val"]),
    }


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool | None) else repr(value)


def _card(
    job: TrainingJob, task: AdaptationTask, encoder: Encoder, at: Progress, sizes: dict[str, int], device: str
) -> dict[str, Any]:
    names, targets = task.vocabulary.names, task.targets["train"]
    return {
        "options": dict(job.options),
        "train_seconds": at.seconds,
        **sizes,
        "epochs_run": at.epoch,
        "best_epoch": at.best_epoch,
        "validation_bce": at.history[at.best_epoch - 1]["val_bce"],
        "not_estimable": [n for n, t in zip(names, targets.T, strict=True) if np.isnan(t).all()],
        "no_training_positives": [n for n, t in zip(names, targets.T, strict=True) if not (t == 1).any()],
        "data_wait_share": at.waited / at.seconds if at.seconds else 0.0,
        "device": device,
        "training_precision": job.precision,
        "processes": crew().world,
        "history": at.history,
    }
