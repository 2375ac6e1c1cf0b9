"""Writing a run's checkpoints: at the end of a round, whole or not at all."""

import io
import os
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.trainer.states import TrainerFn

from makemore_pl.errors import CheckpointError, RequestError
from makemore_pl.files import write_whole
from makemore_pl.model.module import DIVERGED
from makemore_pl.runs.run_folder import BEST, LAST


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint whole or not at all.

    Lightning's own writes to the system's folder for temporary files and moves that: where it lies on another
    disk, a kill leaves half a file; and a folder that must not be written to is passed over in silence.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Write the file.

        Raises:
            CheckpointError: it cannot be written; an earlier file has stayed.
        """
        content = io.BytesIO()
        torch.save(checkpoint, content)
        file = Path(path)
        try:
            write_whole(file, content.getvalue())
        except OSError as error:
            stays = "; the earlier one stays" if file.is_file() else ""
            raise CheckpointError(f"{file}: cannot be written ({error.strerror}){stays}") from error


class RunCheckpoint(Checkpoint):
    """Writes `last.ckpt` at the end of each round, and `best.ckpt` if its evaluation was the best so far.

    Args:
        dirpath: folder of the checkpoints; by default the run's.
        monitor: the figure that says which is best.
        mode: whether the lowest or the highest is.
        every_n_train_steps: write `last.ckpt` every so many steps, too. By default it is written after each
            evaluation; Ctrl-C and SIGTERM write it at the present step.
    """

    def __init__(
        self,
        dirpath: str | None = None,
        monitor: str = "val/nll",
        mode: Literal["min", "max"] = "min",
        every_n_train_steps: int | None = None,
    ) -> None:
        if every_n_train_steps is not None and every_n_train_steps < 1:
            raise RequestError(
                f"checkpoint.every_n_train_steps must be at least 1, not {every_n_train_steps}"
            )
        self.dirpath = dirpath
        self.monitor = monitor
        self.mode = mode
        self.every_n_train_steps = every_n_train_steps
        self.best_score: float | None = None
        """The monitored figure of `best.ckpt`."""
        self._score: float | None = None  # of this round's evaluation

    @property
    def best(self) -> Path:
        return Path(self.dirpath or "") / f"{BEST}.ckpt"

    @property
    def last(self) -> Path:
        return Path(self.dirpath or "") / f"{LAST}.ckpt"

    def state_dict(self) -> dict[str, Any]:
        return {"best_score": self.best_score}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best_score = state_dict["best_score"]

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # A run resumed in another folder has its best still to come.
        if not trainer.strategy.broadcast(self.best.is_file()):
            self.best_score = None

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note the monitored figure.

        Raises:
            RequestError: there is no such figure.
        """
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            figures = trainer.callback_metrics
            if self.monitor not in figures:
                known = ", ".join(sorted(figures)) or "none"
                raise RequestError(f"checkpoint.monitor: no figure {self.monitor!r}; there are: {known}")
            self._score = figures[self.monitor].item()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write what is due.

        Raises:
            RequestError: the weights are NaN or infinite; what was saved before stays.
        """
        if not all(value.isfinite().all() for value in pl_module.state_dict().values()):
            raise RequestError(f"step {trainer.global_step}: the weights are NaN or infinite: {DIVERGED}")
        if self._score is not None and self._is_better(self._score):
            self.best_score = self._score
            trainer.save_checkpoint(self.best)
        self._score = None
        trainer.save_checkpoint(self.last)

    def _is_better(self, score: float) -> bool:
        if self.best_score is None:
            return True
        return score < self.best_score if self.mode == "min" else score > self.best_score
