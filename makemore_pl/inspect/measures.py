"""Measures of one training step: figures of each layer's output and of each weight matrix.

The figures are those of the makemore lectures' part on activations, gradients and BatchNorm.
"""

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from makemore_pl.inspect.step_table import StepRow

SATURATED = 0.97
"""|tanh| above which a unit counts as saturated; its slope there is below 0.06. The lectures' value."""
DEAD = 0.99
"""|tanh| above which it passes next to no gradient (slope 0.02); a unit always there is dead. Also theirs."""
MAP_EXAMPLES = 64
"""Rows kept of the map of units that are at their ends, examples × units."""
BINS = 60


@dataclass(frozen=True)
class Histogram:
    """Counts float64 (bins,) between edges float64 (bins + 1,), equally spaced."""

    counts: NDArray[np.float64]
    edges: NDArray[np.float64]

    @property
    def density(self) -> NDArray[np.float64]:
        """Float64 (bins,), whose integral is 1; zeros where nothing was counted."""
        density: NDArray[np.float64] = self.counts / max(1.0, self.counts.sum()) / np.diff(self.edges)
        return density

    @classmethod
    def of(cls, values: Tensor, bounds: tuple[float, float] | None = None) -> "Histogram":
        """Count all finite values, over their own range or the given bounds."""
        low, high = (limit.item() for limit in torch.aminmax(values))
        if not (math.isfinite(low) and math.isfinite(high)):
            values = values[torch.isfinite(values)]
            low, high = (values.min().item(), values.max().item()) if len(values) else (0.0, 0.0)
        if bounds is not None:
            low, high = bounds
        elif low == high:  # one value only: a range of no width cannot be drawn
            low, high = low - 0.5, high + 0.5
        counts = torch.histc(values, BINS, low, high)
        return cls(counts.double().numpy(), np.linspace(low, high, BINS + 1))


@dataclass(frozen=True)
class Snapshot:
    """All that was measured of one training step, by names like `tanh_1/saturated`.

    Attributes:
        step: optimiser steps before it.
        figures: numbers, in the order of the forward pass, weight matrices last; NaN where there is none. Of
            a layer: mean, std, gradient_mean, gradient_std; of a Tanh layer also saturated (share of outputs
            with |t| > SATURATED) and dead (share of units with |t| > DEAD on every example). Of a weight
            matrix: gradient_mean and gradient_std before clipping, gradient_to_data, log10_update_to_data.
        histograms: `tanh_1/output` and `tanh_1/output_gradient`, and `linear_1.weight/gradient`.
        at_ends: by Tanh layer, which outputs have |t| > DEAD, bool (up to MAP_EXAMPLES, H).
        shapes: by weight matrix, as PyTorch keeps it.
    """

    step: int
    figures: dict[str, float] = field(default_factory=dict)
    histograms: dict[str, Histogram] = field(default_factory=dict)
    at_ends: dict[str, NDArray[np.bool_]] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def row(self) -> StepRow:
        """The figures that are numbers."""
        return StepRow(self.step, {k: v for k, v in self.figures.items() if not math.isnan(v)})

    def of(self, part: str, figure: str) -> float:
        """One figure of a layer or weight matrix."""
        return self.figures[f"{part}/{figure}"]

    def add_layer(self, name: str, output: Tensor, gradient: Tensor, is_tanh: bool) -> None:
        """Measure a layer's output and the loss's gradient with respect to it, float32 (B, width) both."""
        self._add(name, _mean_and_std(output) | _mean_and_std(gradient, "gradient_"))
        if is_tanh:
            at_ends = output.abs() > DEAD  # (B, H)
            saturated = (output.abs() > SATURATED).float().mean().item()
            self._add(name, {"saturated": saturated, "dead": at_ends.all(dim=0).float().mean().item()})
            self.histograms[f"{name}/output"] = Histogram.of(output, (-1, 1))
            self.histograms[f"{name}/output_gradient"] = Histogram.of(gradient)
            self.at_ends[name] = at_ends[:MAP_EXAMPLES].numpy()

    def add_weight(self, name: str, weight: Tensor, gradient: Tensor, update: Tensor) -> None:
        """Measure a weight matrix, float32 tensors of one shape: before the step, gradient, what changed.

        Ratios are those of standard deviations. The update is what has changed, not the gradient times a
        rate, so that the ratio holds for every optimiser, with clipping and weight decay.
        """
        moments = _mean_and_std(gradient, "gradient_")
        weight_std, update_std = _mean_and_std(weight)["std"], _mean_and_std(update)["std"]
        ratios = {
            "gradient_to_data": moments["gradient_std"] / weight_std if weight_std else math.nan,
            "log10_update_to_data": math.log10(update_std / weight_std)
            if update_std and weight_std
            else math.nan,
        }
        self._add(name, moments | ratios)
        self.histograms[f"{name}/gradient"] = Histogram.of(gradient)
        self.shapes[name] = tuple(weight.shape)

    def _add(self, part: str, figures: dict[str, float]) -> None:
        self.figures.update({f"{part}/{name}": value for name, value in figures.items()})


def _mean_and_std(values: Tensor, prefix: str = "") -> dict[str, float]:
    std, mean = torch.std_mean(values, correction=0)
    return {f"{prefix}mean": mean.item(), f"{prefix}std": std.item()}
