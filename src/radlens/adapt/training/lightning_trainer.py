"""Lightning's trainer as it is used here: silent, on the device that was asked for, in the crew that is there."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import signal
import threading
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.fabric.utilities.warnings import PossibleUserWarning
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import Logger as LightningLogger
from lightning.pytorch.loggers import MLFlowLogger, TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy

from radlens.adapt.training.job import Logger, Precision, TrainingJob
from radlens.core.crew import Crew
from radlens.core.errors import ModelError, SpecError

_LIGHTNINGS: dict[Precision, Literal["32-true", "bf16-mixed", "16-mixed"]] = {
    "float32": "32-true",
    "bf16": "bf16-mixed",
    "fp16": "16-mixed",
}


def choose_accelerator(asked: str) -> str:
    """`cuda`, `mps` or `cpu`. A device that is not there raises `SpecError`."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if asked == "auto":
        return next(name for name, is_there in there.items() if is_there)
    if not there.get(asked):
        raise SpecError(f"compute.device is {asked}, but this machine has none that PyTorch can use; use auto or cpu.")
    return asked


def check_precision(precision: Precision, device: str) -> None:
    """Raises `SpecError` where the device cannot train in that precision."""
    if precision == "fp16" and device != "cuda":
        raise SpecError(f"precision fp16 trains on CUDA devices alone, and this runs on {device}; use bf16 or float32.")
    if precision == "bf16" and (device == "mps" or (device == "cuda" and not torch.cuda.is_bf16_supported())):
        other = "fp16 or float32" if device == "cuda" else "float32"
        raise SpecError(f"precision bf16 is not what this {device} device can do; use {other}.")


def make_trainer(job: TrainingJob, device: str, crew: Crew, epochs: int, folder: Path) -> Trainer:
    """A trainer for `epochs` epochs that writes nothing but the loggers that were asked for."""
    strategy: Any = "auto"
    plugins: list[Any] = []
    devices = nodes = 1
    if crew.world > 1:
        strategy = DDPStrategy()
        plugins = [TorchElasticEnvironment()]
        devices = int(os.environ.get("LOCAL_WORLD_SIZE", str(crew.world)))
        nodes = crew.world // devices
    loggers = make_loggers(job.loggers, folder) if crew.first else []
    return Trainer(
        accelerator={"cuda": "gpu"}.get(device, device),
        devices=devices,
        num_nodes=nodes,
        strategy=strategy,
        plugins=plugins,
        precision=_LIGHTNINGS[job.precision],
        max_epochs=epochs,
        accumulate_grad_batches=job.accumulate,
        reload_dataloaders_every_n_epochs=1,
        logger=loggers or False,
        log_every_n_steps=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        default_root_dir=folder,
    )


def make_loggers(asked: Sequence[Logger], folder: Path) -> list[LightningLogger]:
    """Lightning's loggers beside the CSV file. One whose package is missing raises `SpecError`."""
    packages = {"tensorboard": "tensorboard", "mlflow": "mlflow"}
    for name in asked:
        if name in packages and importlib.util.find_spec(packages[name]) is None:
            raise SpecError(
                f"loggers names {name}, whose package is not installed; pip install {packages[name]}, or leave it out."
            )
    found: list[LightningLogger] = []
    if "tensorboard" in asked:
        found.append(TensorBoardLogger(folder, name="tensorboard", version=""))
    if "mlflow" in asked:
        found.append(MLFlowLogger(experiment_name=folder.name, tracking_uri=(folder / "mlruns").absolute().as_uri()))
    return found


@contextlib.contextmanager
def quietly(job: TrainingJob) -> Iterator[None]:
    """Lightning's lines and hints stay unsaid; Ctrl-C and a lack of memory leave as what they are."""
    loud = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    loud += [logging.getLogger(f"{logger.name}.utilities.rank_zero") for logger in loud]
    levels = [logger.level for logger in loud]
    in_main = threading.current_thread() is threading.main_thread()
    on_interrupt = signal.getsignal(signal.SIGINT) if in_main else None
    with warnings.catch_warnings():
        # hints on how to configure a trainer; what is left out here is left out on purpose
        warnings.simplefilter("ignore", PossibleUserWarning)
        # a device that is there and was not asked for
        warnings.filterwarnings("ignore", message=".*available but not used")
        # the gradient of a convolution lies otherwise in memory than its weight: one copy more, once a step
        warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
        # Lightning's own use of PyTorch
        warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)
        for logger in loud:
            logger.setLevel(logging.ERROR)
        try:
            yield
        except SystemExit as exit_:
            # Lightning turns Ctrl-C into an exit, and shuts its ears to further ones
            if isinstance(exit_.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt from None
            raise
        except (MemoryError, RuntimeError) as error:
            if not _out_of_memory(error):
                raise
            raise ModelError(out_of_memory(job)) from error
        finally:
            for logger, level in zip(loud, levels, strict=True):
                logger.setLevel(level)
            if on_interrupt is not None:
                signal.signal(signal.SIGINT, on_interrupt)


def out_of_memory(job: TrainingJob) -> str:
    """The sentence for a lack of memory: the options that would help and are not used yet."""
    helps = [f"accumulate: {2 * job.accumulate} (now {job.accumulate}; the same result in smaller pieces)"]
    if not job.activation_checkpointing:
        helps.append("activation_checkpointing: true (the same result, slower)")
    if job.precision == "float32":
        helps.append("precision: bf16")
    helps.append(f"a smaller batch_size (now {job.batch_size})")
    return f"{job.setting} ran out of memory; what helps, in this order: {', '.join(helps)}."


def _out_of_memory(error: BaseException) -> bool:
    told = str(error).lower()
    signs = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(sign in told for sign in signs)
