"""The pictures of docs/seeds.md, drawn from runs that the workbench holds."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from makemore_pl.inspect.diagnostic_plots import mark_saturation, updates
from makemore_pl.inspect.plot_style import layer_colours, legend_below, panels_of, smooth, style
from makemore_pl.inspect.probe import take_snapshot
from makemore_pl.inspect.sweep import sweep_curve
from makemore_pl.studies import recipes
from makemore_pl.studies.sgd import advance_watched, sweep_learning_rate
from makemore_pl.studies.workbench import Workbench

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CHUNK = 1_000
"""Steps that one point of a loss curve stands for."""
EVERY = 10
"""Steps from one point of the update ratios to the next."""


def draw_pictures(bench: Workbench, folder: Path) -> None:
    """Write the SVG files into a folder; runs that the bench does not hold yet are trained."""
    from matplotlib import rc_context  # late: Matplotlib takes half a second to load

    folder.mkdir(parents=True, exist_ok=True)
    # The same picture, the same file: no date, no random ids. Text as text keeps the files small.
    with style(), rc_context({"svg.hashsalt": "makemore_pl", "svg.fonttype": "none"}):
        watched = advance_watched(recipes.S3.start(bench.examples), bench.steps_of(recipes.S3))
        pictures = {
            "sweep": sweep_curve(sweep_learning_rate(recipes.S1.start(bench.examples))),
            "ladder": _ladder(bench),
            "activations": _activations(bench),
            "updates": updates(watched[::EVERY]),
        }
        for name, figure in pictures.items():
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None})


def _ladder(bench: Workbench) -> "Figure":
    """S2: the five rungs' losses over the steps."""
    figure, [axes] = panels_of(1, height=3.6)
    for (name, recipe), colour in zip(recipes.LADDER.items(), layer_colours(5), strict=True):
        smoothed = smooth(np.array(bench.train(name, recipe).losses), CHUNK)[CHUNK // 2 :: CHUNK]
        axes.plot(smoothed, color=colour, linewidth=1.2, label=name)
    axes.set(xlabel="thousand steps", ylabel="loss, mean of 1,000 steps (nats per character)", ylim=(2, 2.6))
    axes.grid(axis="y")
    legend_below(axes, columns=5)
    return figure


def _activations(bench: Workbench) -> "Figure":
    """S2: outputs of the tanh layer before the first step."""
    figure, [axes] = panels_of(1, height=3.6)
    contexts, targets = (tensor[:1_000] for tensor in bench.examples["train"])
    for (name, recipe), colour in zip(recipes.LADDER.items(), layer_colours(5), strict=True):
        start = recipe.start(bench.examples).model
        histogram = take_snapshot(start, contexts, targets).histograms["tanh_1/output"]
        # S2b, with the same hidden weights, lies on S2a.
        width, alpha = (4.0, 0.4) if name == "S2a" else (1.2, 1.0)
        stairs = axes.stairs(histogram.density, histogram.edges, baseline=None, color=colour, label=name)
        stairs.set(linewidth=width, alpha=alpha)
    mark_saturation(axes)
    axes.set(xlabel="output of tanh before the first step", ylabel="density", yscale="log")
    axes.grid(axis="y")
    legend_below(axes, columns=5)
    return figure
