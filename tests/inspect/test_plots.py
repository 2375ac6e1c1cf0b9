"""The plots show what was measured."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import random_batch, rows_with

from makemore_pl.inspect.diagnostic_plots import diagnostic_plots
from makemore_pl.inspect.loss_curves import has_losses, loss_curves, plot_losses
from makemore_pl.inspect.plot_style import log_axis, panels_of, scientific, smooth, style
from makemore_pl.inspect.probe import take_snapshot
from makemore_pl.inspect.step_table import StepRow, StepTable
from makemore_pl.inspect.sweep import Sweep, sweep_curve
from makemore_pl.model.network import BatchNormMLP


def test_plots_name_mean_and_deviation() -> None:
    """Of the activations, of their gradients, and of each weight matrix's gradient."""
    seen = take_snapshot(BatchNormMLP(27, 3, n_hidden=20, init_seed=1), *random_batch())
    plots = diagnostic_plots([seen], [])
    with style():
        drawn = [plots[name]() for name in ("activations", "activation_gradients", "weight_gradients")]
    labels = [figure.axes[0].get_legend_handles_labels()[1][0] for figure in drawn]
    mean, std = f"{seen.of('tanh_1', 'mean'):.2f}".replace("-", "−"), f"{seen.of('tanh_1', 'std'):.2f}"
    gradients = [
        f"{scientific(seen.of(part, 'gradient_mean'))} ± {scientific(seen.of(part, 'gradient_std'))}"
        for part in ("tanh_1", "embedding.weight")
    ]
    assert labels == [
        f"tanh_1: mean {mean}, std {std}, {seen.of('tanh_1', 'saturated'):.0%} saturated",
        f"tanh_1: {gradients[0]}",
        f"embedding, 27×24: {gradients[1]}",
    ]


def test_plots_show_what_was_measured() -> None:
    """Units at their ends; spreads forward and back; ratios over steps, with the guide at 10^-3."""
    model = BatchNormMLP(27, 3, n_hidden=20, n_layers=2, hidden_gain=9, init_seed=1, norm_output=True)
    seen = take_snapshot(model, *random_batch())
    plots = diagnostic_plots([seen], rows_with(lambda i: {}))
    with style():
        units, spreads, updates = (plots[name]() for name in ("units", "spreads", "updates"))
        units.draw_without_rendering()
    for axes, at_ends in zip(units.axes, seen.at_ends.values(), strict=True):
        shown = np.asarray(axes.images[0].get_array()) > 0
        assert shown.tolist() == at_ends.tolist()
        assert 0 < shown.mean() < 1
        assert all(tick == round(tick) for tick in axes.get_xticks())
    for axes, measured in zip(spreads.axes, ("std", "gradient_std"), strict=True):
        drawn = {line.get_label(): list(np.asarray(line.get_ydata())) for line in axes.lines}
        assert drawn == {
            "after Linear": [seen.of(name, measured) for name in ("linear_1", "linear_2", "output")],
            "after Linear and BatchNorm": [
                seen.of(name, measured) for name in ("norm_1", "norm_2", "output_norm")
            ],
        }
    ratio, guide = updates.axes[0].lines
    assert list(np.asarray(ratio.get_ydata())) == [-3.0] * 40
    assert list(np.asarray(ratio.get_xdata())) == list(range(0, 400, 10))
    assert set(np.asarray(guide.get_ydata())) == {-3.0}


def test_a_network_that_has_diverged_is_drawn_all_the_same() -> None:
    model = BatchNormMLP(27, 3, n_hidden=20, init_seed=1)
    with torch.no_grad():
        model.layers.linear_1.weight[0] = math.nan
        model.layers.output.weight[0] = math.inf
    seen = take_snapshot(model, *random_batch())
    assert math.isnan(seen.of("linear_1", "std"))
    with style():
        for draw in diagnostic_plots([seen, seen], [seen.row]).values():
            draw().draw_without_rendering()


@pytest.mark.parametrize("values", [(1.5, 2.6), (2.1, 2.2), (1e-5, 9e-5), (0.1, 3), (1e-7, 1)])
def test_ticks_of_a_logarithmic_axis_say_where_they_stand(values: tuple[float, float]) -> None:
    with style():
        figure, [axes] = panels_of(1, height=2.9)
        axes.plot(values)
        log_axis(axes)
        figure.draw_without_rendering()
    low, high = axes.get_ylim()
    labels = {
        tick: text.get_text() for tick, text in zip(axes.get_yticks(), axes.get_yticklabels(), strict=True)
    }
    shown = [label for tick, label in labels.items() if low <= tick <= high]
    assert len(shown) == len(set(shown)) > 1
    assert all(label == scientific(tick, 5) for tick, label in labels.items())


def test_losses_raw_smoothed_and_on_dev(tmp_path: Path) -> None:
    rows = [StepRow(10 * i, {"train/loss": 2.0 + i % 3}) for i in range(9)]
    rows += [StepRow(99, {"val/nll": 2.5}), StepRow(99, {"train/loss": math.nan, "val/nll": math.inf})]
    with style():
        [axes] = loss_curves(rows).axes
    raw, smoothed, dev = axes.lines
    assert list(np.asarray(raw.get_ydata())) == [2, 3, 4] * 3
    assert list(np.asarray(smoothed.get_ydata()))[1:-1] == pytest.approx([(2 * 3 * 4) ** (1 / 3)] * 7)
    assert smoothed.get_label() == "mean of 30 steps"
    assert (list(np.asarray(dev.get_xdata())), dev.get_label()) == ([99], "dev, lowest 2.5000")
    assert not has_losses(rows[-1:])
    plot_losses(tmp_path / "none.csv", tmp_path / "none.png")
    assert list(tmp_path.iterdir()) == []
    StepTable(tmp_path / "metrics.csv").write(0, {"train/loss": 2.0})
    plot_losses(tmp_path / "metrics.csv", tmp_path / "loss.png")
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")


def noisy_sweep(bottom: float) -> Sweep:
    """A noisy loss over rates from 10^-4 to 1 that is lowest at 10^bottom."""
    exponents = np.linspace(-4, 0, 1000)
    noise = np.random.default_rng(1).normal(0, 0.2, 1000)
    return Sweep(10**exponents, 3 + (exponents - bottom) ** 4 + noise)


@pytest.mark.parametrize("bottom", [-2.5, -2.2, -1.9])
def test_the_middle_of_the_valley_is_found_in_noise(bottom: float) -> None:
    sweep = noisy_sweep(bottom)
    assert math.log10(sweep.middle) == pytest.approx(bottom, abs=0.1)
    assert sweep.is_bracketed
    with style():
        [axes] = sweep_curve(sweep).axes
    assert axes.texts[0].get_text() == f"{sweep.middle:.2g}"


def test_a_valley_at_the_end_of_the_sweep_is_no_valley() -> None:
    assert not noisy_sweep(0.0).is_bracketed
    assert not noisy_sweep(-4.0).is_bracketed


def test_smoothing_is_a_mean_of_neighbours() -> None:
    assert smooth(np.array([1.0, 2.0, 6.0, 0.0]), 3).tolist() == pytest.approx([1.5, 3.0, 8 / 3, 3.0])
    assert smooth(np.array([1.0, 2.0]), 1).tolist() == [1.0, 2.0]
