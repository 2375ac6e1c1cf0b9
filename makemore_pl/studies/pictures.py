"""The pictures of docs/seeds.md, drawn from runs that the workbench holds."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from makemore_pl.studies import recipes
from makemore_pl.studies.health import advance_measured, tanh_outputs
from makemore_pl.studies.sweep import smooth, sweep_learning_rate
from makemore_pl.studies.workbench import Workbench
from makemore_pl.training.diagnostics.figures import SATURATED

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CHUNK = 1_000
"""Steps that one point of a loss curve stands for."""


def draw_pictures(bench: Workbench, folder: Path) -> None:
    """Write the SVG files; runs that the bench does not hold yet are trained.

    Args:
        bench: with the runs.
        folder: is made.
    """
    # Imported late: Matplotlib takes half a second to load. The figure class needs no display.
    import matplotlib
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    pictures = {"sweep": _sweep, "ladder": _ladder, "activations": _activations, "updates": _updates}
    # The same picture, the same file: no date, no random ids. Text as text keeps the files small.
    with matplotlib.rc_context({"svg.hashsalt": "makemore_pl", "svg.fonttype": "none", "font.size": 10}):
        for name, draw in pictures.items():
            figure = Figure(figsize=(8, 3.6), layout="constrained")
            axes = figure.subplots()
            draw(axes, bench)
            axes.grid(alpha=0.25)
            axes.spines[["top", "right"]].set_visible(False)
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None})


def _sweep(axes: "Axes", bench: Workbench) -> None:
    """S1: loss over the learning rate."""
    sweep = sweep_learning_rate(recipes.S1.start(bench.examples))
    axes.plot(sweep.exponents, sweep.losses, color="tab:blue", alpha=0.3, linewidth=0.8)
    axes.plot(sweep.exponents, sweep.smoothed, color="tab:blue")
    axes.axvline(-1, color="tab:gray", linestyle="--", linewidth=1)
    axes.annotate(
        "0.1", (-1, sweep.losses.max()), xytext=(4, -8), textcoords="offset points", color="tab:gray"
    )
    axes.set(xlabel="log10 of the learning rate", ylabel="loss of 32 examples (nats)")


def _ladder(axes: "Axes", bench: Workbench) -> None:
    """S2: the five rungs' losses over the steps."""
    for name, recipe in recipes.LADDER.items():
        losses = np.array(bench.train(name, recipe).losses)
        chunks = np.array_split(losses, max(1, len(losses) // CHUNK))
        axes.plot([chunk.mean() for chunk in chunks], linewidth=1.2, label=name)
    axes.set(xlabel="thousand steps", ylabel="loss, mean of 1,000 steps (nats)", ylim=(2.0, 2.6))
    axes.legend(frameon=False, ncols=5)


def _activations(axes: "Axes", bench: Workbench) -> None:
    """S2: what the tanh layer gives before the first step."""
    for name, recipe in recipes.LADDER.items():
        model = recipe.start(bench.examples).model
        [values] = tanh_outputs(model, bench.examples["train"][0][:1_000]).values()
        heights, edges = torch.histogram(values.flatten(), bins=60, range=(-1.0, 1.0), density=True)
        centres = (edges[:-1] + edges[1:]) / 2
        width = 3 if name == "S2a" else 1.2  # S2b, with the same hidden weights, lies on it
        axes.plot(centres.tolist(), heights.tolist(), linewidth=width, label=name)
    for sign in (-1, 1):
        axes.axvline(sign * SATURATED, color="tab:gray", linestyle="--", linewidth=1)
    axes.set(xlabel="tanh, before the first step", ylabel="density", yscale="log")
    axes.legend(frameon=False, ncols=5)


def _updates(axes: "Axes", bench: Workbench) -> None:
    """S3: update-to-data ratios over the first steps."""
    run = recipes.S3.start(bench.examples)
    for name, ratios in advance_measured(run, bench.steps_of(recipes.S3)).items():
        label = name.removeprefix("layers.").removesuffix(".weight")
        smoothed = smooth(np.array(ratios), min(21, len(ratios)))
        axes.plot(range(0, len(ratios), 5), smoothed[::5], linewidth=1.2, label=label)
    axes.axhline(-3, color="black", linestyle="--", linewidth=1)
    axes.set(xlabel="step", ylabel="log10 (std of update / std of weights)")
    axes.legend(frameon=False, ncols=4)
