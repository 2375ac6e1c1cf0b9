"""A small language for writing ONNX graphs as Python: one method call, one node.

    g = GraphBuilder()
    x = g.input("x", TensorProto.FLOAT, ["n"])
    g.output(g.Mul(x, np.float32(2)), "y", TensorProto.FLOAT, ["n"])
    model = g.to_model()

A value is the name of a tensor, `str`; NumPy arrays and scalars become initializers where they are used, so
their dtype is the tensor's. The bodies of If and Loop are Python functions that see the values around them.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Value: TypeAlias = str
"""Name of a tensor in the graph."""
Operand: TypeAlias = "Value | NDArray[Any] | np.generic"
"""A tensor, or a constant that becomes one."""

OPSET, IR_VERSION = 18, 8
"""Read by ONNX Runtime 1.14 and newer, its web build and Triton."""
WEIGHT = "weight"
"""The names of the network's own numbers begin with it."""


class GraphBuilder:
    """Collects the nodes of one graph. `g.Gather(data, ids, axis=1)` adds a node and names its output.

    Args:
        parent: the graph around a body of If or Loop; constants live in the outermost graph.
    """

    def __init__(self, parent: "GraphBuilder | None" = None) -> None:
        self._root: GraphBuilder = self if parent is None else parent._root
        self._nodes: list[onnx.NodeProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._initializers: dict[tuple[str, str, tuple[int, ...], bytes], onnx.TensorProto] = {}
        self._counter: Iterator[int] = itertools.count() if parent is None else self._root._counter

    def __getattr__(self, operator: str) -> Callable[..., Value]:
        if not operator[0].isupper():
            raise AttributeError(operator)
        return lambda *operands, **attributes: self.node(operator, operands, 1, **attributes)[0]

    def node(
        self, operator: str, operands: Sequence[Operand], n_outputs: int, **attributes: Any
    ) -> list[Value]:
        """Add a node of `n_outputs` outputs. An operand "" leaves an optional input out."""
        inputs = [operand if isinstance(operand, str) else self.constant(operand) for operand in operands]
        outputs = [self._fresh(operator) for _ in range(n_outputs)]
        # Named: ONNX Runtime 1.20 makes fused nodes' names out of these, and refuses a name twice.
        self._nodes.append(helper.make_node(operator, inputs, outputs, name=outputs[0], **attributes))
        return outputs

    def constant(
        self, array: "NDArray[Any] | np.generic", stem: str = "constant", name: str | None = None
    ) -> Value:
        """An initializer; equal ones are stored once, under the first one's name."""
        array = np.asarray(array)
        key = (stem, array.dtype.str, array.shape, array.tobytes())
        stored = self._root._initializers
        if key not in stored:
            stored[key] = numpy_helper.from_array(array, name or self._fresh(stem))
        return stored[key].name

    def weight(self, array: NDArray[np.floating[Any]], name: str | None = None) -> Value:
        """An initializer of the network's own numbers, in float32. Its name says so: see `holds_weights`."""
        return self.constant(np.float32(array), WEIGHT, name)

    def input(self, name: str, dtype: int, shape: Sequence[int | str] | None) -> Value:
        """A graph input; a text in `shape` names a dynamic dimension, None leaves the shape open."""
        self._inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def output(self, value: Value, name: str, dtype: int, shape: Sequence[int | str]) -> None:
        """Make `value`, which a node of this graph gives, the graph output `name`."""
        for node in self._nodes:  # renamed, not copied by an Identity
            for names in (node.input, node.output):
                names[:] = [name if old == value else old for old in names]
        self._outputs.append(helper.make_tensor_value_info(name, dtype, list(shape)))

    def cast(self, value: Operand, dtype: type[np.generic]) -> Value:
        """`value` as another dtype."""
        return self.Cast(value, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def choose(
        self,
        condition: Value,
        then: "Callable[[GraphBuilder], Sequence[Operand]]",
        otherwise: "Callable[[GraphBuilder], Sequence[Operand]]",
    ) -> list[Value]:
        """If: only one branch runs. Each gets its own graph and gives the same number of values."""
        branches = []
        for build in (then, otherwise):
            g = GraphBuilder(self)
            branches.append(g._as_body("branch", build(g)))
        n_outputs = len(branches[0].output)
        return self.node("If", [condition], n_outputs, then_branch=branches[0], else_branch=branches[1])

    def loop(
        self,
        trips: Operand,
        condition: Operand,
        carried: Sequence[tuple[Operand, int]],
        body: "Callable[[GraphBuilder, Value, list[Value]], tuple[Value, Sequence[Value], Sequence[Value]]]",
    ) -> list[Value]:
        """Loop: while the condition holds, at most `trips` times.

        Args:
            trips: int64 ().
            condition: bool (), true to begin.
            carried: values handed from one iteration to the next, with their element types.
            body: from (graph, iteration int64 (), carried values) to (true to continue, carried values,
                values collected along a new first axis).

        Returns:
            The last carried values, then the collected ones (iterations, ...).
        """
        g = GraphBuilder(self)
        iteration = g.input(self._fresh("iteration"), TensorProto.INT64, [])
        g.input(self._fresh("go_on"), TensorProto.BOOL, [])  # always true: else no iteration
        values = [g.input(self._fresh("carried"), dtype, None) for _, dtype in carried]
        go_on, next_values, collected = body(g, iteration, values)
        assert len(next_values) == len(carried)
        graph = g._as_body("body", [go_on, *next_values, *collected])
        operands = [trips, condition, *(value for value, _ in carried)]
        return self.node("Loop", operands, len(graph.output) - 1, body=graph)

    def to_model(self) -> onnx.ModelProto:
        """The finished model, checked."""
        assert self._root is self
        graph = helper.make_graph(
            self._nodes, "makemore", self._inputs, self._outputs, list(self._initializers.values())
        )
        model = helper.make_model(
            graph,
            ir_version=IR_VERSION,
            opset_imports=[helper.make_opsetid("", OPSET)],
            producer_name="makemore_pl",
        )
        onnx.checker.check_model(model, full_check=True)
        return model

    def _as_body(self, name: str, values: Sequence[Operand]) -> onnx.GraphProto:
        """This graph as the body of an If or a Loop that hands out `values`."""
        # A body hands out only what its own nodes made, and nothing twice; else a copy.
        own = {output for node in self._nodes for output in node.output}
        made: list[Value] = []
        for value in values:
            fresh = isinstance(value, str) and value in own and value not in made
            made.append(value if fresh and isinstance(value, str) else self.Identity(value))
        infos = [helper.make_empty_tensor_value_info(value) for value in made]
        return helper.make_graph(self._nodes, self._fresh(name), self._inputs, infos)

    def _fresh(self, stem: str) -> str:
        return f"{stem.lower()}_{next(self._root._counter)}"


def holds_weights(tensor: onnx.TensorProto) -> bool:
    """True for numbers that were rounded from the network's, false for constants of the graph."""
    return tensor.name.startswith(WEIGHT)
