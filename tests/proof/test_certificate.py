"""The bound holds, and is not far off."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import open_graph, trained_like
from onnx import TensorProto

from makemore_pl.graph.builder import GraphBuilder
from makemore_pl.graph.forms import build_model
from makemore_pl.model.fold import fold
from makemore_pl.model.folded_weights import FoldedWeights
from makemore_pl.model.network import BatchNormMLP
from makemore_pl.proof.certificate import TANH_ERROR, Network, certify, first_deviation
from makemore_pl.proof.network_reader import stored_network
from makemore_pl.runtime.metadata import Form


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
    wrong = replace(network, tables=network.tables * (1 + 1e-7))
    assert first_deviation(network, wrong)[0] == pytest.approx(expected, rel=1e-6)


def test_error_of_onnx_runtimes_tanh() -> None:
    """On four million arguments: evenly spaced ones where tanh bends, and all magnitudes."""
    g = GraphBuilder()
    g.output(g.Tanh(g.input("x", TensorProto.FLOAT, ["n"])), "y", TensorProto.FLOAT, ["n"])
    magnitudes = np.logspace(-30, 30, 1_000_000)
    arguments = np.concatenate([np.linspace(-12, 12, 2_000_000), magnitudes, -magnitudes]).astype(np.float32)
    [values] = open_graph(g.to_model()).run(None, {"x": arguments})
    assert np.abs(values - np.tanh(arguments.astype(np.float64))).max() < TANH_ERROR
