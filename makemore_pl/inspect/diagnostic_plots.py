"""The figures of `figures.py` and `records.py` as pictures: for a run's folder and for the report."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from makemore_pl.inspect.findings import HIGHEST_UPDATE, LOWEST_UPDATE, UPDATE_GUIDE
from makemore_pl.inspect.measures import (
    SATURATED,
    Histogram,
    LayerFigures,
    Snapshot,
    WeightFigures,
)
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
from makemore_pl.inspect.records import Record

if TYPE_CHECKING:  # Matplotlib takes half a second to load, and most runs draw little
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TANH_TICKS = (-1, -0.5, 0, 0.5, 1)


def activations(snapshots: Sequence[Snapshot]) -> "Figure":
    """How each Tanh layer's outputs are spread, one panel for each snapshot."""
    figure, panels = panels_of(len(snapshots), height=2.5 + LINE * len(snapshots[0].tanhs))
    for axes, snapshot in zip(panels, snapshots, strict=True):
        for tanh, colour in zip(snapshot.tanhs, layer_colours(len(snapshot.tanhs)), strict=True):
            mean = f"{tanh.mean:.2f}".replace("-", "−")
            label = f"{tanh.name}: mean {mean}, std {tanh.std:.2f}, {tanh.saturated:.0%} saturated"
            _density(axes, tanh.outputs, 1, colour, label)
        for end in (-SATURATED, SATURATED):
            axes.axvline(end, color=RULE, linewidth=1, zorder=0)
        axes.set(xlabel="output of tanh", ylim=(0, None), xticks=TANH_TICKS, title=_step_title(snapshot))
        legend_below(axes)
    return figure


def activation_gradients(snapshots: Sequence[Snapshot]) -> "Figure":
    """How the loss's gradients with respect to those outputs are spread."""
    figure, panels = panels_of(len(snapshots), height=2.5 + LINE * len(snapshots[0].tanhs))
    for axes, snapshot in zip(panels, snapshots, strict=True):
        for tanh, colour in zip(snapshot.tanhs, layer_colours(len(snapshot.tanhs)), strict=True):
            label = f"{tanh.name}: {_gradient_of(tanh)}"
            _density(axes, tanh.gradients, 1, colour, label)
        widest = max((tanh.gradient_std for tanh in snapshot.tanhs), default=0) or 1
        axes.set(
            xlabel="gradient",
            ylim=(0, None),
            xlim=(-4 * widest, 4 * widest),
            title=f"mean ± std, {_step_title(snapshot)}",
        )
        axes.xaxis.set_major_formatter(lambda value, _: scientific(value))
        axes.locator_params(axis="x", nbins=4)
        legend_below(axes)
    return figure


def weight_gradients(snapshots: Sequence[Snapshot]) -> "Figure":
    """The shape of each weight matrix's gradient in the last snapshot, and its size beside the weights'."""
    last = snapshots[-1]
    figure, [shapes, sizes] = panels_of(2, height=2.3 + LINE * len(last.weights))
    colours = layer_colours(len(last.weights))
    for weight, colour in zip(last.weights, colours, strict=True):
        label = f"{_short(weight)}, {'×'.join(map(str, weight.shape))}: {_gradient_of(weight)}"
        _density(shapes, weight.gradients, weight.gradient_std or 1, colour, label)
    shapes.set(xlabel="gradient, in its own standard deviations", xlim=(-4, 4), ylim=(0, None))
    shapes.set_title(f"weight gradients, mean ± std, {_step_title(last)}")
    legend_below(shapes)

    places = range(len(last.weights))
    for snapshot in snapshots:
        filled = snapshot is last
        # NaN, which is not drawn, where a matrix or its gradient is constant.
        ratios = [math.log10(weight.gradient_to_data or math.nan) for weight in snapshot.weights]
        faces = colours if filled else "none"
        sizes.scatter(ratios, places, s=30, facecolors=faces, edgecolors=colours, label=_step_title(snapshot))
    sizes.set(xlabel="log₁₀ of std of gradient / std of weights", yticks=places)
    sizes.margins(x=0.15)
    sizes.locator_params(axis="x", nbins=5)
    sizes.set_axisbelow(True)
    sizes.set_yticklabels([_short(weight) for weight in last.weights])
    sizes.set_ylim(len(places) - 0.5, -0.5)
    sizes.set_title("gradient-to-data ratio")
    sizes.grid(axis="y")
    if len(snapshots) > 1:
        legend_below(sizes, columns=2)
    return figure


def units_at_their_ends(snapshot: Snapshot) -> "Figure":
    """Map of the outputs with |t| > 0.99, examples × units, one panel for each Tanh layer."""
    from matplotlib.colors import to_rgba

    tanhs = snapshot.tanhs
    figure, panels = panels_of(len(tanhs), height=1.35 * len(tanhs) + 0.35, stacked=True)
    for axes, tanh in zip(panels, tanhs, strict=True):
        image = np.zeros((*tanh.at_ends.shape, 4))
        image[tanh.at_ends] = to_rgba(COOL)
        axes.imshow(image, aspect="auto", interpolation="none")
        axes.set(yticks=[], ylabel="examples")
        axes.locator_params(axis="x", integer=True)
        n_units = tanh.at_ends.shape[1]
        n_dead = round(tanh.dead * n_units)
        axes.set_title(f"{tanh.name}: {n_dead or 'none'} dead of {n_units} units")
    panels[-1].set_xlabel("units")
    return figure


def spreads(snapshot: Snapshot) -> "Figure":
    """Standard deviations after each Linear, and after Linear and BatchNorm, forward and backward."""
    figure, panels = panels_of(2, height=2.9)
    linears = [layer for layer in snapshot.layers if layer.kind == "linear"]
    norms = {layer.name: layer for layer in snapshot.layers if layer.kind == "norm"}
    after_norm = [norms.get(_norm_after(linear.name)) for linear in linears]
    directions = (("forward", "outputs", "std"), ("backward", "gradients", "gradient_std"))
    for axes, (title, what, measured) in zip(panels, directions, strict=True):
        drawn: list[float] = []
        for layers, colour, label in (
            (linears, COOL, "after Linear"),
            (after_norm, WARM, "after Linear and BatchNorm"),
        ):
            points = [(i, getattr(layer, measured)) for i, layer in enumerate(layers) if layer is not None]
            if points:
                axes.plot(*zip(*points, strict=True), color=colour, marker="o", markersize=4, label=label)
                drawn += [value for _, value in points]
        log_axis(axes, drawn)
        axes.set(title=title, xlim=(-0.4, len(linears) - 0.6), xticks=range(len(linears)))
        axes.set_xticklabels([linear.name.removeprefix("linear_") for linear in linears])
        axes.set(xlabel="layer", ylabel=f"std of {what}")
        axes.grid(axis="y")
    legend_below(panels[0], columns=2)
    return figure


def updates(records: Sequence[Record]) -> "Figure":
    """log10 of the update-to-data ratio of each weight matrix over steps, with the guide at 10^-3."""
    figure, [axes] = panels_of(1, height=2.9)
    _over_steps(axes, records, "log10_update_to_data")
    axes.axhspan(LOWEST_UPDATE, HIGHEST_UPDATE, color=RULE, alpha=0.35)
    axes.axhline(UPDATE_GUIDE, color=INK, linewidth=1, linestyle=(0, (4, 3)))
    axes.set(ylabel="log₁₀ of update / data", title="update-to-data ratio")
    return figure


def saturation(records: Sequence[Record]) -> "Figure":
    """Share of saturated outputs of each Tanh layer over steps."""
    from matplotlib.ticker import PercentFormatter

    figure, [axes] = panels_of(1, height=2.4)
    _over_steps(axes, records, "saturated")
    axes.set(ylabel=f"|tanh| > {SATURATED}", title="share of saturated outputs", ylim=(0, None))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    return figure


def _over_steps(axes: "Axes", records: Sequence[Record], figure: str) -> None:
    """A line for each layer or matrix that has this figure."""
    ending = f"/{figure}"
    names = [name for name in records[-1].scalars if name.endswith(ending)] if records else []
    for name, colour in zip(names, layer_colours(len(names)), strict=True):
        points = [(record.step, record.scalars[name]) for record in records if name in record.scalars]
        axes.plot(*zip(*points, strict=True), color=colour, linewidth=1.2, label=name.removesuffix(ending))
    step_axis(axes)
    legend_below(axes, columns=4)


def _density(axes: "Axes", histogram: Histogram, unit: float, colour: str, label: str) -> None:
    edges = histogram.edges / unit
    density = histogram.counts / max(1.0, histogram.counts.sum()) / np.diff(edges)
    axes.stairs(density, edges, color=colour, linewidth=1.3, label=label)
    axes.stairs(density, edges, fill=True, color=colour, alpha=0.08)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)


def _short(weight: WeightFigures) -> str:
    """Name of a weight matrix's layer."""
    return weight.name.removesuffix(".weight")


def _gradient_of(part: LayerFigures | WeightFigures) -> str:
    """Mean and standard deviation of its gradient; in words they would not fit on a telephone."""
    return f"{scientific(part.gradient_mean)} ± {scientific(part.gradient_std)}"


def _step_title(snapshot: Snapshot) -> str:
    return "before the first step" if snapshot.step == 0 else f"step {snapshot.step:,}"


def _norm_after(linear: str) -> str:
    """Name of the BatchNorm after a Linear."""
    return "output_norm" if linear == "output" else linear.replace("linear", "norm")
