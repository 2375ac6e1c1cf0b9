"""The bound holds, and is not far off."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import open_graph, trained_like
from onnx import TensorProto

from makemore_pl.exported.metadata import Form
from makemore_pl.graph.builder import GraphBuilder
from makemore_pl.graph.forms import build_model
from makemore_pl.model.fold import fold
from makemore_pl.model.folded_weights import Array, FoldedWeights, Linear
from makemore_pl.model.network import BatchNormMLP
from makemore_pl.proof.certificate import (
    TANH_ERROR,
    UNIT,
    Network,
    certify,
    certify_network,
    first_deviation,
    largest_gain,
)
from makemore_pl.proof.network_reader import stored_network


def weights_of(block_size: int = 3, n_layers: int = 1, n_hidden: int = 40) -> FoldedWeights:
    torch.manual_seed(block_size * 10 + n_layers)
    model = BatchNormMLP(11, block_size, n_hidden=n_hidden, n_layers=n_layers, output_gain=0.2)
    return FoldedWeights.from_layers(fold(trained_like(model).layers))


@pytest.mark.parametrize("n_layers", [1, 2, 3])
@pytest.mark.parametrize("block_size", [3, 8])
@pytest.mark.parametrize("form", ["mlp", "fused"])
def test_no_logit_deviates_by_more_than_the_bound(form: Form, block_size: int, n_layers: int) -> None:
    weights = weights_of(block_size, n_layers)
    graph = build_model(weights, form)
    certificate = certify(weights, stored_network(graph, weights, form))
    if block_size == 3:
        contexts = np.array(list(itertools.product(range(11), repeat=3)))
    else:
        contexts = np.random.default_rng(0).integers(11, size=(50_000, 8))
    [logits] = open_graph(graph).run(["logits"], {"context": contexts})
    observed = np.abs(logits - weights.logits(contexts)).max()
    assert observed <= certificate.total
    assert 0 < certificate.weights < certificate.total
    # Not a bound that holds because it says nothing: each layer multiplies it by its weights' absolute sums,
    # most of which cancels in a real context.
    assert certificate.total < observed * 1_000 * 20 ** (n_layers - 1)


@pytest.mark.parametrize("form", ["mlp", "fused"])
def test_the_bound_is_that_of_the_stored_numbers(form: Form) -> None:
    """A file of other weights has a bound that covers all their deviations."""
    weights = weights_of(n_layers=2)
    for part in ("embedding", "hidden", "output"):
        wrong = changed(weights, part, 1e-2)
        found = certify(weights, stored_network(build_model(wrong, form), weights, form))
        contexts = np.array(list(itertools.product(range(11), repeat=3)))
        assert found.weights >= np.abs(wrong.logits(contexts) - weights.logits(contexts)).max() - 1e-5
        assert found.weights > 1e-3


def changed(weights: FoldedWeights, part: str, amount: float) -> FoldedWeights:
    if part == "embedding":
        return replace(weights, embedding=weights.embedding + amount)
    if part == "hidden":
        return replace(weights, hidden=[(weight + amount, bias - amount) for weight, bias in weights.hidden])
    weight, bias = weights.output
    return replace(weights, output=(weight + amount, bias - amount))


def test_the_first_layers_part_is_exact() -> None:
    """With one hidden unit and a tiny change, the bound is the deviation itself."""
    weights = weights_of(n_hidden=1)
    weight, _ = weights.hidden[0]
    network = Network.from_weights(weights)
    contexts = np.array(list(itertools.product(range(11), repeat=3)))
    z = weights.embedding[contexts].reshape(len(contexts), -1) @ weight.T
    expected = np.abs(z * 1e-7).max()
    wrong = replace(network, tables=[table * (1 + 1e-7) for table in network.tables])
    assert first_deviation(network, wrong)[0] == pytest.approx(expected, rel=1e-6)


def linear(*rows: list[float], bias: float = 0.0) -> Linear:
    return np.array(rows), np.full(len(rows), bias)


def network(tables: Array, *later: Linear, bias: float = 0.0, n_terms: int = 1) -> Network:
    """A network of tables (T, V, H)."""
    return Network(tables, np.full(tables.shape[2], bias), np.abs(tables), n_terms, list(later))


def deviation(model: Network, stored: Network) -> float:
    """The largest of any logit over all contexts, in float64."""
    t, v, _ = model.tables.shape
    contexts = np.array(list(itertools.product(range(v), repeat=t)))

    def logits(net: Network) -> Array:
        x = sum(net.tables[i, contexts[:, i]] for i in range(t)) + net.bias
        for weight, b in net.later:
            x = np.tanh(x) @ weight.T + b
        return np.asarray(x)

    return float(np.abs(logits(stored) - logits(model)).max())


def bound(model: Network, stored: Network) -> float:
    return certify_network(model, stored).weights


ZERO = np.zeros((2, 3, 1))
HIGH = np.tile(np.array([[[0.0], [3.0], [1.0]]]), (2, 1, 1))
LOW = -HIGH
SATURATED = network(np.full((2, 3, 2), 20.0), linear([0.5, 0.25]))
TINY = network(np.full((2, 3, 2), 1e-7), linear([0.5, 0.25]))


@pytest.mark.parametrize(
    ("model", "stored"),
    [
        (network(ZERO), network(HIGH)),
        (network(ZERO), network(LOW)),
        (network(ZERO), network(HIGH, bias=1.0)),
        (network(ZERO), network(LOW, bias=-1.0)),
        (network(HIGH, bias=1.0), network(LOW)),
        (SATURATED, replace(SATURATED, later=[linear([0.75, 0.5])])),
        (SATURATED, replace(SATURATED, later=[linear([0.25, 0.0], bias=-0.5)])),
        (SATURATED, replace(SATURATED, later=[linear([0.5, 0.25], bias=2.0)])),
        (SATURATED, replace(SATURATED, tables=-SATURATED.tables)),  # from 1 to -1: by 2, not by 80
        (TINY, replace(TINY, tables=TINY.tables * 2)),
        (TINY, replace(TINY, bias=TINY.bias - 1e-6)),
        (
            replace(TINY, later=[linear([1.0, 1.0], [0.1, 0.1])]),
            replace(TINY, tables=TINY.tables * 2, later=[linear([1.0, 1.0], [0.1, 0.1])]),
        ),
        (
            replace(TINY, later=[linear([3.0, 4.0])]),
            replace(TINY, tables=-TINY.tables, later=[linear([3.0, 4.0])]),
        ),
        *(
            (
                replace(TINY, later=[linear([1.0, 1.0], [1.0, -1.0]), linear(row)]),
                replace(TINY, tables=TINY.tables * 2, later=[linear([1.0, 1.0], [1.0, -1.0]), linear(row)]),
            )
            for row in ([1.0, 0.0], [5.0, 0.0])
        ),
    ],
)
def test_the_bound_of_wrong_weights_is_reached(model: Network, stored: Network) -> None:
    """On networks in which one term is all there is: without it, the bound would be too small."""
    assert deviation(model, stored) <= bound(model, stored) * (1 + 1e-12)
    assert deviation(model, stored) == pytest.approx(bound(model, stored), rel=1e-6)


HADAMARD = np.array([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]) / 2
"""Keeps lengths."""


def test_signs_that_cannot_all_agree_cost_a_deep_network_little() -> None:
    """Through layers that keep lengths, a deviation keeps its length, however many there are."""
    later = [(HADAMARD, np.zeros(4))] * 6
    model = network(np.full((1, 2, 4), 1e-8), *later)
    stored = replace(model, tables=model.tables + 1e-6)
    assert deviation(model, stored) <= bound(model, stored) <= 2e-6 * 4 ** (6 / 16) * 1.001
    assert bound(model, stored) < 1e-6 * 2**6 / 10  # by absolute values alone


def test_largest_gain_is_just_above_the_largest_singular_value() -> None:
    rng = np.random.default_rng(0)
    for shape in ((1, 1), (5, 5), (200, 30), (30, 200), (100, 100)):
        weight = rng.standard_normal(shape) * 10.0 ** rng.integers(-9, 9)
        largest = np.linalg.norm(weight, 2)
        assert largest <= largest_gain(weight) <= largest * min(shape) ** (1 / 16) * 1.000001
    assert largest_gain(np.zeros((3, 4))) == 0
    blocks = rng.standard_normal((3, 5, 7)) * np.array([1, 9, 3])[:, None, None]  # of members, on a diagonal
    largest = np.linalg.norm(blocks[1], 2)
    assert largest <= largest_gain(blocks) <= largest * 5 ** (1 / 16) * 1.000001


def worst_float32(stored: Network) -> float:
    """Deviation of arithmetic that rounds up by 2^-24 in every operation, and whose tanh is off by the most.

    Of networks with positive weights, so that all errors add up; of the context of the last characters.
    """

    def rounded(terms: list[Array]) -> Array:
        total = terms[0] * (1 + UNIT)  # the product
        for term in terms[1:]:
            total = (total + term * (1 + UNIT)) * (1 + UNIT)
        return total

    exact = stored.tables[:, -1].sum(axis=0) + stored.bias
    x = rounded([*stored.tables[:, -1], stored.bias])
    for weight, bias in stored.later:
        exact = np.tanh(exact) @ weight.T + bias
        h = np.tanh(x) + TANH_ERROR
        x = rounded([*(weight * h).T, bias])
    return float(np.abs(x - exact).max())


@pytest.mark.parametrize(
    ("stored", "reached"),
    [
        (network(np.full((8, 2, 1), 1.0), bias=1.0, n_terms=9), 0.6),
        (network(np.full((8, 2, 1), 1e-9), bias=8.0, n_terms=9), 0.1),
        (network(np.full((1, 2, 9), 5.0), linear([1.0] * 9)), 0.4),
        (network(np.full((1, 2, 1), 5.0), linear([1e-3], bias=9.0)), 0.9),
        (network(np.full((1, 2, 1), 1.0), linear([1.0])), 0.8),
        (network(np.full((1, 2, 4), 1e-9), linear([1.0] * 4)), 0.6),
        (network(np.full((1, 2, 3), 1.0), linear(*[[0.5] * 3] * 3, bias=0.1), linear([1.0] * 3)), 0.5),
        (network(np.full((1, 2, 1), 1.0), linear([1.0], [1e-3])), 0.8),
    ],
    ids=["sum", "bias", "later sum", "later bias", "tanh", "four tanhs", "layers", "the worst logit"],
)
def test_the_bound_covers_arithmetic_that_always_rounds_up(stored: Network, reached: float) -> None:
    """And not by much: on each network another term of the bound is most of it."""
    rounding = certify_network(stored, stored).total
    assert certify_network(stored, stored).weights == 0
    assert reached * rounding < worst_float32(stored) <= rounding


def gamma(n: int) -> float:
    return n * 2**-24 / (1 - n * 2**-24)


def test_the_whole_bound_by_hand() -> None:
    """A network of one unit, whose every number is negative or varies from character to character."""
    weights = FoldedWeights(
        2,
        np.array([[1.0], [-3.0]]),
        [(np.array([[2.0, -5.0]]), np.array([-7.0]))],
        (np.array([[-4.0]]), np.array([-6.0])),
    )
    found = certify(weights, Network.from_weights(weights))

    first = gamma(3) * (3 * 2 + 3 * 5 + 7)
    last = gamma(2) * (4 * (1 + 2**-21) + 6)
    assert found.weights == 0
    assert found.total == pytest.approx(4 * (first + 2**-21) + last, rel=1e-12, abs=0)
    in_fused = Network(np.array([[[1.0], [-2.0]]]), np.zeros(1), np.array([[[1.0], [2.0]]]), 1, [])
    assert certify_network(in_fused, in_fused).total == pytest.approx(2 * gamma(1), rel=1e-12, abs=0)


def test_rounding_through_layers_that_keep_lengths_by_hand() -> None:
    stored = network(np.full((1, 2, 4), 1e-3), *[(HADAMARD, np.zeros(4))] * 6)
    length = 2 * gamma(1) * 1e-3
    own = gamma(5) * 2 * (1 + TANH_ERROR)  # of each of four units
    for _ in range(6):
        length += 2 * TANH_ERROR
        last = length + own  # each row has length 1
        length = largest_gain(HADAMARD) * length + 2 * own
    assert certify_network(stored, stored).total == pytest.approx(last, rel=1e-9, abs=0)


def test_units_that_a_logit_does_not_read_cost_it_nothing() -> None:
    """One is off by much, and has no weight: lengths alone would spread its error."""
    tables = np.array([[[1e-9, 1e4], [1e-9, -1e4]]])
    found = certify_network(network(tables, linear([5.0, 0.0])), network(tables, linear([5.0, 0.0])))
    assert found.total == pytest.approx(5 * 2**-21 + gamma(3) * 5 * (1 + 2**-21), rel=1e-6, abs=0)


def test_error_of_onnx_runtimes_tanh() -> None:
    """On four million arguments: evenly spaced ones where tanh bends, and all magnitudes."""
    g = GraphBuilder()
    g.output(g.Tanh(g.input("x", TensorProto.FLOAT, ["n"])), "y", TensorProto.FLOAT, ["n"])
    magnitudes = np.logspace(-30, 30, 1_000_000)
    arguments = np.concatenate([np.linspace(-12, 12, 2_000_000), magnitudes, -magnitudes]).astype(np.float32)
    [values] = open_graph(g.to_model()).run(None, {"x": arguments})
    assert np.abs(values - np.tanh(arguments.astype(np.float64))).max() < TANH_ERROR
