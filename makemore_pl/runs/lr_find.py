"""`makemore lr-find`: a sweep of learning rates in one short training, and what it suggests (Smith 2017).

The sweep is Lightning's. Its suggestion, the steepest slope of its running mean, is not taken: with batches
of 32 that lies where the noise is steepest, and the running mean begins at half the first loss, because its
correction for the start is one step ahead. Here the losses themselves are restored from the running mean and
averaged evenly to both sides. What is suggested is the middle of that curve's valley, as the makemore
lectures read theirs by eye: the loss falls up to there, and then explodes.
"""

from dataclasses import dataclass
from pathlib import Path

import lightning as L
import numpy as np
from lightning.pytorch.tuner.tuning import Tuner
from lightning.pytorch.utilities.parsing import lightning_setattr
from numpy.typing import NDArray

from makemore_pl.errors import RequestError
from makemore_pl.inspect.plot_style import COOL, MUTED, WARM, panels_of, save_png, style
from makemore_pl.memory import require_memory

WINDOW = 0.1
"""Share of the sweep's steps that each mean is taken over."""
VALLEY = 0.05
"""Share of the whole fall of the smoothed loss by which the valley's rim lies above its bottom. On the
lectures' first network with batches of 32, eleven seeds then suggest 0.095 to 0.150, where the bottoms
themselves lie between 0.093 and 0.163."""
MIN_STEPS = 50
STEP_BYTES = 200
"""What a step's rate and loss take: in Lightning's lists, as arrays, and in the picture."""
_BETA = 0.98  # of Lightning's running mean


@dataclass(frozen=True)
class Sweep:
    """Losses found while the learning rate rose.

    Attributes:
        rates: float64 (n,), rising evenly in their logarithms; fewer than asked for if the loss exploded.
        losses: float64 (n,), of each step's batch, nats.
    """

    rates: NDArray[np.float64]
    losses: NDArray[np.float64]

    @property
    def smoothed(self) -> NDArray[np.float64]:
        """Mean of the losses over a window around each step, float64 (n,)."""
        window = np.ones(max(1, round(WINDOW * len(self.losses))))
        return np.convolve(self.losses, window, "same") / np.convolve(
            np.ones_like(self.losses), window, "same"
        )

    @property
    def valley(self) -> tuple[int, int]:
        """First and last step whose smoothed loss is about the lowest."""
        smoothed = self.smoothed
        bottom = int(smoothed.argmin())
        rim = smoothed[bottom] + VALLEY * (smoothed[: bottom + 1].max() - smoothed[bottom])
        low = np.flatnonzero(smoothed <= rim)
        return int(low[0]), int(low[-1])

    @property
    def suggestion(self) -> float:
        """The learning rate in the middle of the valley, on a logarithmic scale."""
        first, last = self.valley
        return float(np.sqrt(self.rates[first] * self.rates[last]))

    @property
    def is_bracketed(self) -> bool:
        """Whether the sweep has seen both sides of the valley."""
        first, last = self.valley
        margin = WINDOW * len(self.losses)
        return first > margin and last < len(self.losses) - 1 - margin

    @classmethod
    def from_running_mean(cls, rates: list[float], running_means: list[float]) -> "Sweep":
        """From what Lightning keeps: a running mean m of the losses, divided by 1 - 0.98^(step + 1).

        Losses from the first that is not finite on are left out.
        """
        corrected = np.array(running_means, dtype=np.float64)
        means = corrected * (1 - _BETA ** np.arange(2, len(corrected) + 2))
        losses = (means - _BETA * np.concatenate([[0.0], means[:-1]])) / (1 - _BETA)
        end = int(np.isfinite(losses).cumprod().sum())
        return cls(np.array(rates, dtype=np.float64)[:end], losses[:end])


class SweepTrainer(L.Trainer):
    """A Trainer that can sweep learning rates; for that alone, with no schedule, logger or checkpoint."""

    @property
    def enable_validation(self) -> bool:
        """Never: the losses of training are all that counts, and in the end the network may have diverged."""
        return False

    def lr_find(
        self,
        model: L.LightningModule,
        datamodule: L.LightningDataModule,
        min_lr: float = 1e-4,
        max_lr: float = 1.0,
        steps: int = 1000,
        plot: str = "lr-find.png",
    ) -> Sweep:
        """Sweep learning rates in one short training, and suggest one.

        The weights are afterwards what they were, and `model.lr` is the suggestion.

        Args:
            model: with an attribute `lr`.
            datamodule: its training batches are used.
            min_lr: where the sweep begins.
            max_lr: where it ends, unless the loss has grown to four times its lowest before.
            steps: training steps from one to the other; the rate grows by the same factor in each.
            plot: the PNG file to draw it in.

        Raises:
            RequestError: rates or steps that make no sweep, a plot that cannot be written, or a loss that
                soon is no number.
            MemoryLimitError: so many steps would take too much.
        """
        if not 0 < min_lr < max_lr:
            raise RequestError(
                f"lr-find: min_lr must be above 0 and below max_lr, not {min_lr:g} and {max_lr:g}"
            )
        if steps < MIN_STEPS:
            raise RequestError(f"lr-find: steps must be at least {MIN_STEPS}, not {steps}")
        require_memory(steps * STEP_BYTES, f"lr-find: {steps:,} steps × {STEP_BYTES} bytes")
        if Path(plot).is_dir():
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
        sweep = Sweep.from_running_mean(finder.results["lr"], finder.results["loss"])
        if len(sweep.losses) < MIN_STEPS:
            raise RequestError(
                f"lr-find: the loss grew out of bounds after {len(sweep.losses)} steps, too few to judge by; "
                "choose more steps, or a lower min_lr"
            )
        lightning_setattr(model, "lr", sweep.suggestion)
        if self.is_global_zero:
            draw(sweep, Path(plot))
        return sweep


def draw(sweep: Sweep, picture: Path) -> None:
    """Losses over learning rates, smoothed, with the valley and the suggestion, as PNG.

    Raises:
        RequestError: it cannot be written.
    """
    with style():
        figure, [axes] = panels_of(1, height=3.6)
        axes.scatter(sweep.rates, sweep.losses, s=4, color=COOL, alpha=0.25, linewidth=0, label="batch")
        axes.plot(sweep.rates, sweep.smoothed, color=COOL, linewidth=1.8, label="smoothed")
        first, last = sweep.valley
        axes.axvspan(
            sweep.rates[first], sweep.rates[last], color=WARM, alpha=0.12, linewidth=0, label="valley"
        )
        axes.axvline(sweep.suggestion, color=WARM, linewidth=1.2)
        axes.annotate(
            f"{sweep.suggestion:.2g}",
            (sweep.suggestion, 1),
            xycoords=("data", "axes fraction"),
            xytext=(4, -10),
            textcoords="offset points",
            color=WARM,
        )
        axes.set(xscale="log", xlabel="learning rate", ylabel="loss (nats per character)")
        low, high = sweep.smoothed.min(), sweep.smoothed.max()
        axes.set_ylim(low - 0.1 * (high - low), high + 0.1 * (high - low))
        axes.legend(labelcolor=MUTED)
        save_png(figure, picture)
