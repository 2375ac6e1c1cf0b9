"""What is measured of one training step: figures of each layer's output and of each weight matrix.

The figures are those of the makemore lectures' part on activations, gradients and BatchNorm.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

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

    @classmethod
    def of(cls, values: Tensor, bounds: tuple[float, float] | None = None) -> "Histogram":
        """Of all finite values, over their own range or the given bounds."""
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
class LayerFigures:
    """A layer's output on one batch, and the loss's gradient with respect to it.

    Attributes:
        name: the layer's, `linear_1`.
        kind: linear, norm or tanh.
        mean, std: of the output.
        gradient_mean, gradient_std: of its gradient.
    """

    name: str
    kind: str
    mean: float
    std: float
    gradient_mean: float
    gradient_std: float

    @classmethod
    def of(cls, name: str, kind: str, output: Tensor, gradient: Tensor) -> "LayerFigures":
        """Measure float32 (B, width) tensors."""
        moments = (*_mean_and_std(output), *_mean_and_std(gradient))
        return (
            TanhFigures.of_tanh(name, moments, output, gradient)
            if kind == "tanh"
            else cls(name, kind, *moments)
        )

    def scalars(self) -> dict[str, float]:
        """The figures that are numbers, by name."""
        names = ("mean", "std", "gradient_mean", "gradient_std")
        return {f"{self.name}/{name}": getattr(self, name) for name in names}


@dataclass(frozen=True)
class TanhFigures(LayerFigures):
    """A Tanh layer's.

    Attributes:
        outputs, gradients: histograms.
        saturated: share of outputs with |t| > SATURATED.
        dead: share of units with |t| > DEAD on every example of the batch.
        at_ends: which outputs have |t| > DEAD, bool (up to MAP_EXAMPLES, H).
    """

    outputs: Histogram
    gradients: Histogram
    saturated: float
    dead: float
    at_ends: NDArray[np.bool_]

    @classmethod
    def of_tanh(
        cls, name: str, moments: tuple[float, float, float, float], output: Tensor, gradient: Tensor
    ) -> "TanhFigures":
        at_ends = output.abs() > DEAD  # (B, H)
        return cls(
            name,
            "tanh",
            *moments,
            Histogram.of(output, (-1, 1)),
            Histogram.of(gradient),
            (output.abs() > SATURATED).float().mean().item(),
            at_ends.all(dim=0).float().mean().item(),
            at_ends[:MAP_EXAMPLES].numpy(),
        )

    def scalars(self) -> dict[str, float]:
        shares = {f"{self.name}/saturated": self.saturated, f"{self.name}/dead": self.dead}
        return super().scalars() | shares


@dataclass(frozen=True)
class WeightFigures:
    """A weight matrix at one step.

    Attributes:
        name: `linear_1.weight`.
        shape: as PyTorch keeps it.
        gradient_mean, gradient_std: of its gradient, before clipping.
        gradient_to_data: standard deviation of the gradient over that of the weights.
        log10_update_to_data: log10 of the standard deviation of what the optimiser's step changed, over that
            of the weights before it. What has changed is measured, so that it holds for every optimiser, with
            clipping and weight decay. NaN where there was no step or nothing changed.
        gradients: histogram of the gradient.
    """

    name: str
    shape: tuple[int, ...]
    gradient_mean: float
    gradient_std: float
    gradient_to_data: float
    log10_update_to_data: float
    gradients: Histogram

    @classmethod
    def of(cls, name: str, weight: Tensor, gradient: Tensor, update: Tensor) -> "WeightFigures":
        """Measure float32 tensors of one shape."""
        gradient_mean, gradient_std = _mean_and_std(gradient)
        weight_std, update_std = _mean_and_std(weight)[1], _mean_and_std(update)[1]
        return cls(
            name,
            tuple(weight.shape),
            gradient_mean,
            gradient_std,
            gradient_std / weight_std if weight_std else math.nan,
            math.log10(update_std / weight_std) if update_std and weight_std else math.nan,
            Histogram.of(gradient),
        )

    def scalars(self) -> dict[str, float]:
        """The figures that are numbers, by name."""
        names = ("gradient_mean", "gradient_std", "gradient_to_data", "log10_update_to_data")
        return {f"{self.name}/{name}": getattr(self, name) for name in names}


@dataclass(frozen=True)
class Snapshot:
    """All figures of one training step.

    Attributes:
        step: optimiser steps before it.
        layers: in the order of the forward pass.
        weights: likewise.
    """

    step: int
    layers: list[LayerFigures]
    weights: list[WeightFigures]

    @property
    def tanhs(self) -> list[TanhFigures]:
        return [layer for layer in self.layers if isinstance(layer, TanhFigures)]

    def scalars(self) -> dict[str, float]:
        """Every figure that is a number, by names like `tanh_1/saturated`."""
        parts: list[LayerFigures | WeightFigures] = [*self.layers, *self.weights]
        return {name: value for part in parts for name, value in part.scalars().items()}


def _mean_and_std(values: Tensor) -> tuple[float, float]:
    std, mean = torch.std_mean(values, correction=0)
    return mean.item(), std.item()
