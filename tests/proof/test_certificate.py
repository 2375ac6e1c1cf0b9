"""The bound holds, is not far off, and notices a wrong weight that no compared context would show."""

import copy
import itertools
from dataclasses import replace

import numpy as np
import onnxruntime as ort
import pytest
import torch
from helpers import trained_like
from onnx import TensorProto, helper

from makemore_pl.errors import VerificationError
from makemore_pl.graph.forms import FoldedWeights, Form, build_model
from makemore_pl.graph.onnx_file import IR_VERSION, OPSET, to_onnx
from makemore_pl.model.fold import fold
from makemore_pl.model.network import BatchNormMLP
from makemore_pl.proof.certificate import TANH_ERROR, Network, certify
from makemore_pl.proof.network_reader import read_network


def folded(vocab_size: int = 11, block_size: int = 3, n_layers: int = 1, n_hidden: int = 40) -> BatchNormMLP:
    torch.manual_seed(block_size * 10 + n_layers)
    model = BatchNormMLP(vocab_size, block_size, n_hidden=n_hidden, n_layers=n_layers, output_gain=0.2)
    return fold(trained_like(model))


def stored(model: BatchNormMLP, form: Form) -> tuple[Network, ort.InferenceSession]:
    """A file's network as read back from it, and the file under ONNX Runtime."""
    weights = FoldedWeights.from_model(model)
    graph = to_onnx(copy.deepcopy(model).float()) if form == "mlp" else build_model(weights, form)
    session = ort.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    return read_network(graph, model.block_size), session


@pytest.mark.parametrize("n_layers", [1, 2, 3])
@pytest.mark.parametrize("block_size", [3, 8])
@pytest.mark.parametrize("form", ["mlp", "fused"])
def test_no_logit_deviates_by_more_than_the_bound(form: Form, block_size: int, n_layers: int) -> None:
    model = folded(block_size=block_size, n_layers=n_layers)
    weights = FoldedWeights.from_model(model)
    network, session = stored(model, form)
    certificate = certify(weights, network)
    if block_size == 3:
        contexts = np.array(list(itertools.product(range(11), repeat=3)))
    else:
        contexts = np.random.default_rng(0).integers(11, size=(50_000, 8))
    [logits] = session.run(["logits"], {"context": contexts})
    observed = np.abs(logits - weights.logits(contexts)).max()
    assert observed <= certificate.total
    assert certificate.weights <= certificate.limit
    # Not a bound that holds because it says nothing: each layer multiplies it by its weights' absolute sums,
    # most of which cancels in a real context.
    assert certificate.total < observed * 1_000 * 20 ** (n_layers - 1)


def test_the_first_layers_part_is_exact() -> None:
    """With one hidden unit, an output weight of 1 and a tiny change the bound is the deviation itself."""
    model = folded(n_hidden=1)
    weights = FoldedWeights.from_model(model)
    embedding, (weight, bias) = weights.embedding, weights.hidden[0]
    changed = replace(
        Network.from_weights(weights), tables=Network.from_weights(weights).tables * (1 + 1e-7), bias=bias
    )
    from makemore_pl.proof.certificate import _first_deviation

    contexts = np.array(list(itertools.product(range(11), repeat=3)))
    z = embedding[contexts].reshape(len(contexts), -1) @ weight.T
    expected = np.abs(z * 1e-7).max()
    assert _first_deviation(Network.from_weights(weights), changed)[0] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("part", ["embedding", "first weight", "first bias", "later weight", "output bias"])
@pytest.mark.parametrize("change", [1e-3, -1e-3, np.nan])
def test_one_wrong_weight_is_found(part: str, change: float) -> None:
    """Block size 8: no number of compared contexts could promise to meet the changed character."""
    model = folded(block_size=8, n_layers=2)
    weights = FoldedWeights.from_model(model)
    wrong = copy.deepcopy(model).float()
    with torch.no_grad():
        tensor = {
            "embedding": wrong.layers.embedding.weight,
            "first weight": wrong.layers.linear_1.weight,
            "first bias": wrong.layers.linear_1.bias,
            "later weight": wrong.layers.linear_2.weight,
            "output bias": wrong.layers.output.bias,
        }[part]
        tensor.view(-1)[-1] += change
    with pytest.raises(VerificationError, match="is not the trained model: by its weights"):
        certify(weights, read_network(to_onnx(wrong), 8))


def test_another_shape_is_found() -> None:
    weights = FoldedWeights.from_model(folded())
    with pytest.raises(VerificationError, match="shapes"):
        certify(weights, Network.from_weights(FoldedWeights.from_model(folded(n_hidden=41))))


def test_a_graph_with_other_operators_is_refused() -> None:
    graph = to_onnx(folded().float())
    tanh = next(node for node in graph.graph.node if node.op_type == "Tanh")
    tanh.op_type = "Sin"
    with pytest.raises(VerificationError, match="Sin"):
        read_network(graph, 3)


def test_a_linear_that_is_scaled_is_refused() -> None:
    graph = to_onnx(folded().float())
    gemm = next(node for node in graph.graph.node if node.op_type == "Gemm")
    for attribute in gemm.attribute:
        if attribute.name == "alpha":
            attribute.f = 1.001
    with pytest.raises(VerificationError, match="Gemm with alpha"):
        read_network(graph, 3)


@pytest.mark.parametrize("form", ["mlp", "fused"])
def test_a_graph_that_does_anything_else_is_refused(form: Form) -> None:
    """The right weights, and a node that would change the logits after one context only."""
    model = folded()
    graph = (
        to_onnx(copy.deepcopy(model).float())
        if form == "mlp"
        else build_model(FoldedWeights.from_model(model), form)
    )
    network = graph.graph
    tanh = next(node for node in network.node if node.op_type == "Tanh")
    network.node.insert(0, helper.make_node("ReduceMax", [tanh.input[0]], ["largest"], keepdims=1))
    network.node.append(helper.make_node("Mul", [tanh.output[0], "largest"], ["bent"]))
    gemm = [node for node in network.node if node.op_type == "Gemm"][-1]
    gemm.input[0] = "bent"
    with pytest.raises(VerificationError, match="Mul where Tanh is due"):
        read_network(graph, 3)


def test_look_ups_of_the_wrong_position_are_refused() -> None:
    graph = build_model(FoldedWeights.from_model(folded()), "fused")
    ids = [node for node in graph.graph.node if node.op_type == "Gather" and node.input[0] == "context"]
    ids[1].input[1] = ids[0].input[1]
    with pytest.raises(VerificationError, match="looked up twice"):
        read_network(graph, 3)


def test_error_of_onnx_runtimes_tanh() -> None:
    """On four million arguments: evenly spaced ones where tanh bends, and all magnitudes."""
    node = helper.make_node("Tanh", ["x"], ["y"])
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in "xy")
    model = helper.make_model(
        helper.make_graph([node], "tanh", [x], [y]),
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
    )
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    magnitudes = np.logspace(-30, 30, 1_000_000)
    arguments = np.concatenate([np.linspace(-12, 12, 2_000_000), magnitudes, -magnitudes]).astype(np.float32)
    [values] = session.run(None, {"x": arguments})
    assert np.abs(values - np.tanh(arguments.astype(np.float64))).max() < TANH_ERROR
