"""A bound on the deviation of every logit after every context, however many contexts there are.

Before the first tanh the network is a sum with one term for each position of the context, of which a label is
one. So the largest deviation there, over all contexts, is the sum of each position's largest: found in V * T
look-ups, and one for each label. From there it is carried on: tanh has slope at most 1 and values of at most
1, and a Linear spreads deviations by the absolute values of its weights, or by its largest singular value,
whichever gives less.

Two deviations are bounded: that of the stored weights, as real numbers, from the folded model's; and that of
float32 arithmetic from real arithmetic, for any order of summation (Higham, Accuracy and Stability of
Numerical Algorithms, 2002, §3.1: a sum of n products is off by at most n*u / (1 - n*u) times the sum of the
products' absolute values, u = 2^-24).

Notation: T block size, P positions of a context (T, or with a label T + 1), V vocabulary size, H n_hidden.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from makemore_pl.model.folded_weights import Array, FoldedWeights, Linear, multiply, row_sums

UNIT = 2.0**-24
"""Largest relative error of rounding to float32."""
TANH_ERROR = 2.0**-21
"""Largest error of ONNX Runtime's float32 tanh. A test measures it: 3.2e-7 on four million arguments."""


@dataclass(frozen=True)
class Network:
    """A network without BatchNorm, in the form that the bound is computed from.

    Attributes:
        tables: P of float64 (V, H), terms of the first pre-activations by position and id; of labels (L, H).
        bias: (H,), added to their sum.
        sizes: as `tables`, the absolute values of the products behind each entry of `tables`, summed.
        n_terms: number of terms of one pre-activation.
        later: each later Linear, a tanh before each.
    """

    tables: list[Array]
    bias: Array
    sizes: list[Array]
    n_terms: int
    later: list[Linear]

    @classmethod
    def from_weights(cls, weights: FoldedWeights) -> "Network":
        """The network computed by embedding and Linear, as the form `mlp` does."""
        (weight, bias), *later = weights.linears
        tables, _ = weights.position_tables()
        absolute = replace(weights, embedding=np.abs(weights.embedding), hidden=[(np.abs(weight), bias)])
        sizes, _ = absolute.position_tables()
        return cls(tables, bias, sizes, weight.shape[1] + 1, later)


@dataclass(frozen=True)
class Certificate:
    """Bounds that hold after every context.

    Attributes:
        weights: largest deviation of a logit because of the stored weights alone, in real arithmetic.
        total: the same with all rounding of float32 arithmetic.
    """

    weights: float
    total: float


def certify(trained: FoldedWeights, stored: Network) -> Certificate:
    """Bound the deviation of a file from the trained model.

    Args:
        trained: weights of the folded model, in float64.
        stored: the file's network, of the same shapes.
    """
    return certify_network(Network.from_weights(trained), stored)


def certify_network(model: Network, stored: Network) -> Certificate:
    """Bound the deviation of one network from another one of the same shapes."""
    first = first_deviation(model, stored)
    # Absolute values of the numbers added up, for the context where they are largest.
    size = sum(of_position.max(axis=0) for of_position in stored.sizes) + np.abs(stored.bias)  # (H,)
    rounding = _gamma(stored.n_terms) * size
    return Certificate(
        weights=float(_carry(model.later, stored.later, first).max()),
        total=float(_carry(model.later, stored.later, first + rounding, rounding=True).max()),
    )


def first_deviation(model: Network, stored: Network) -> Array:
    """(H,): largest deviation of each first pre-activation over all contexts; positions are independent."""
    off = [ours - theirs for ours, theirs in zip(stored.tables, model.tables, strict=True)]  # P of (V, H)
    bias_off = stored.bias - model.bias
    highest = sum(of_position.max(axis=0) for of_position in off) + bias_off
    lowest = sum(of_position.min(axis=0) for of_position in off) + bias_off
    largest: Array = np.maximum(np.abs(highest), np.abs(lowest))
    return largest


def _carry(model: list[Linear], stored: list[Linear], deviation: Array, *, rounding: bool = False) -> Array:
    """Carry the deviation (H,) of the first pre-activations through the later Linears to the logits, (V,).

    Two bounds are carried side by side, and each layer takes the smaller: of every unit's deviation, and of
    the Euclidean length of all of them. The first alone would multiply by the sums of absolute weights, as if
    all signs agreed in every unit of every layer at once.
    """
    length = float(np.linalg.norm(deviation))
    for (weight, bias), (stored_weight, stored_bias) in zip(model, stored, strict=True):
        n_terms = weight.shape[-1] + 1  # of one sum: what a member does not read adds nothing
        # |tanh(a) - tanh(b)| is at most |a - b|, and at most 2.
        inputs_off = np.minimum(deviation + rounding * TANH_ERROR, 2.0)  # (fan_in,)
        length = min(
            length + rounding * TANH_ERROR * math.sqrt(len(inputs_off)), float(np.linalg.norm(inputs_off))
        )
        # w' h' - w h = w' (h' - h) + (w' - w) h, and |h| is at most 1.
        size = np.abs(stored_weight)
        own = row_sums(np.abs(stored_weight - weight)) + np.abs(stored_bias - bias)  # (fan_out,)
        if rounding:
            terms = row_sums(size) * (1 + TANH_ERROR) + np.abs(stored_bias)
            own = own + _gamma(n_terms) * terms
        deviation = np.minimum(multiply(size, inputs_off), np.sqrt(row_sums(size**2)) * length) + own
        length = min(
            largest_gain(stored_weight) * length + float(np.linalg.norm(own)),
            float(np.linalg.norm(deviation)),
        )
    return deviation


def largest_gain(weight: Array) -> float:
    """An upper bound of the largest singular value σ of (fan_out, fan_in): (Σ σ^16)^(1/16).

    At most fan_in^(1/16), some 40 % of 200, above it, and computed many times faster. Of several blocks on a
    diagonal it is the largest one's.
    """
    if weight.ndim == 3:
        return max(map(largest_gain, weight))
    gram = weight.T @ weight if weight.shape[1] < len(weight) else weight @ weight.T  # singular values: σ²
    scale = float(np.linalg.norm(gram))
    if scale == 0:
        return 0.0
    power = gram / scale
    for _ in range(2):
        power = power @ power  # σ^4, σ^8
    of_squares = scale * float(np.linalg.norm(power)) ** 0.25
    return math.sqrt(of_squares) * (1 + 1e-9)  # float64's own rounding


def _gamma(n: int) -> float:
    """Higham's gamma: largest relative error of a float32 sum of n products, in any order."""
    return n * UNIT / (1 - n * UNIT)
