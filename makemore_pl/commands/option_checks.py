"""What goes wrong before anything is trained: options and checkpoints that end in errors inside Lightning."""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torch.optim import Optimizer

from makemore_pl.errors import CheckpointError, MakemoreError, RequestError
from makemore_pl.memory import in_words, require_memory
from makemore_pl.runs.checkpoint import Checkpoint

PROCESS_BYTES = 300 << 20
"""What a process with PyTorch and Lightning takes before it has any data."""
LEAST = {
    "accumulate_grad_batches": 1,
    "check_val_every_n_epoch": 1,
    "log_every_n_steps": 0,
    "gradient_clip_val": 0,
}
"""Least values of those of Lightning's options that it does not check itself."""


class LostProcessError(MakemoreError):
    """One of several ranks is gone, and the others cannot go on without it."""

    exit_code = 1


class Progress(Callback):
    """How far the Trainer has come, to tell what an error means."""

    def __init__(self) -> None:
        self.started = False  # data, model and checkpoint have been loaded, and prove to be usable
        self._first_step = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Raises ValueError for a state of optimiser, schedule or loops that must not be gone on with."""
        self.started = trainer.ckpt_path is None
        self._first_step = trainer.global_step
        if not self.started:
            _expect_sound_progress(trainer.fit_loop.state_dict())
            for optimizer in trainer.optimizers:
                _expect_sound_state(optimizer)
            for config in trainer.lr_scheduler_configs:
                if not all(isinstance(lr, int | float) for lr in getattr(config.scheduler, "base_lrs", ())):
                    raise ValueError("a learning rate of the schedule is no number")

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        # Optimiser and schedule use what has been restored in the first step, not before.
        self.started = self.started or trainer.global_step > self._first_step

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.started = self.started or trainer.state.fn != TrainerFn.FITTING

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.started = True

    on_test_start = on_predict_start = on_train_end


def _expect_sound_state(optimizer: Optimizer) -> None:
    """Whether a fused optimiser can use its state: it goes through memory without looking at sizes.

    Raises:
        ValueError: it cannot.
    """
    for group in optimizer.param_groups:
        for name, value in group.items():
            if isinstance(value, int | float) and not math.isfinite(value):
                raise ValueError(f"the optimiser's {name} is {value}")
        if not group.get("fused"):
            continue
        for parameter in group["params"]:
            for name, value in optimizer.state[parameter].items():
                shape = torch.Size() if name == "step" else parameter.shape
                if not isinstance(value, Tensor) or value.shape != shape or not value.is_contiguous():
                    raise ValueError(
                        f"the optimiser's {name} does not fit a weight of {tuple(parameter.shape)}"
                    )
                if not value.isfinite().all():
                    raise ValueError(f"the optimiser's {name} holds values that are no numbers")


def _expect_sound_progress(state: Any) -> None:
    """Raise ValueError where a number of the loops' state is none, or below 0."""
    if isinstance(state, dict | list):
        for value in state.values() if isinstance(state, dict) else state:
            _expect_sound_progress(value)
    elif not isinstance(state, int) or state < 0:
        raise ValueError(f"the progress of the training is {str(state)[:40]}")


def check_options(seed: bool | int | None, trainer: Any) -> None:
    """Refuse values of Lightning's options that would end in a traceback, or take all memory.

    Args:
        seed: `seed_everything`.
        trainer: the Trainer's options.

    Raises:
        RequestError, MemoryLimitError: for such a value.
    """
    if seed is not None and not 0 <= seed < 1 << 32:
        raise RequestError(f"seed_everything must be from 0 to {(1 << 32) - 1:,}, not {seed}")
    for name, least in LEAST.items():
        value = trainer[name]
        if value is not None and value < least:
            raise RequestError(f"trainer.{name} must be at least {least}, not {value}")
    interval = trainer.val_check_interval
    if isinstance(interval, int | float) and interval <= 0:
        raise RequestError(f"trainer.val_check_interval must be above 0, not {interval}")
    devices = str(trainer.devices)
    if devices.isdecimal():
        require_memory(
            int(devices) * PROCESS_BYTES, f"trainer.devices: {devices} processes × {in_words(PROCESS_BYTES)}"
        )


def expect_all_processes(trainer: Trainer) -> None:
    """Refuse a Trainer that leaves out processes that a launcher has started, or would wait for others.

    Without this, each process of a launcher would train on its own and write the same files.

    Raises:
        RequestError: for such a Trainer.
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


@contextmanager
def explained(command: str, progress: Progress, source: Checkpoint | None) -> Iterator[None]:
    """Show errors before anything is computed as what they are: the checkpoint's fault, or an option's.

    Args:
        command: the program's.
        progress: how far the Trainer has come.
        source: the checkpoint that is gone on with.

    Raises:
        CheckpointError, RequestError: instead of what Lightning and PyTorch raise.
    """
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError, ArithmeticError) as error:
        if is_lost_process(error):
            raise LostProcessError(
                f"{command}: another of its processes has ended, see above; go on with --ckpt_path last"
            ) from error
        if progress.started or is_out_of_memory(error):
            raise
        if source is not None:
            reason = f"{type(error).__name__}: {str(error)[:300]}"
            raise CheckpointError(f"{source.path}: cannot be gone on with ({reason})") from error
        if isinstance(error, TypeError | ValueError):
            raise RequestError(f"{command}: {error}") from error
        raise


def refusal(command: str, error: Exception) -> MakemoreError:
    """What an error of the parser, or of a class that it has made, means to the user."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MakemoreError):  # a callback's, say: wrapped in all that the parser has tried
            return cause
        cause = cause.__cause__ or cause.__context__
    return RequestError(f"{command}: {error}")


def is_lost_process(error: Exception) -> bool:
    """Whether ranks could not reach each other; Gloo, which talks between CPUs, has no type for it."""
    return isinstance(error, torch.distributed.DistError) or "/gloo/" in str(error)


def is_out_of_memory(error: Exception) -> bool:
    """Whether PyTorch could not have memory, on the GPU or on the CPU."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
