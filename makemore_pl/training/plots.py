"""The loss curve of a run, as a picture."""

import csv
from pathlib import Path

import numpy as np

from makemore_pl.training.plot_style import COOL, WARM, panels_of, style


def plot_losses(metrics: Path, picture: Path) -> None:
    """Draw training loss and dev NLL over steps.

    Args:
        metrics: a run's `metrics.csv`.
        picture: the PNG file to write; its folder is made.
    """
    with metrics.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    with style():
        figure, [axes] = panels_of(1, height=3.6)
        steps, losses = _column(rows, "train/loss")
        axes.plot(steps, losses, color=COOL, alpha=0.5, linewidth=1, label="training batch")
        steps, nll = _column(rows, "val/nll")
        axes.plot(steps, nll, color=WARM, marker="o", markersize=3, label="dev split")
        if len(nll):
            lowest = (steps[nll.argmin()], nll.min())
            axes.annotate(f"{nll.min():.4f}", lowest, xytext=(0, 8), textcoords="offset points")
        axes.set(xlabel="step", ylabel="NLL (nats per character)")
        axes.grid(axis="y")
        axes.legend()
        picture.parent.mkdir(exist_ok=True)
        figure.savefig(picture, dpi=150, facecolor="white")


def _column(rows: list[dict[str, str]], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of the rows in which this metric was logged."""
    logged = [(float(row["step"]), float(row[name])) for row in rows if row.get(name)]
    values = np.array(logged).reshape(-1, 2)
    return values[:, 0], values[:, 1]
