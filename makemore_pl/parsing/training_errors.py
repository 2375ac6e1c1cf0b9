"""Errors of Lightning and PyTorch as what they are to the user: an option's fault, or a checkpoint's."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from makemore_pl.errors import CheckpointError, MakemoreError, RequestError
from makemore_pl.runs.checkpoint import Checkpoint


class LostProcessError(MakemoreError):
    """One of several ranks is gone, and the others cannot continue without it."""

    exit_code = 1


class InterruptedFit(MakemoreError):
    """Training was stopped by a signal; the exit code is that of a process which that has ended."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


class Started(Callback):
    """Knows whether the Trainer has come through its first batch.

    By then options, data and checkpoint have all been used: an error before is theirs, one after is not.
    """

    def __init__(self) -> None:
        self.started = False

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any, **__: Any) -> None:
        self.started = True

    on_validation_batch_end = on_test_batch_end = on_predict_batch_end = on_train_batch_end

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.started = True  # without a batch: a finished run was resumed


@contextmanager
def explained(command: str, started: Started, source: Checkpoint | None) -> Iterator[None]:
    """Turn errors before the first batch into the user's.

    Raises:
        CheckpointError: the checkpoint that the command works with cannot be used.
        RequestError: an option cannot.
        LostProcessError: ranks can no longer reach each other.
    """
    try:
        yield
    except ModuleNotFoundError as error:  # an option's, which Lightning loads when it is used
        raise RequestError(f"{command}: {error}") from error
    except (
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
        RuntimeError,
        ArithmeticError,
        AssertionError,
    ) as error:
        if is_raised_by_a_callback(error):
            raise RequestError(f"{command}: {type(error).__name__}: {error}") from error
        if is_lost_process(error):
            raise LostProcessError(
                f"{command}: another of its processes has ended, see above; resume with --ckpt_path last"
            ) from error
        if started.started or is_out_of_memory(error):
            raise
        if source is not None:
            reason = f"{type(error).__name__}: {str(error)[:300]}"
            raise CheckpointError(f"{source.path}: cannot be resumed ({reason})") from error
        if isinstance(error, TypeError | ValueError):
            raise RequestError(f"{command}: {error}") from error
        raise


def is_raised_by_a_callback(error: Exception) -> bool:
    """Tell whether one of Lightning's callbacks raised it, not a function of this program that it called."""
    modules = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    ours = [name for name in modules if name.startswith(("makemore_pl.", "lightning.pytorch.callbacks."))]
    return bool(ours) and ours[-1].startswith("lightning.")


def refusal(command: str, error: Exception) -> MakemoreError:
    """The user's error behind one of the parser, or of a class that it has made."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MakemoreError):  # a callback's, say: wrapped in all that the parser has tried
            return cause
        cause = cause.__cause__ or cause.__context__
    return RequestError(f"{command}: {error}")


def is_lost_process(error: Exception) -> bool:
    """Tell whether ranks could not reach each other; Gloo, which talks between CPUs, has no type for it."""
    return isinstance(error, torch.distributed.DistError) or "/gloo/" in str(error)


def is_out_of_memory(error: Exception) -> bool:
    """Tell whether PyTorch was refused memory, on the GPU or on the CPU."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
