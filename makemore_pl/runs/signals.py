"""Ctrl-C and SIGTERM end a fit in order: after the current step, at a place from which it can be resumed."""

import signal
import sys
import threading
from types import FrameType
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

SIGNALS = (signal.SIGINT, signal.SIGTERM)
STEPS_BETWEEN_AGREEMENTS = 20
"""Between two checks, in which ranks wait for each other, whether one of them has been asked to stop."""


class StopOnSignal(Callback):
    """Ends the round, and with it the fit, when a signal asks for it; a second signal ends it at once.

    The round's end is not evaluated: evaluations fall where they would have fallen without the signal.

    Attributes:
        stopped_by: the signal that this process has received, if any.
    """

    def __init__(self) -> None:
        self.stopped_by: int | None = None
        self._stopping = False  # one of the ranks has been asked, and all know
        self._last_step = 0
        self._handlers: dict[int, Any] = {}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._last_step = trainer.global_step
        if threading.current_thread() is threading.main_thread():  # others get no signals
            self._handlers = {number: signal.signal(number, self._ask_to_stop) for number in SIGNALS}

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step, self._last_step = self._last_step, trainer.global_step
        # Not while gradients are being accumulated: they are part of no checkpoint.
        if trainer.global_step > step and self._agree(trainer):
            trainer.limit_val_batches = 0
            stop(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._agree(trainer):
            stop(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._restore_handlers()
        if self._stopping:  # to Lightning, too, the fit is interrupted
            raise KeyboardInterrupt

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        self._restore_handlers()

    def _agree(self, trainer: L.Trainer) -> bool:
        """Tell whether a signal asks any rank to stop. All ranks must call it at the same step."""
        if not self._stopping and (
            trainer.world_size == 1 or trainer.global_step % STEPS_BETWEEN_AGREEMENTS == 0
        ):
            self._stopping = trainer.strategy.reduce_boolean_decision(self.stopped_by is not None, all=False)
        return self._stopping

    def _ask_to_stop(self, number: int, frame: FrameType | None) -> None:
        if self.stopped_by is not None:
            raise KeyboardInterrupt
        self.stopped_by = number
        print("stopping after this step; once more stops at once", file=sys.stderr)

    def _restore_handlers(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}


def stop(trainer: L.Trainer) -> None:
    """End the fit with the present round, whatever least length has been asked for."""
    trainer.fit_loop.min_epochs = 0
    trainer.fit_loop.epoch_loop.min_steps = None
    trainer.should_stop = True
