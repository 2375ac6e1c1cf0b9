"""The loss curves of a run: as numbers, and as a picture."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from makemore_pl.inspect.plot_style import COOL, WARM, legend_below, panels_of, save_png, step_axis, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WINDOWS = 20
"""Means that a smoothed curve is drawn from, about."""
FEWEST_IN_WINDOW = 3


@dataclass(frozen=True)
class Curve:
    """A figure over steps: float64 (n,) both."""

    steps: NDArray[np.float64]
    values: NDArray[np.float64]


@dataclass(frozen=True)
class Losses:
    """Loss curves of a run.

    Attributes:
        raw: of the training batches that were logged.
        smoothed: 10 to the mean of log10 of those over windows; empty where there are too few.
        window: steps in a window.
        dev: NLL on the dev split.
    """

    raw: Curve
    smoothed: Curve
    window: int
    dev: Curve


def losses(rows: list[dict[str, str]]) -> Losses | None:
    """From the rows of a `metrics.csv`; None where nothing was logged."""
    raw, dev = _curve(rows, "train/loss"), _curve(rows, "val/nll")
    if not len(raw.steps) and not len(dev.steps):
        return None
    size = max(FEWEST_IN_WINDOW, len(raw.steps) // WINDOWS)
    n = len(raw.steps) // size * size
    steps, values = (array[:n].reshape(-1, size) for array in (raw.steps, np.log10(raw.values)))
    smoothed = Curve(steps.mean(axis=1), 10 ** values.mean(axis=1))
    window = round(size * float(np.diff(raw.steps).mean())) if len(raw.steps) > 1 else 0
    return Losses(raw, smoothed, window, dev)


def _curve(rows: list[dict[str, str]], name: str) -> Curve:
    """The rows in which this metric was logged, and could be drawn on a logarithmic scale."""
    points = np.array([(float(row["step"]), float(row[name])) for row in rows if row.get(name)])
    steps, values = points.reshape(-1, 2).T
    drawable = np.isfinite(values) & (values > 0)
    return Curve(steps[drawable], values[drawable])


def loss_curves(losses: Losses) -> "Figure":
    """Raw and smoothed training loss, and dev NLL, over steps; logarithmic."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    figure, [axes] = panels_of(1, height=3.4)
    raw, smoothed, dev = losses.raw, losses.smoothed, losses.dev
    axes.plot(raw.steps, raw.values, color=COOL, alpha=0.4, linewidth=1, label="training batches")
    if len(smoothed.steps) > 1:
        label = f"mean of {losses.window:,} steps"
        axes.plot(smoothed.steps, smoothed.values, color=COOL, linewidth=1.8, label=label)
    if len(dev.steps):
        label = f"dev, lowest {dev.values.min():.4f}"
        axes.plot(dev.steps, dev.values, color=WARM, marker="o", markersize=3.5, linewidth=1, label=label)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 2.2, 2.5, 3, 4, 6)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylabel("nats per character")
    step_axis(axes)
    axes.grid(axis="y")
    legend_below(axes, columns=3)
    return figure


def plot_losses(metrics: Path, picture: Path) -> None:
    """Draw the loss curves of a run, if it logged any.

    Args:
        metrics: a run's `metrics.csv`.
        picture: the PNG file to write; its folder is made.
    """
    with metrics.open(encoding="utf-8", newline="") as file:
        found = losses(list(csv.DictReader(file)))
    if found is None:
        return
    with style():
        save_png(loss_curves(found), picture)
