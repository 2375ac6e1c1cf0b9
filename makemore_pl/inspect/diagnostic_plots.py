"""The plots of what was seen inside: for a run's folder, for the report and for the studies."""

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from makemore_pl.inspect.findings import HIGHEST_UPDATE, LOWEST_UPDATE, UPDATE_GUIDE
from makemore_pl.inspect.measures import SATURATED, Histogram, Snapshot
from makemore_pl.inspect.plot_style import (
    COOL,
    INK,
    LINE,
    RULE,
    WARM,
    layer_colours,
    legend_below,
    log_axis,
    panels_of,
    scientific,
    step_axis,
)
from makemore_pl.inspect.step_table import StepRow

if TYPE_CHECKING:  # Matplotlib takes half a second to load, and most runs draw little
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def diagnostic_plots(
    snapshots: Sequence[Snapshot], rows: Sequence[StepRow]
) -> dict[str, Callable[[], "Figure"]]:
    """All plots that there is something to draw for, by name; a call draws one in the style in force.

    Snapshots, of one network, stand side by side where a plot is of one step.
    """
    plots: dict[str, Callable[[], Figure]] = {}
    if snapshots:
        plots["activations"] = lambda: activations(snapshots)
        plots["activation_gradients"] = lambda: activation_gradients(snapshots)
        plots["weight_gradients"] = lambda: weight_gradients(snapshots)
        plots["units"] = lambda: units_at_their_ends(snapshots[-1])
        plots["spreads"] = lambda: spreads(snapshots[-1])
    if rows:
        plots["updates"] = lambda: updates(rows)
        plots["saturation"] = lambda: saturation(rows)
    return plots


def activations(snapshots: Sequence[Snapshot]) -> "Figure":
    """Histograms of each Tanh layer's outputs, one panel for each snapshot."""

    def figures(snapshot: Snapshot, tanh: str) -> str:
        mean, std, saturated = (snapshot.of(tanh, figure) for figure in ("mean", "std", "saturated"))
        return f"mean {mean:.2f}".replace("-", "−") + f", std {std:.2f}, {saturated:.0%} saturated"

    figure = _tanh_histograms(snapshots, "output", figures, "output of tanh", "")
    for axes in figure.axes:
        mark_saturation(axes)
    return figure


def activation_gradients(snapshots: Sequence[Snapshot]) -> "Figure":
    """Histograms of the loss's gradients with respect to those outputs."""
    figure = _tanh_histograms(snapshots, "output_gradient", _gradient_of, "gradient", "mean ± std, ")
    for axes, snapshot in zip(figure.axes, snapshots, strict=True):
        stds = (snapshot.of(tanh, "gradient_std") for tanh in snapshot.at_ends)
        widest = max(filter(math.isfinite, stds), default=0) or 1
        axes.set_xlim(-4 * widest, 4 * widest)
        axes.xaxis.set_major_formatter(lambda value, _: scientific(value))
        axes.locator_params(axis="x", nbins=4)
    return figure


def weight_gradients(snapshots: Sequence[Snapshot]) -> "Figure":
    """The shape of each weight matrix's gradient in the last snapshot, and its size beside the weights'."""
    last = snapshots[-1]
    layers = [weight.removesuffix(".weight") for weight in last.shapes]
    colours, places = layer_colours(len(layers)), range(len(layers))
    figure, [shapes, sizes] = panels_of(2, height=2.1 + LINE * len(layers))
    for (weight, shape), layer, colour in zip(last.shapes.items(), layers, colours, strict=True):
        label = f"{layer}, {'×'.join(map(str, shape))}: {_gradient_of(last, weight)}"
        std = last.of(weight, "gradient_std")
        unit = std if std and math.isfinite(std) else 1.0
        _density(shapes, last.histograms[f"{weight}/gradient"], colour, label, unit)
    shapes.set(xlabel="gradient, in its own standard deviations", xlim=(-4, 4))
    shapes.set_title(f"weight gradients, mean ± std, {_step_title(last)}")
    legend_below(shapes)

    for snapshot in snapshots:
        # NaN, which is not drawn, where a matrix or its gradient is constant.
        ratios = [math.log10(snapshot.of(weight, "gradient_to_data") or math.nan) for weight in last.shapes]
        faces = colours if snapshot is last else "none"
        sizes.scatter(ratios, places, s=30, facecolors=faces, edgecolors=colours, label=_step_title(snapshot))
    sizes.set(xlabel="log₁₀ of std of gradient / std of weights", title="gradient-to-data ratio")
    sizes.set(yticks=places, yticklabels=layers, ylim=(len(layers) - 0.5, -0.5), axisbelow=True)
    sizes.margins(x=0.15)
    sizes.locator_params(axis="x", nbins=5)
    sizes.grid(axis="y")
    if len(snapshots) > 1:
        legend_below(sizes, columns=2)
    return figure


def units_at_their_ends(snapshot: Snapshot) -> "Figure":
    """Map of the outputs with |t| > 0.99, examples × units, one panel for each Tanh layer."""
    from matplotlib.colors import ListedColormap

    tanhs = snapshot.at_ends
    figure, panels = panels_of(len(tanhs), height=1.1 * len(tanhs) + 0.35, stacked=True)
    for axes, (tanh, at_ends) in zip(panels, tanhs.items(), strict=True):
        colours = ListedColormap(["none", COOL])
        axes.imshow(at_ends, colours, aspect="auto", interpolation="none", vmin=0, vmax=1)
        axes.set(yticks=[], ylabel="examples")
        axes.locator_params(axis="x", integer=True)
        n_units = at_ends.shape[1]
        n_dead = round(snapshot.of(tanh, "dead") * n_units)
        axes.set_title(f"{tanh}: {n_dead or 'none'} dead of {n_units} units")
    panels[-1].set_xlabel("units")
    return figure


def spreads(snapshot: Snapshot) -> "Figure":
    """Standard deviations after each Linear, and after Linear and BatchNorm, forward and backward."""
    figure, panels = panels_of(2, height=2.4)
    linears = [weight.removesuffix(".weight") for weight in snapshot.shapes if "embedding" not in weight]
    norms = ["output_norm" if name == "output" else name.replace("linear", "norm") for name in linears]
    lines = {"after Linear": (linears, COOL), "after Linear and BatchNorm": (norms, WARM)}
    for axes, title, figure_name, what in (
        (panels[0], "forward", "std", "outputs"),
        (panels[1], "backward", "gradient_std", "gradients"),
    ):
        for label, (layers, colour) in lines.items():
            values = [snapshot.figures.get(f"{layer}/{figure_name}", math.nan) for layer in layers]
            if not np.isnan(values).all():  # NaN is not drawn: a layer without BatchNorm
                axes.plot(values, color=colour, marker="o", markersize=4, label=label)
        log_axis(axes)
        axes.set(title=title, xlim=(-0.4, len(linears) - 0.6), xticks=range(len(linears)))
        axes.set_xticklabels([linear.removeprefix("linear_") for linear in linears])
        axes.set(xlabel="layer", ylabel=f"std of {what}")
        axes.grid(axis="y")
    legend_below(panels[0], columns=2)
    return figure


def updates(rows: Sequence[StepRow]) -> "Figure":
    """log10 of the update-to-data ratio of each weight matrix over steps, with the guide at 10^-3."""
    figure = _over_steps(rows, "log10_update_to_data", "update-to-data ratio", 2.5)
    [axes] = figure.axes
    axes.axhspan(LOWEST_UPDATE, HIGHEST_UPDATE, color=RULE, alpha=0.35)
    axes.axhline(UPDATE_GUIDE, color=INK, linewidth=1, linestyle=(0, (4, 3)))
    axes.set_ylabel("log₁₀ of update / data")
    return figure


def saturation(rows: Sequence[StepRow]) -> "Figure":
    """Share of saturated outputs of each Tanh layer over steps."""
    from matplotlib.ticker import PercentFormatter

    figure = _over_steps(rows, "saturated", "share of saturated outputs", 2.1)
    [axes] = figure.axes
    axes.set(ylabel=f"|tanh| > {SATURATED}", ylim=(0, None))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    return figure


def mark_saturation(axes: "Axes") -> None:
    """Mark where outputs of tanh, on the horizontal axis, count as saturated."""
    for end in (-SATURATED, SATURATED):
        axes.axvline(end, color=RULE, linewidth=1, zorder=0)
    axes.set_xticks((-1, -0.5, 0, 0.5, 1))


def _tanh_histograms(
    snapshots: Sequence[Snapshot], part: str, words: Callable[[Snapshot, str], str], label: str, title: str
) -> "Figure":
    """A panel for each snapshot, with a histogram and a line of text for each Tanh layer."""
    figure, panels = panels_of(len(snapshots), height=2.0 + LINE * len(snapshots[0].at_ends))
    for axes, snapshot in zip(panels, snapshots, strict=True):
        for tanh, colour in _coloured(snapshot.at_ends):
            _density(axes, snapshot.histograms[f"{tanh}/{part}"], colour, f"{tanh}: {words(snapshot, tanh)}")
        axes.set(xlabel=label, title=title + _step_title(snapshot))
        legend_below(axes)
    return figure


def _density(axes: "Axes", histogram: Histogram, colour: str, label: str, unit: float = 1.0) -> None:
    """Draw a histogram as a density, over values divided by `unit`."""
    heights, edges = histogram.density * unit, histogram.edges / unit
    axes.stairs(heights, edges, color=colour, linewidth=1.3, label=label)
    axes.stairs(heights, edges, fill=True, color=colour, alpha=0.08)
    axes.set(yticks=[], ylim=(0, None))
    axes.spines["left"].set_visible(False)


def _over_steps(rows: Sequence[StepRow], figure_name: str, title: str, height: float) -> "Figure":
    """A line for each layer or matrix that has this figure."""
    figure, [axes] = panels_of(1, height)
    for part, colour in _coloured(rows[-1].by_part(figure_name)):
        name = f"{part}/{figure_name}"
        points = [(row.step, row.figures[name]) for row in rows if name in row.figures]
        axes.plot(*zip(*points, strict=True), color=colour, linewidth=1.2, label=part)
    step_axis(axes)
    axes.set_title(title)
    legend_below(axes, columns=4)
    return figure


def _coloured(names: Collection[str]) -> Iterable[tuple[str, str]]:
    return zip(names, layer_colours(len(names)), strict=True)


def _gradient_of(snapshot: Snapshot, part: str) -> str:
    """Mean and standard deviation of its gradient; in words they would not fit on a telephone."""
    return " ± ".join(scientific(snapshot.of(part, name)) for name in ("gradient_mean", "gradient_std"))


def _step_title(snapshot: Snapshot) -> str:
    return "before the first step" if snapshot.step == 0 else f"step {snapshot.step:,}"
