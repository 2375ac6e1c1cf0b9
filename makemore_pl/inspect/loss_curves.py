"""The loss curves of a run, from the rows of its `metrics.csv`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from makemore_pl.inspect.plot_style import (
    COOL,
    WARM,
    legend_below,
    log_axis,
    panels_of,
    save_png,
    smooth,
    step_axis,
    style,
)
from makemore_pl.inspect.step_table import StepRow, read_steps

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TRAIN, DEV = "train/loss", "val/nll"
WINDOW = 0.05
"""Share of the logged steps that each mean is taken over, ..."""
FEWEST_IN_WINDOW = 3
"""... if that is not too few."""


def curve(rows: Sequence[StepRow], name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Steps and values, float64 (n,), where this figure was logged and has a logarithm."""
    points = [(row.step, row.figures[name]) for row in rows if name in row.figures]
    steps, values = np.array(points, dtype=np.float64).reshape(-1, 2).T
    drawable = np.isfinite(values) & (values > 0)
    return steps[drawable], values[drawable]


def has_losses(rows: Sequence[StepRow]) -> bool:
    """True if there is something to draw."""
    return any(len(curve(rows, name)[0]) for name in (TRAIN, DEV))


def loss_curves(rows: Sequence[StepRow]) -> "Figure":
    """Raw and smoothed training loss, and dev NLL, over steps; logarithmic.

    The mean is that of log10 of the losses, so that the curve runs through the middle of what is seen.
    """
    (steps, losses), (dev_steps, dev) = curve(rows, TRAIN), curve(rows, DEV)
    figure, [axes] = panels_of(1, height=3.0)
    axes.plot(steps, losses, color=COOL, alpha=0.4, linewidth=1, label="training batches")
    window = max(FEWEST_IN_WINDOW, round(WINDOW * len(steps)))
    if len(steps) > window:
        label = f"mean of {window * np.diff(steps).mean():,.0f} steps"
        axes.plot(steps, 10 ** smooth(np.log10(losses), window), color=COOL, linewidth=1.8, label=label)
    if len(dev_steps):
        label = f"dev, lowest {dev.min():.4f}"
        axes.plot(dev_steps, dev, color=WARM, marker="o", markersize=3.5, linewidth=1, label=label)
    log_axis(axes, margin=1.02)
    step_axis(axes)
    axes.set_ylabel("nats per character")
    axes.grid(axis="y")
    legend_below(axes, columns=3)
    return figure


def plot_losses(metrics: Path, picture: Path) -> None:
    """Draw the loss curves of a run's `metrics.csv` as PNG, if it logged any.

    Raises:
        RequestError: `metrics` is damaged, or the picture cannot be written.
    """
    rows = read_steps(metrics)
    if has_losses(rows):
        with style():
            save_png(loss_curves(rows), picture)
