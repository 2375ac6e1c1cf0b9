"""Values of Lightning's options that would end in a traceback: a RequestError before training."""

import os
from typing import Any

from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import BatchSizeFinder

from makemore_pl.errors import RequestError
from makemore_pl.memory import in_words, require_memory

PROCESS_BYTES = 300 << 20
"""Memory of a process with PyTorch and Lightning before it has any data."""
LEAST = {
    "accumulate_grad_batches": 1,
    "check_val_every_n_epoch": 1,
    "log_every_n_steps": 0,
    "gradient_clip_val": 0,
}
"""Least values of those of Lightning's options that it does not check itself."""


def check_options(options: Any) -> None:
    """Refuse values of a command's options that Lightning does not check itself."""
    seed, trainer = options.seed_everything, options.trainer
    if seed is not None and not 0 <= seed < 1 << 32:
        raise RequestError(f"seed_everything must be from 0 to {(1 << 32) - 1:,}, not {seed}")
    for name, least in LEAST.items():
        value = trainer[name]
        if value is not None and value < least:
            raise RequestError(f"trainer.{name} must be at least {least}, not {value}")
    for name in ("val_check_interval", "limit_train_batches"):
        if isinstance(trainer[name], int | float) and trainer[name] <= 0:
            raise RequestError(f"trainer.{name} must be above 0, not {trainer[name]}")
    devices = str(trainer.devices)
    if devices.isdecimal():
        require_memory(
            int(devices) * PROCESS_BYTES, f"trainer.devices: {devices} processes × {in_words(PROCESS_BYTES)}"
        )


def expect_one_optimizer(options: Any, defaults: Any) -> None:
    """Refuse options of an optimiser that is not used: those that are not as by default."""
    if not options.get("optimizer"):
        if options.get("lr_scheduler"):
            raise RequestError("lr_scheduler goes with an optimizer of your own: give --optimizer, too")
        return
    for name in ("lr", "warmup", "weight_decay", "beta2"):
        if options.model[name] != defaults.model[name]:
            raise RequestError(
                f"model.{name} belongs to the model's own optimiser, which --optimizer replaces; leave it out"
            )


def expect_run_options(trainer: Any, dirpath: str | None) -> None:
    """Refuse options of the Trainer, or a folder of checkpoints, with which `makemore fit` leaves no run."""
    for folder in (trainer.default_root_dir, dirpath):
        if "://" in str(folder):
            raise RequestError(f"{folder}: runs are written to local folders, and moved elsewhere afterwards")
    if any(isinstance(callback, BatchSizeFinder) for callback in as_list(trainer.callbacks)):
        raise RequestError("BatchSizeFinder: a run's rounds depend on data.batch_size; find one beforehand")
    if trainer.barebones:
        raise RequestError(
            "trainer.barebones leaves out checkpoints and figures, which are what a run is for"
        )
    if trainer.enable_checkpointing is False:
        raise RequestError(
            "trainer.enable_checkpointing false leaves nothing of a run; to try one out, use "
            "--trainer.fast_dev_run true"
        )
    if isinstance(trainer.strategy, str) and trainer.strategy.startswith(
        ("ddp_spawn", "ddp_fork", "ddp_notebook")
    ):
        raise RequestError(
            f"trainer.strategy {trainer.strategy}: its processes hand nothing back to the program; use ddp"
        )


def expect_all_processes(trainer: Trainer) -> None:
    """Refuse a Trainer that leaves out processes that a launcher has started, or would wait for others.

    Without this, each process of a launcher would train on its own and write the same files.
    """
    launcher, variable = "torchrun", "WORLD_SIZE"
    if SLURMEnvironment.detect():
        launcher, variable = "Slurm", "SLURM_NTASKS"
    elif not TorchElasticEnvironment.detect():
        if trainer.num_nodes > 1 and not {"NODE_RANK", "MASTER_ADDR"} <= os.environ.keys():
            raise RequestError(
                f"trainer.num_nodes is {trainer.num_nodes}: start each by torchrun or under Slurm"
            )
        return
    started = int(os.environ.get(variable, 1))
    if started != trainer.world_size:
        raise RequestError(
            f"{launcher} has started {started} processes, but trainer.devices × trainer.num_nodes is "
            f"{trainer.num_devices} × {trainer.num_nodes}; they must be equal"
        )


def as_list(value: Any) -> list[Any]:
    """An option that may be one thing, several, or none, as a list."""
    return value if isinstance(value, list) else [] if value is None else [value]
