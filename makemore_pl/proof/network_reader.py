"""Reading a network back from a `model.onnx`, to bound its deviation from the trained one.

The graph is followed from its output to its input, and every node must be the one that the form has in that
place: a file that computes anything else, if only for one context, is refused.
"""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from makemore_pl.errors import VerificationError
from makemore_pl.graph.forms import Array, FoldedWeights
from makemore_pl.proof.certificate import Linears, Network


def read_network(model: onnx.ModelProto, block_size: int) -> Network:
    """The network in a file of form `mlp` or `fused`, float64.

    Args:
        model: as loaded from the file.
        block_size: T.

    Raises:
        VerificationError: the graph is not one that this project writes.
    """
    graph = _Graph(model.graph)
    linears: Linears = []
    node = graph.producer("logits")
    while True:
        # logits ← Gemm ← Tanh ← Gemm ← … ← Tanh ← first pre-activations
        inputs, linear = graph.linear(node)
        linears.insert(0, linear)
        tanh = graph.producer(inputs)
        if tanh.op_type == "Reshape":
            return Network.from_weights(_embedded(graph, tanh, linears, block_size))
        graph.expect(tanh, "Tanh")
        node = graph.producer(tanh.input[0])
        if node.op_type in ("Add", "Gather"):
            return _looked_up(graph, node, linears, block_size)


class _Graph:
    """Nodes by what they produce, and constants by name."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.constants: dict[str, NDArray[Any]] = {
            t.name: numpy_helper.to_array(t) for t in graph.initializer
        }
        self.producers = {name: node for node in graph.node for name in node.output}

    def producer(self, value: str) -> onnx.NodeProto:
        """The node that computes `value`; Identity is looked through."""
        node = self.producers.get(value)
        if node is None:
            raise VerificationError(f"the graph is no form of the network: nothing computes {value!r}")
        return self.producer(node.input[0]) if node.op_type == "Identity" else node

    def constant(self, name: str) -> NDArray[Any]:
        if name not in self.constants:
            raise VerificationError(f"the graph is no form of the network: {name!r} is no constant")
        return self.constants[name]

    def expect(self, node: onnx.NodeProto, operator: str, **attributes: float) -> None:
        """Check a node's operator and its attributes; those not given must be absent or as expected."""
        if node.op_type != operator or node.domain not in ("", "ai.onnx"):
            raise VerificationError(
                f"the graph is no form of the network: {node.op_type} where {operator} is due"
            )
        for attribute in node.attribute:
            value = onnx.helper.get_attribute_value(attribute)
            if attribute.name in attributes and value != attributes[attribute.name]:
                raise VerificationError(
                    f"the graph is no form of the network: {operator} with {attribute.name}={value}, "
                    f"{attributes[attribute.name]} is due"
                )

    def linear(self, node: onnx.NodeProto) -> tuple[str, tuple[Array, Array]]:
        """The input of a Gemm that is a Linear, and its weight (fan_out, fan_in) and bias (fan_out,)."""
        self.expect(node, "Gemm", alpha=1.0, beta=1.0, transA=0, transB=1)
        if not any(a.name == "transB" for a in node.attribute):
            raise VerificationError("the graph is no form of the network: Gemm without transB=1")
        weight = self.constant(node.input[1]).astype(np.float64)
        bias = (
            self.constant(node.input[2]).astype(np.float64) if len(node.input) > 2 else np.zeros(len(weight))
        )
        return node.input[0], (weight, bias)


def _embedded(graph: _Graph, reshape: onnx.NodeProto, linears: Linears, block_size: int) -> FoldedWeights:
    """Form mlp: Reshape ← Gather(embedding, context)."""
    gather = graph.producer(reshape.input[0])
    graph.expect(gather, "Gather", axis=0)
    embedding = graph.constant(gather.input[0]).astype(np.float64)
    shape = graph.constant(reshape.input[1]).tolist()
    fan_in = linears[0][0].shape[1]
    if gather.input[1] != "context" or shape != [-1, fan_in] or block_size * embedding.shape[1] != fan_in:
        raise VerificationError(
            "the graph is no form of the network: its embedding is not that of the context"
        )
    return FoldedWeights(block_size, embedding, linears[:-1], linears[-1])


def _looked_up(graph: _Graph, node: onnx.NodeProto, linears: Linears, block_size: int) -> Network:
    """Form fused: Add(… Add(Gather(table 1, id 1), Gather(table 2, id 2)) …, Gather(table T, id T))."""
    tables: dict[int, Array] = {}
    pending = [node]
    while pending:
        node = pending.pop()
        if node.op_type == "Add":
            pending += [graph.producer(value) for value in node.input]
            continue
        graph.expect(node, "Gather", axis=0)
        ids = graph.producer(node.input[1])
        graph.expect(ids, "Gather", axis=1)
        if ids.input[0] != "context" or len(ids.attribute) != 1:
            raise VerificationError(
                "the graph is no form of the network: a look-up of something else than the context"
            )
        position = int(graph.constant(ids.input[1]))
        if position in tables:
            raise VerificationError(
                f"the graph is no form of the network: position {position} is looked up twice"
            )
        tables[position] = graph.constant(node.input[0]).astype(np.float64)
    if sorted(tables) != list(range(block_size)):
        raise VerificationError(
            f"the graph is no form of the network: it looks up positions {sorted(tables)}"
        )
    stacked = np.stack([tables[position] for position in range(block_size)])  # (T, V, H)
    return Network(stacked, np.zeros(stacked.shape[2]), np.abs(stacked), block_size, linears)
