"""The language in which graphs are written: constants, bodies, versions."""

import numpy as np
import onnx
import pytest
from helpers import open_graph
from onnx import TensorProto, helper

from makemore_pl.graph.builder import GraphBuilder, Value, holds_weights


def test_any_onnx_runtime_from_1_14_on_reads_the_files() -> None:
    """It knows what ONNX 1.13 knows."""
    g = GraphBuilder()
    g.output(g.Neg(g.input("x", TensorProto.FLOAT, ["n"])), "y", TensorProto.FLOAT, ["n"])
    model = g.to_model()
    [opset] = model.opset_import
    assert ("1.13.0", model.ir_version, opset.version) in [row[:3] for row in helper.VERSION_TABLE]


def test_equal_constants_are_stored_once_and_others_apart() -> None:
    g = GraphBuilder()
    zeros = np.zeros(2)
    different = [
        g.constant(zeros),
        g.constant(zeros[:, None]),
        g.constant(zeros.astype(np.int64)),
        g.constant(zeros + 1),
        g.weight(zeros),
        g.constant(zeros.astype(np.float32)),
    ]
    assert len(set(different)) == 6
    assert GraphBuilder(g).constant(np.zeros(2)) == different[0]
    assert g.weight(np.zeros(2)) == different[4]
    value: Value = different[0]
    for other in different[1:]:
        value = g.Add(g.cast(value, np.float32), g.cast(other, np.float32))
    g.output(value, "y", TensorProto.FLOAT, [2, 2])
    stored = g.to_model().graph.initializer
    assert [tensor.name for tensor in stored] == different
    assert [holds_weights(tensor) for tensor in stored] == [name == different[4] for name in different]
    assert stored[4].data_type == TensorProto.FLOAT


def test_bodies_hand_out_what_stands_outside_of_them_and_one_value_twice() -> None:
    g = GraphBuilder()
    x = g.input("x", TensorProto.FLOAT, [])
    is_large = g.Greater(x, np.float32(10))

    def small(g: GraphBuilder) -> list[Value]:
        negative = g.Neg(x)
        return [negative, negative, g.Abs(negative)]

    chosen = g.choose(is_large, lambda g: [x, x, np.float32(7)], small)
    for i, value in enumerate(chosen):
        g.output(value, f"y{i}", TensorProto.FLOAT, [])
    session = open_graph(g.to_model())
    for number, due in ((11, [11, 11, 7]), (3, [-3, -3, 3])):
        assert session.run(None, {"x": np.array(number, np.float32)}) == due


@pytest.mark.parametrize(("trips", "start"), [(5, 3), (5, 40), (0, 3), (2, 3)])
def test_a_loop_runs_until_its_condition_ends_it_or_its_trips_are_over(trips: int, start: int) -> None:
    """Doubles a number while it is below 50."""
    g = GraphBuilder()
    n, first = g.input("n", TensorProto.INT64, []), g.input("first", TensorProto.INT64, [])

    def body(g: GraphBuilder, i: Value, carried: list[Value]) -> tuple[Value, list[Value], list[Value]]:
        [number] = carried
        doubled = g.Mul(number, np.int64(2))
        return g.Less(doubled, np.int64(50)), [doubled], [i, number]

    outputs = g.loop(n, np.bool_(True), [(first, TensorProto.INT64)], body)
    for i, (value, shape) in enumerate(zip(outputs, ([], ["k"], ["k"]), strict=True)):
        g.output(value, f"y{i}", TensorProto.INT64, shape)
    last, numbers, before = open_graph(g.to_model()).run(
        None, {"n": np.array(trips), "first": np.array(start)}
    )
    due = []
    number = start
    while len(due) < trips and (not due or number < 50):
        due.append(number)
        number *= 2
    assert (int(last), numbers.tolist(), before.tolist()) == (number, list(range(len(due))), due)


def test_what_is_no_graph_and_what_is_no_operator() -> None:
    g = GraphBuilder()
    with pytest.raises(AttributeError, match="relu"):
        g.relu  # noqa: B018
    g.output(g.Neg(g.input("x", TensorProto.FLOAT, [2])), "y", TensorProto.FLOAT, [3])
    with pytest.raises(onnx.shape_inference.InferenceError):
        g.to_model()
