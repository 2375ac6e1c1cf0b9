"""The lectures' learning-rate sweep: a rate for each step, rising by equal factors from 10^-3 to 1."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from makemore_pl.model.network import BatchNormMLP
from makemore_pl.studies.sgd import SGDTraining

FIRST, LAST = -3.0, 0.0
"""Exponents of the lowest and of the highest rate."""
N_STEPS = 1_000
WINDOW = 51
"""Steps that are averaged: the loss of 32 examples is too noisy to have a lowest point."""


@dataclass(frozen=True)
class Sweep:
    """Losses over learning rates.

    Attributes:
        exponents: log10 of the rate at each step, (n,).
        losses: loss of each step, (n,), nats per character.
        smoothed: mean over the `WINDOW` steps around each step, (n,); over fewer at the ends.
    """

    exponents: NDArray[np.float64]
    losses: NDArray[np.float64]
    smoothed: NDArray[np.float64]

    @property
    def best_exponent(self) -> float:
        """Where the smoothed loss is lowest."""
        return float(self.exponents[self.smoothed.argmin()])

    @property
    def rise(self) -> float:
        """The smoothed loss at the highest rate as a multiple of the lowest."""
        return float(self.smoothed[-1] / self.smoothed.min())


def sweep_learning_rate(training: SGDTraining[BatchNormMLP]) -> Sweep:
    """Make a training's first steps under rising learning rates."""
    exponents = np.linspace(FIRST, LAST, N_STEPS)
    training.learning_rate = (10**exponents).tolist().__getitem__
    training.advance(N_STEPS)
    losses = np.array(training.losses)
    return Sweep(exponents, losses, smooth(losses, WINDOW))


def smooth(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Mean over the `window` values around each, over fewer at the ends; same length."""
    sums, counts = (np.convolve(x, np.ones(window), "same") for x in (values, np.ones_like(values)))
    means: NDArray[np.float64] = sums / counts
    return means
