"""The rounds of a run: where it is evaluated, where it is saved, where it ends.

A round is what Lightning calls an epoch. Lightning resumes rightly from the end of an epoch, and nowhere
else, in a run that it counts in epochs. (In one that it counts in steps it takes the end of an epoch for its
middle, see `_FitLoop.restarting` in lightning 2.6.) So the Trainer counts rounds, and a round ends wherever a
checkpoint is due, after the evaluation if one is due there, too. Between checkpoints there is nothing to
restore but the number of batches seen.

All positions are batches seen since the run began. A pass goes over the training split once.
"""

import datetime
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.trainer.states import TrainerFn

from makemore_pl.data.datamodule import NamesDataModule
from makemore_pl.errors import CheckpointError, RequestError
from makemore_pl.model.module import LitBatchNormMLP

STEPS = 300
"""Training steps of a run whose length is not given."""
STEPS_BETWEEN_EVALUATIONS = 100
"""Of a run whose length is given in steps, or not at all. A run of epochs is evaluated after each pass."""


@dataclass(frozen=True)
class Rounds:
    """A run as a sequence of rounds.

    Attributes:
        total: position at which the run ends.
        evaluate_every: batches between two evaluations; the end is evaluated, too.
        save_every: batches between two further checkpoints; None: there are none.
        accumulate: batches whose gradients make one optimiser step. A round ends with a step.
    """

    total: int
    evaluate_every: int
    save_every: int | None = None
    accumulate: int = 1

    @property
    def intervals(self) -> list[int]:
        """Batches between two evaluations, and between two further checkpoints."""
        return [n for n in (self.evaluate_every, self.save_every) if n is not None]

    def end_after(self, position: int) -> int:
        """The position at which the round ends that begins at, or holds, this one."""
        if position >= self.total:  # for a callback that trains on, as Lightning's weight averaging does
            return position + self.evaluate_every
        return min(self.total, *((position // n + 1) * n for n in self.intervals))

    def length_after(self, position: int) -> int | None:
        """Batches of each round to come, if all have the same number."""
        length = self.end_after(position) - position
        regular = length == min(self.intervals) and all(
            n % length == 0 for n in (position, self.total, *self.intervals)
        )
        return length if regular else None

    def is_evaluated(self, end: int) -> bool:
        """Tell whether the round that ends there ends with an evaluation."""
        return end % self.evaluate_every == 0 or end >= self.total

    def after(self, position: int) -> Iterator[int]:
        """The ends of all rounds to come."""
        while position < self.total:
            position = self.end_after(position)
            yield position

    @property
    def n_steps(self) -> int:
        """Optimiser steps of the whole run."""
        if self.accumulate == 1:
            return self.total
        begin = steps = 0
        for end in self.after(0):
            steps += -(-(end - begin) // self.accumulate)
            begin = end
        return steps


@dataclass(frozen=True)
class RunLength:
    """The Trainer's options on length and evaluation, which become rounds once a pass's length is known.

    Attributes:
        steps, epochs: the run's length; the first to be reached ends it.
        evaluate_every: batches (int), or a share of a pass (float), or of several, between evaluations.
        save_every: optimiser steps between two further checkpoints.
        accumulate: batches of an optimiser step.
        limit: batches (int) or share (float) of each pass that are trained on.
        least_epochs: passes before whose end nothing may stop the run early.
    """

    steps: int | None
    epochs: int | None
    evaluate_every: int | float
    save_every: int | None = None
    accumulate: int = 1
    limit: int | float = 1.0
    least_epochs: int = 0

    @classmethod
    def of(cls, trainer: Mapping[str, Any], save_every: int | None = None) -> "RunLength":
        """From the Trainer's options, as the user gave them, and `checkpoint.every_n_train_steps`.

        Raises:
            RequestError: values that make no run, or do not go together.
        """
        steps = None if trainer["max_steps"] == -1 else trainer["max_steps"]
        epochs = trainer["max_epochs"]
        if epochs == -1:
            if steps is None:
                raise RequestError("trainer.max_epochs -1: a run needs an end; give trainer.max_steps, too")
            epochs = None
        for name, value in (("max_steps", steps), ("max_epochs", epochs)):
            if value is not None and value < 1:
                raise RequestError(f"trainer.{name} must be at least 1, or left out, not {value}")
        if steps is None and epochs is None:
            steps = STEPS
        accumulate, limit = trainer["accumulate_grad_batches"], trainer["limit_train_batches"]
        interval, passes = trainer["val_check_interval"], trainer["check_val_every_n_epoch"]
        if isinstance(interval, str | dict | datetime.timedelta):
            raise RequestError(
                "trainer.val_check_interval: evaluations fall at steps, so that a resumed run repeats them; "
                f"give a number of batches or a share of an epoch, not a time ({interval})"
            )
        if isinstance(interval, int) and interval % accumulate:
            raise RequestError(
                f"trainer.val_check_interval {interval} must be a multiple of "
                f"trainer.accumulate_grad_batches {accumulate}"
            )
        if interval is not None and passes not in (None, 1):
            raise RequestError("give trainer.val_check_interval or trainer.check_val_every_n_epoch, not both")
        if interval is None:
            counted_in_steps = epochs is None and passes in (None, 1)
            interval = STEPS_BETWEEN_EVALUATIONS * accumulate if counted_in_steps else float(passes or 1)
        limit = trainer["overfit_batches"] or (1.0 if limit is None else limit)
        return cls(steps, epochs, interval, save_every, accumulate, limit, trainer["min_epochs"] or 0)

    def batches_of_pass(self, n: int) -> int:
        """Batches of a pass of n that are trained on."""
        return min(n, self.limit if isinstance(self.limit, int) else max(1, int(n * self.limit)))

    def rounds(self, n: int) -> Rounds:
        """The run's rounds, for passes of n batches."""
        ends = []
        if self.steps is not None:
            ends.append(self.steps * self.accumulate)
        if self.epochs is not None:
            ends.append(self.epochs * n)
        every = self.evaluate_every
        if not isinstance(every, int):
            # Whole passes; or whole optimiser steps of a part of one.
            part = max(self.accumulate, int(n * every) // self.accumulate * self.accumulate)
            every = round(every) * n if every >= 1 else part
        save_every = self.save_every and self.save_every * self.accumulate
        return Rounds(min(ends), every, save_every, self.accumulate)


class RunInRounds(Callback):
    """Has a Trainer train in rounds. It must be first among the callbacks: others ask for `max_epochs`.

    Args:
        length: of the run.
        overfit: train on the first batches of a pass again and again, in one order.
    """

    def __init__(self, length: RunLength, overfit: bool = False) -> None:
        self.length = length
        self.overfit = overfit
        self.monitored: dict[str, float] = {}  # what plateau schedulers saw at the last evaluation
        self.first_round = 0
        self.between_rounds = True

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Find the rounds, now that the number of batches is known."""
        if stage != "fit":
            return
        assert isinstance(pl_module, LitBatchNormMLP)
        self.data: NamesDataModule = trainer.datamodule  # type: ignore[attr-defined]  # set by a connector
        self.data.shuffle = not self.overfit
        n = self.length.batches_of_pass(len(self.data.training_pass()))
        self.rounds = self.length.rounds(n)
        self.least_position = self.length.least_epochs * n
        self.data.batches_per_pass = n
        self.data.epoch_end = self.rounds.end_after
        self.data.epoch_length = self.rounds.length_after
        pl_module.total_steps = max(1, self.rounds.n_steps)
        self.limit_val_batches: int | float = trainer.limit_val_batches

    def state_dict(self) -> dict[str, Any]:
        return {"monitored": self.monitored, "between_rounds": self.between_rounds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume the run.

        Raises:
            CheckpointError: another callback has written the checkpoint within a round.
        """
        if not state_dict["between_rounds"]:
            raise CheckpointError(
                "the checkpoint was written within an epoch, from where a run cannot be resumed bit for bit; "
                "resume from last.ckpt"
            )
        self.monitored = state_dict["monitored"]

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self.first_round = checkpoint["epoch"] + 1

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        ends = [self.data.position, *self.rounds.after(self.data.position)]
        trainer.fit_loop.max_epochs = self.first_round + len(ends) - 1
        # Those that begin before; as many rounds as there are, where the run is shorter.
        begun_before = sum(begin < self.least_position for begin in ends[:-1])
        trainer.fit_loop.min_epochs = self.first_round + begun_before if begun_before else 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # Lightning has such a scheduler take its step after the checkpoint of a round has been written.
        if self.first_round and self._is_end(self.data.position):
            for config in trainer.lr_scheduler_configs:
                if config.reduce_on_plateau and config.monitor in self.monitored:
                    pl_module.lr_scheduler_step(config.scheduler, self.monitored[config.monitor])

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.between_rounds = False
        end = self.rounds.end_after(self.data.position)
        trainer.limit_val_batches = self.limit_val_batches if self.rounds.is_evaluated(end) else 0

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn == TrainerFn.FITTING:
            monitors = {config.monitor for config in trainer.lr_scheduler_configs if config.reduce_on_plateau}
            figures = trainer.callback_metrics.items()
            self.monitored = {name: value.item() for name, value in figures if name in monitors}

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.between_rounds = True  # Lightning calls those that write checkpoints after all others

    def _is_end(self, position: int) -> bool:
        return self.rounds.end_after(max(0, position - 1)) == position
