"""`makemore lr-find`: a sweep of learning rates in one short training (Smith 2017), and what it suggests.

The sweep is Lightning's. Its suggestion, the steepest slope of its running mean, is not used: with batches of
32 that lies where the noise is steepest, and the running mean starts at half the first loss, because its
correction for the start is one step ahead. `Sweep` suggests a rate from the losses themselves, which are
restored from the running mean.
"""

from pathlib import Path

import lightning as L
import numpy as np
from lightning.pytorch.tuner.tuning import Tuner

from makemore_pl.errors import RequestError
from makemore_pl.inspect.plot_style import save_png, style
from makemore_pl.inspect.sweep import Sweep, sweep_curve
from makemore_pl.memory import require_memory

PEAK = 2.0
"""The highest rate of a cycle, in middles of the valley: a cycle comes to it slowly and leaves it again, and
bears more than a constant rate. Found by scripts/study_lr_find.py, see docs/diagnostics.md."""
MIN_STEPS = 50
STEP_BYTES = 200
"""Memory for a step's rate and loss: in Lightning's lists, as arrays, and in the picture."""
BETA = 0.98
"""Share of the earlier mean in Lightning's running mean."""


class SweepTrainer(L.Trainer):
    """A Trainer that can sweep learning rates; for that alone, with no schedule, logger or checkpoint."""

    @property
    def enable_validation(self) -> bool:
        """False: only the training losses count, and by the end the network may have diverged."""
        return False

    def lr_find(
        self,
        model: L.LightningModule,
        datamodule: L.LightningDataModule,
        min_lr: float = 1e-4,
        max_lr: float = 1.0,
        steps: int = 1000,
        plot: str | None = None,
    ) -> Sweep:
        """Sweep learning rates in one short training.

        Afterwards the weights are what they were before.

        Args:
            model: with an attribute `lr`.
            datamodule: its training batches are used.
            min_lr: where the sweep begins.
            max_lr: where it ends, unless the loss has grown to four times its lowest before.
            steps: training steps from one to the other; the rate grows by the same factor in each.
            plot: the PNG file to draw it in; lr-find.png, or one with a number where that exists, if left
                out on the command line, none in Python.

        Raises:
            RequestError: rates or steps that make no sweep, a plot that cannot be written, or a loss that
                soon becomes NaN or infinite.
            MemoryLimitError: so many steps would take too much.
        """
        if not 0 < min_lr < max_lr:
            raise RequestError(
                f"lr-find: min_lr must be above 0 and below max_lr, not {min_lr:g} and {max_lr:g}"
            )
        if steps < MIN_STEPS:
            raise RequestError(f"lr-find: steps must be at least {MIN_STEPS}, not {steps}")
        require_memory(steps * STEP_BYTES, f"lr-find: {steps:,} steps × {STEP_BYTES} bytes")
        if plot is not None and Path(plot).is_dir():
            raise RequestError(f"lr-find: {plot} is a folder; a file is needed for the plot")
        finder = Tuner(self).lr_find(
            model,
            datamodule=datamodule,
            min_lr=min_lr,
            max_lr=max_lr,
            num_training=steps,
            update_attr=False,
        )
        assert finder is not None
        sweep = sweep_of_running_mean(finder.results["lr"], finder.results["loss"])
        if len(sweep.losses) < MIN_STEPS:
            raise RequestError(
                f"lr-find: the loss grew out of bounds after {len(sweep.losses)} steps, too few to judge by; "
                "choose more steps, or a lower min_lr"
            )
        if plot is not None and self.is_global_zero:
            with style():
                save_png(sweep_curve(sweep), Path(plot))
        return sweep


def sweep_of_running_mean(rates: list[float], running_means: list[float]) -> Sweep:
    """Restore the losses from what Lightning keeps: their running mean, divided by 1 - 0.98^(step + 1).

    The first loss that is NaN or infinite and all after it are left out.
    """
    corrected = np.array(running_means, dtype=np.float64)
    means = corrected * (1 - BETA ** np.arange(2, len(corrected) + 2))
    losses = (means - BETA * np.concatenate([[0.0], means[:-1]])) / (1 - BETA)
    end = int(np.isfinite(losses).cumprod().sum())
    return Sweep(np.array(rates, dtype=np.float64)[:end], losses[:end])
