"""A bound on the deviation of every logit after every context, however many contexts there are.

Before the first tanh the network is a sum with one term for each position of the context. So the largest
deviation there, over all V^T contexts, is the sum of each position's largest: found in V * T look-ups. From
there it is carried on: tanh has slope at most 1 and values of at most 1, and a Linear spreads deviations by
the absolute values of its weights.

Two deviations are bounded: that of the stored weights, as real numbers, from the folded model's; and that of
float32 arithmetic from real arithmetic, for any order of summation (Higham, Accuracy and Stability of
Numerical Algorithms, 2002, §3.1: a sum of n products is off by at most n*u / (1 - n*u) times the sum of the
products' absolute values, u = 2^-24).

Notation: T block size, V vocabulary size, H n_hidden.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from makemore_pl.errors import VerificationError
from makemore_pl.graph.forms import Array, FoldedWeights, position_tables

Linears: TypeAlias = list[tuple[Array, Array]]
"""Weights (fan_out, fan_in) and biases (fan_out,)."""
UNIT = 2.0**-24
"""Largest relative error of rounding to float32."""
TANH_ERROR = 2.0**-21
"""Largest error of ONNX Runtime's float32 tanh. A test measures it: 3.2e-7 on four million arguments."""


@dataclass(frozen=True)
class Network:
    """A network without BatchNorm as the bound needs it.

    Attributes:
        tables: float64 (T, V, H), what each character at each position adds to the first pre-activations.
        bias: (H,), added to their sum.
        sizes: (T, V, H), the absolute values of the products behind each entry of `tables`, summed.
        n_terms: how many numbers are added up for one pre-activation.
        later: weight (fan_out, fan_in) and bias (fan_out,) of each later Linear, a tanh before each.
    """

    tables: Array
    bias: Array
    sizes: Array
    n_terms: int
    later: Linears

    @classmethod
    def from_weights(cls, weights: FoldedWeights) -> "Network":
        """The network computed by embedding and Linear, as the form `mlp` does."""
        (weight, bias), *later = [*weights.hidden, weights.output]
        tables, _ = position_tables(weights)
        absolute = FoldedWeights(
            weights.block_size, np.abs(weights.embedding), [(np.abs(weight), bias)], weights.output
        )
        sizes, _ = position_tables(absolute)
        return cls(tables, bias, sizes, weight.shape[1] + 1, later)

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        return [self.tables.shape, *(weight.shape for weight, _ in self.later)]


@dataclass(frozen=True)
class Certificate:
    """Bounds that hold after every context.

    Attributes:
        weights: largest deviation of a logit because of the stored weights alone, in real arithmetic.
        total: the same with all rounding of float32 arithmetic.
        limit: the largest `weights` that rounding of the stored weights can explain.
    """

    weights: float
    total: float
    limit: float


def certify(trained: FoldedWeights, stored: Network, name: str = "model.onnx") -> Certificate:
    """Bound the deviation of a file from the trained model.

    Args:
        trained: weights of the folded model, in float64.
        stored: the file's network.
        name: the file's, for messages.

    Raises:
        VerificationError: the shapes differ, or the weights differ by more than rounding explains.
    """
    model = Network.from_weights(trained)
    if model.shapes != stored.shapes:
        raise VerificationError(f"{name}: a network of shapes {stored.shapes}, expected {model.shapes}")
    first = _first_deviation(model, stored)
    weights = _carry(model.later, stored.later, first)
    total = _carry(model.later, stored.later, first + _first_rounding(stored), rounding=True)
    # Every number off by 2 units: two factors make a first pre-activation.
    share = 2 * UNIT
    rounded = [(weight * (1 + share), bias * (1 + share)) for weight, bias in model.later]
    limit = _carry(model.later, rounded, 2 * share * _largest_size(model))
    # Not `any(weights > limit)`: that would let NaN pass.
    if not (weights <= limit).all():
        excess = np.nan_to_num(weights - limit, nan=np.inf)
        worst = int(excess.argmax())
        raise VerificationError(
            f"{name} is not the trained model: by its weights, logit {worst} could differ by "
            f"{weights[worst]:.3g}; rounding explains {limit[worst]:.3g}"
        )
    return Certificate(float(weights.max()), float(total.max()), float(limit.max()))


def _first_deviation(model: Network, stored: Network) -> Array:
    """(H,): largest deviation of each first pre-activation over all contexts; positions are independent."""
    off = stored.tables - model.tables  # (T, V, H)
    bias_off = stored.bias - model.bias
    highest = off.max(axis=1).sum(axis=0) + bias_off
    lowest = off.min(axis=1).sum(axis=0) + bias_off
    largest: Array = np.maximum(np.abs(highest), np.abs(lowest))
    return largest


def _largest_size(network: Network) -> Array:
    """(H,): absolute values of the numbers added up, for the context where they are largest."""
    largest: Array = network.sizes.max(axis=1).sum(axis=0) + np.abs(network.bias)
    return largest


def _first_rounding(stored: Network) -> Array:
    """(H,): largest error of computing the first pre-activations in float32."""
    return _gamma(stored.n_terms) * _largest_size(stored)


def _carry(model: Linears, stored: Linears, deviation: Array, *, rounding: bool = False) -> Array:
    """Carry the deviation (H,) of the first pre-activations through the later Linears to the logits, (V,)."""
    for (weight, bias), (stored_weight, stored_bias) in zip(model, stored, strict=True):
        # |tanh(a) - tanh(b)| is at most |a - b|, and at most 2.
        inputs_off = np.minimum(deviation + rounding * TANH_ERROR, 2.0)  # (fan_in,)
        size = np.abs(stored_weight)
        # w' h' - w h = w' (h' - h) + (w' - w) h, and |h| is at most 1.
        deviation = (
            size @ inputs_off + np.abs(stored_weight - weight).sum(axis=1) + np.abs(stored_bias - bias)
        )
        if rounding:
            n_terms = weight.shape[1] + 1
            terms = size.sum(axis=1) * (1 + TANH_ERROR) + np.abs(stored_bias)
            deviation = deviation + _gamma(n_terms) * terms
    return deviation


def _gamma(n: int) -> float:
    """Higham's gamma: largest relative error of a float32 sum of n products, in any order."""
    return n * UNIT / (1 - n * UNIT)
