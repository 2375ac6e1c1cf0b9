"""A sweep of learning rates: the loss of each step while the rate rises, and where it is lowest.

The makemore lectures read theirs by eye: the loss falls up to some rate, and then explodes. Here the losses
are smoothed, and the middle of the curve's valley is found.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from makemore_pl.inspect.plot_style import COOL, WARM, legend_below, panels_of, smooth

if TYPE_CHECKING:  # Matplotlib takes half a second to load
    from matplotlib.figure import Figure

WINDOW = 0.1
"""Share of the sweep's steps that each mean is taken over."""
VALLEY = 0.05
"""Share of the whole fall of the smoothed loss by which the valley's rim lies above its bottom. On the
lectures' first network with batches of 32, eleven seeds then give 0.095 to 0.150, where the bottoms
themselves lie between 0.093 and 0.163."""


@dataclass(frozen=True)
class Sweep:
    """Losses found while the learning rate rose.

    Attributes:
        rates: float64 (n,), rising evenly in their logarithms.
        losses: float64 (n,), of each step's batch, nats per character.
    """

    rates: NDArray[np.float64]
    losses: NDArray[np.float64]

    @property
    def smoothed(self) -> NDArray[np.float64]:
        """Mean of the losses over a window around each step, float64 (n,)."""
        return smooth(self.losses, round(WINDOW * len(self.losses)))

    @property
    def valley(self) -> tuple[int, int]:
        """First and last step whose smoothed loss is about the lowest."""
        smoothed = self.smoothed
        bottom = int(smoothed.argmin())
        rim = smoothed[bottom] + VALLEY * (smoothed[: bottom + 1].max() - smoothed[bottom])
        low = np.flatnonzero(smoothed <= rim)
        return int(low[0]), int(low[-1])

    @property
    def middle(self) -> float:
        """The learning rate in the middle of the valley, on a logarithmic scale."""
        first, last = self.valley
        return float(np.sqrt(self.rates[first] * self.rates[last]))

    @property
    def is_bracketed(self) -> bool:
        """True if the sweep has seen both sides of the valley."""
        first, last = self.valley
        margin = WINDOW * len(self.losses)
        return first > margin and last < len(self.losses) - 1 - margin


def sweep_curve(sweep: Sweep) -> "Figure":
    """Losses over learning rates, raw and smoothed, with the valley and its middle."""
    figure, [axes] = panels_of(1, height=3.6)
    axes.plot(sweep.rates, sweep.losses, color=COOL, alpha=0.3, linewidth=0.8, label="batch")
    axes.plot(sweep.rates, sweep.smoothed, color=COOL, linewidth=1.8, label="smoothed")
    first, last = sweep.rates[list(sweep.valley)]
    axes.axvspan(first, last, color=WARM, alpha=0.12, linewidth=0, label="valley")
    axes.axvline(sweep.middle, color=WARM, linewidth=1.2)
    axes.annotate(
        f"{sweep.middle:.2g}",
        (sweep.middle, 1),
        xycoords=("data", "axes fraction"),
        xytext=(4, -10),
        textcoords="offset points",
        color=WARM,
    )
    low, high = sweep.smoothed.min(), sweep.smoothed.max()
    margin = 0.1 * (high - low)
    axes.set(xscale="log", ylim=(low - margin, high + margin))
    axes.set(xlabel="learning rate", ylabel="loss (nats per character)")
    axes.grid(axis="y")
    legend_below(axes, columns=3)
    return figure
