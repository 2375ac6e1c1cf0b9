"""The pictures of docs/seeds.md, drawn from runs that the workbench holds."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch

from makemore_pl.inspect.measures import SATURATED
from makemore_pl.inspect.plot_style import (
    COOL,
    INK,
    RULE,
    WARM,
    layer_colours,
    legend_below,
    panels_of,
    step_axis,
    style,
)
from makemore_pl.studies import recipes
from makemore_pl.studies.saturation import advance_measured, tanh_outputs
from makemore_pl.studies.sweep import smooth, sweep_learning_rate
from makemore_pl.studies.workbench import Workbench

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Curve = TypeVar("Curve")
CHUNK = 1_000
"""Steps that one point of a loss curve stands for."""


def draw_pictures(bench: Workbench, folder: Path) -> None:
    """Write the SVG files; runs that the bench does not hold yet are trained.

    Args:
        bench: with the runs.
        folder: is made.
    """
    from matplotlib import rc_context  # late: Matplotlib takes half a second to load

    folder.mkdir(parents=True, exist_ok=True)
    pictures = {"sweep": _sweep, "ladder": _ladder, "activations": _activations, "updates": _updates}
    # The same picture, the same file: no date, no random ids. Text as text keeps the files small.
    with style(), rc_context({"svg.hashsalt": "makemore_pl", "svg.fonttype": "none"}):
        for name, draw in pictures.items():
            figure, [axes] = panels_of(1, height=3.6)
            draw(axes, bench)
            axes.grid(axis="y")
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None})


def _sweep(axes: "Axes", bench: Workbench) -> None:
    """S1: loss over the learning rate."""
    sweep = sweep_learning_rate(recipes.S1.start(bench.examples))
    axes.plot(sweep.exponents, sweep.losses, color=COOL, alpha=0.3, linewidth=0.8, label="32 examples")
    axes.plot(sweep.exponents, sweep.smoothed, color=COOL, linewidth=1.8, label="smoothed")
    axes.axvline(-1, color=WARM, linewidth=1.2)
    axes.annotate("0.1", (-1, sweep.losses.max()), xytext=(4, -8), textcoords="offset points", color=WARM)
    axes.set(xlabel="log₁₀ of the learning rate", ylabel="loss (nats per character)")
    legend_below(axes, columns=2)


def _ladder(axes: "Axes", bench: Workbench) -> None:
    """S2: the five rungs' losses over the steps."""
    for (name, recipe), colour in _coloured(recipes.LADDER):
        losses = np.array(bench.train(name, recipe).losses)
        chunks = np.array_split(losses, max(1, len(losses) // CHUNK))
        axes.plot([chunk.mean() for chunk in chunks], color=colour, linewidth=1.2, label=name)
    axes.set(xlabel="thousand steps", ylabel="loss, mean of 1,000 steps (nats per character)", ylim=(2, 2.6))
    legend_below(axes, columns=5)


def _activations(axes: "Axes", bench: Workbench) -> None:
    """S2: what the tanh layer gives before the first step."""
    for (name, recipe), colour in _coloured(recipes.LADDER):
        model = recipe.start(bench.examples).model
        [values] = tanh_outputs(model, bench.examples["train"][0][:1_000]).values()
        heights, edges = torch.histogram(values.flatten(), bins=60, range=(-1.0, 1.0), density=True)
        centres = (edges[:-1] + edges[1:]) / 2
        # S2b, with the same hidden weights, lies on S2a.
        width, alpha = (4.0, 0.4) if name == "S2a" else (1.2, 1.0)
        axes.plot(centres.tolist(), heights.tolist(), color=colour, alpha=alpha, linewidth=width, label=name)
    for end in (-SATURATED, SATURATED):
        axes.axvline(end, color=RULE, linewidth=1, zorder=0)
    axes.set(xlabel="output of tanh before the first step", ylabel="density", yscale="log")
    legend_below(axes, columns=5)


def _updates(axes: "Axes", bench: Workbench) -> None:
    """S3: update-to-data ratios over the first steps."""
    run = recipes.S3.start(bench.examples)
    measured = advance_measured(run, bench.steps_of(recipes.S3))
    for (name, ratios), colour in _coloured(measured):
        label = name.removeprefix("layers.").removesuffix(".weight")
        smoothed = smooth(np.array(ratios), min(21, len(ratios)))
        axes.plot(range(0, len(ratios), 5), smoothed[::5], color=colour, linewidth=1.2, label=label)
    axes.axhline(-3, color=INK, linestyle="--", linewidth=1)
    axes.set_ylabel("log₁₀ of std of update / std of weights")
    step_axis(axes)
    legend_below(axes, columns=4)


def _coloured(curves: Mapping[str, Curve]) -> Iterable[tuple[tuple[str, Curve], str]]:
    """Names and curves, each with its colour, from cool to warm."""
    return zip(curves.items(), layer_colours(len(curves)), strict=True)
