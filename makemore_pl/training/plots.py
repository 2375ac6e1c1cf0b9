"""The loss curve of a run, as a picture."""

import csv
from pathlib import Path

import numpy as np


def plot_losses(metrics: Path, picture: Path) -> None:
    """Draw training loss and dev NLL over steps.

    Args:
        metrics: a run's `metrics.csv`.
        picture: the PNG file to write; its folder is made.
    """
    # Imported late: Matplotlib takes half a second to load. The figure class needs no display.
    from matplotlib.figure import Figure

    with metrics.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    steps, losses = _column(rows, "train/loss")
    axes.plot(steps, losses, color="tab:blue", alpha=0.35, linewidth=1, label="training batch")
    steps, nll = _column(rows, "val/nll")
    axes.plot(steps, nll, color="tab:orange", marker="o", markersize=3, label="dev split")
    if len(nll):
        axes.annotate(
            f"{nll.min():.4f}", (steps[nll.argmin()], nll.min()), xytext=(0, 8), textcoords="offset points"
        )
    axes.set(xlabel="step", ylabel="NLL (nats per character)")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    picture.parent.mkdir(exist_ok=True)
    figure.savefig(picture, dpi=120)


def _column(rows: list[dict[str, str]], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of the rows in which this metric was logged."""
    logged = [(float(row["step"]), float(row[name])) for row in rows if row.get(name)]
    values = np.array(logged).reshape(-1, 2)
    return values[:, 0], values[:, 1]
