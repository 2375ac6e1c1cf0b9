"""What a run saves, and when: so that one that is stopped at any instant can be gone on with, bit for bit."""

import io
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from makemore_pl.errors import CheckpointError, RequestError
from makemore_pl.files import write_whole
from makemore_pl.model.module import DIVERGED
from makemore_pl.runs.run_folder import BEST

SIGNALS = (signal.SIGINT, signal.SIGTERM)
STEPS_BETWEEN_AGREEMENTS = 20
"""Of several ranks, on whether one of them has been asked to stop."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint whole or not at all.

    Lightning's own writes to the system's folder for temporary files and moves that: where it lies on another
    disk, a kill leaves half a file; and a folder that must not be written to is passed over in silence.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Raises CheckpointError where it cannot be written; an earlier file has stayed."""
        content = io.BytesIO()
        torch.save(checkpoint, content)
        file = Path(path)
        try:
            write_whole(file, content.getvalue())
        except OSError as error:
            stays = "; the earlier one stays" if file.is_file() else ""
            raise CheckpointError(f"{file}: cannot be written ({error.strerror}){stays}") from error


class SaveConfig(SaveConfigCallback):
    """Writes a run's `config.yaml`, whole or not at all, when training begins."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Nothing yet: a checkpoint that cannot be gone on with leaves its run as it was."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().setup(trainer, pl_module, "fit")

    def save_config(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Called on the first rank alone: it must not ask for `trainer.log_dir`, on which ranks agree."""
        if not _is_trial(trainer):
            text = self.parser.dump(self.config, skip_none=False)
            write_whole(Path(trainer.default_root_dir) / self.config_filename, text.encode())


class RunCheckpoint(ModelCheckpoint):
    """Writes `best.ckpt` after an evaluation that was the best so far, and `last.ckpt` after each.

    Ctrl-C and SIGTERM write `last.ckpt` at the present step and end the fit; a second one ends it at once.

    Args:
        dirpath: folder of the checkpoints; by default the run's.
        filename: name of the best ones.
        monitor: the figure that says which are best.
        mode: whether the lowest or the highest is.
        save_top_k: how many of the best are kept; -1: all; 0: none.
        every_n_epochs: epochs from one evaluation that may be the best to the next.
        every_n_train_steps: write `last.ckpt` every so many steps, too.
        verbose: say when one is written.
    """

    def __init__(
        self,
        dirpath: str | None = None,
        filename: str | None = BEST,
        monitor: str = "val/nll",
        mode: Literal["min", "max"] = "min",
        save_top_k: int = 1,
        every_n_epochs: int = 1,
        every_n_train_steps: int | None = None,
        verbose: bool = False,
    ) -> None:
        super().__init__(
            dirpath=dirpath,
            filename=filename,
            monitor=monitor,
            mode=mode,
            save_last=True,
            save_top_k=save_top_k,
            every_n_epochs=every_n_epochs,
            verbose=verbose,
            enable_version_counter=False,
        )
        self.every_n_steps = every_n_train_steps
        self.stopped_by: int | None = None
        """The signal that is to end the fit, if any."""
        self._stopping = False  # one of the ranks has got it, and all know
        self._handlers: dict[int, Any] = {}

    @property
    def state_key(self) -> str:
        """The same whatever the options: a run gone on with under others keeps its best score."""
        return "RunCheckpoint"

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Scores and names of files; those of another run, whose files are not in this folder, are forgotten.

        Of a path its name alone is taken: a run's folder may have been moved, and what a forged checkpoint
        calls the last one, Lightning would delete, whatever and wherever it is.

        Raises:
            ValueError: a score is no number.
        """
        state = dict(state_dict)
        scores = [*state["best_k_models"].values(), state["kth_value"], state["best_model_score"]]
        if not all(score is None or (isinstance(score, Tensor) and score.ndim == 0) for score in scores):
            raise ValueError("a score is no number")
        for key in ("best_model_path", "kth_best_model_path", "last_model_path"):
            state[key] = self._here(state[key])
        state["best_k_models"] = {
            path: score for each, score in state["best_k_models"].items() if (path := self._here(each))
        }
        if state["dirpath"] != self.dirpath and not Path(state["best_model_path"]).is_file():
            return
        super().load_state_dict({**state, "dirpath": self.dirpath})
        self.current_score = state["current_score"]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self._last_global_step_saved = trainer.global_step
        _restore_place(trainer)
        if threading.current_thread() is threading.main_thread():  # others get no signals
            self._handlers = {number: signal.signal(number, self._ask_to_stop) for number in SIGNALS}

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if _is_trial(trainer):
            return
        stop = self._agree_to_stop(trainer)
        if not _can_go_on_from_here(trainer):
            return
        if stop or self._is_due(trainer) or trainer.should_stop or trainer.global_step == trainer.max_steps:
            # This step's row, which Lightning would write a moment after: no one writes it after a kill.
            trainer._logger_connector.update_train_step_metrics()
            self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))
        if stop:
            raise KeyboardInterrupt

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if _is_trial(trainer) or trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING:
            return
        figures = self._monitor_candidates(trainer)
        if self.every_n_epochs and (trainer.current_epoch + 1) % self.every_n_epochs == 0:
            self._save_topk_checkpoint(trainer, figures)
        self._save_last_checkpoint(trainer, figures)
        if self._agree_to_stop(trainer):
            raise KeyboardInterrupt

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if _is_trial(trainer):
            return
        stop = self._agree_to_stop(trainer)
        if (stop or self._is_due(trainer)) and self._last_global_step_saved != trainer.global_step:
            self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))
        if stop:
            raise KeyboardInterrupt

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._last_global_step_saved != trainer.global_step and not _is_trial(trainer):
            self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))
        self._restore_handlers()
        if self.stopped_by is not None:  # in the last step of all
            raise KeyboardInterrupt

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # A run that had made all its steps when it was stopped has none left, and Lightning does not count
        # the end of the last: what is logged from here on would be that step's.
        fit = trainer.fit_loop
        if 0 < trainer.max_steps <= trainer.global_step:
            fit.epoch_loop._batches_that_stepped = trainer.global_step
            fit.epoch_progress.current.completed = fit.epoch_progress.current.ready

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        self._restore_handlers()

    def _save_checkpoint(self, trainer: L.Trainer, filepath: str) -> None:
        """Raises RequestError for weights that are no numbers any more; what was saved before stays."""
        values = trainer.lightning_module.state_dict().values()
        if not all(value.isfinite().all() for value in values):
            raise RequestError(f"step {trainer.global_step}: the weights are no numbers any more: {DIVERGED}")
        super()._save_checkpoint(trainer, filepath)

    def _agree_to_stop(self, trainer: L.Trainer) -> bool:
        """Whether a signal asks any device to stop. All ranks must call it alike."""
        # Several ranks must agree, which makes them wait for each other: now and then only.
        if trainer.world_size == 1 or (
            not self._stopping and trainer.global_step % STEPS_BETWEEN_AGREEMENTS == 0
        ):
            self._stopping = trainer.strategy.reduce_boolean_decision(self.stopped_by is not None, all=False)
        return self._stopping

    def _is_due(self, trainer: L.Trainer) -> bool:
        """Whether `last.ckpt` is, by the number of steps."""
        since_last = trainer.global_step - self._last_global_step_saved
        return self.every_n_steps is not None and since_last >= self.every_n_steps

    def _ask_to_stop(self, number: int, frame: FrameType | None) -> None:
        if self.stopped_by is not None:
            raise KeyboardInterrupt
        self.stopped_by = number
        print("stopping after this step; once more stops at once", file=sys.stderr)

    def _restore_handlers(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def _here(self, path: str) -> str:
        """The checkpoint of that name in this run's folder; none for what is no checkpoint's name."""
        name = Path(path).name
        return str(Path(self.dirpath or "") / name) if name.endswith(self.FILE_EXTENSION) else ""


def _is_trial(trainer: L.Trainer) -> bool:
    """Whether this is a `fast_dev_run`, of which nothing is saved."""
    return bool(trainer.fast_dev_run)  # type: ignore[attr-defined]  # set by a connector


def _can_go_on_from_here(trainer: L.Trainer) -> bool:
    """Whether Lightning goes on rightly from a checkpoint written when this batch ends.

    It loses gradients that are being accumulated, an evaluation that is due after the batch, and the end of
    the epoch.
    """
    epoch = trainer.fit_loop.epoch_loop
    fetcher = trainer.fit_loop._data_fetcher
    assert fetcher is not None
    in_between = epoch._should_accumulate() or epoch._num_ready_batches_reached()
    return not in_between and not epoch._should_check_val_fx(fetcher)


def _restore_place(trainer: L.Trainer) -> None:
    """Two things that Lightning does not restore in a fit that goes on from a checkpoint."""
    fit = trainer.fit_loop
    # The loader's place, where the schedule has asked for the number of batches before.
    fit._load_combined_loader_states()
    # That an epoch had ended: it would go on within that epoch for one batch.
    epochs: Any = fit.epoch_progress
    if fit.restarting and epochs.total.processed == epochs.total.ready:
        epochs.current.completed = epochs.current.processed
        epochs.total.completed = epochs.total.processed
        fit.reset_restart_stage()
        fit.epoch_loop.restarting = False
