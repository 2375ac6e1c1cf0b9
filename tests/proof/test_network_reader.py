"""A file must be the graph that is written for its weights: one other node or number, and it is refused."""

import copy
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from helpers import trained_like
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from makemore_pl.errors import ModelFileError, VerificationError
from makemore_pl.exported.metadata import FORMS, Form, ModelInfo
from makemore_pl.graph.builder import GraphBuilder
from makemore_pl.graph.forms import build_model
from makemore_pl.graph.sampler_graph import build_sampler
from makemore_pl.model.fold import fold
from makemore_pl.model.folded_weights import FoldedWeights, FormError
from makemore_pl.model.network import BatchNormMLP
from makemore_pl.proof.certificate import Network
from makemore_pl.proof.network_reader import (
    StoredFile,
    expect_same_graph,
    form_of,
    read_stored,
    stored_network,
)


def folded(block_size: int = 3, n_hidden: int = 40, n_layers: int = 2, **options: int) -> torch.nn.Sequential:
    torch.manual_seed(block_size)
    model = BatchNormMLP(
        11, block_size, n_hidden=n_hidden, n_layers=n_layers, output_gain=0.2, init_seed=1, **options
    )
    return fold(trained_like(model).layers)


WEIGHTS = FoldedWeights.from_layers(folded())
CODEPOINTS = np.arange(11, dtype=np.int32)


def model(form: Form = "mlp") -> onnx.ModelProto:
    return build_model(WEIGHTS, form)


def sampler(form: Form) -> onnx.ModelProto:
    return build_sampler(WEIGHTS, form, CODEPOINTS)


def expect_refused(written: onnx.ModelProto, change: Callable[[onnx.ModelProto], object]) -> None:
    """A changed copy is refused."""
    stored = copy.deepcopy(written)
    change(stored)
    with pytest.raises(VerificationError, match="file is not the trained model"):
        expect_same_graph(stored, written, "file")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("build", [model, sampler])
def test_the_same_graph_passes_with_other_metadata(
    build: Callable[[Form], onnx.ModelProto], form: Form
) -> None:
    stored = build(form)
    helper.set_model_props(stored, {"note": "other"})
    expect_same_graph(stored, build(form), "file")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("build", [model, sampler])
def test_the_form_is_found_whatever_a_file_claims(
    build: Callable[[Form], onnx.ModelProto], form: Form
) -> None:
    for claimed in FORMS:
        info = ModelInfo("abc", 3, 10, 40, 2, 5_000, claimed, 8, "names", "0", "0")
        assert form_of(StoredFile(Path("file"), b"", build(form), info), build) == form
        other = build(form)
        other.graph.node[-1].op_type = "Exploit"
        with pytest.raises(VerificationError, match="file is not the trained model: its graph is another"):
            form_of(StoredFile(Path("file"), b"", other, info), build)


def test_a_form_that_does_not_suit_the_network_is_left_out() -> None:
    def write(form: Form) -> onnx.ModelProto:
        if form == "table":
            raise FormError("too many contexts")
        return model(form)

    info = ModelInfo("abc", 3, 10, 40, 2, 5_000, "table", 8, "names", "0", "0")
    assert form_of(StoredFile(Path("file"), b"", model("fused"), info), write) == "fused"
    with pytest.raises(VerificationError, match="file is not the trained model"):
        form_of(StoredFile(Path("file"), b"", model("table"), info), write)


def test_the_form_that_a_file_claims_is_tried_first_and_the_error_is_its_own() -> None:
    for claimed in FORMS:
        info = ModelInfo("abc", 3, 10, 40, 2, 5_000, claimed, 8, "names", "0", "0")
        tried: list[Form] = []

        def write(form: Form, tried: list[Form] = tried) -> onnx.ModelProto:
            tried.append(form)
            return model(form)

        assert form_of(StoredFile(Path("file"), b"", model(claimed), info), write) == claimed
        assert tried == [claimed]
        wrong = model(claimed)
        wrong.graph.node[-1].op_type = "Exploit"
        with pytest.raises(VerificationError, match=f"at node '{wrong.graph.node[-1].name}'"):
            form_of(StoredFile(Path("file"), b"", wrong, info), write)


@pytest.mark.parametrize("kind", ["model", "sampler"])
def test_a_file_is_read_with_its_kind_and_what_it_says(tmp_path: Path, kind: str) -> None:
    graph = model("mlp") if kind == "model" else sampler("mlp")
    info = ModelInfo("abcdefghij", 3, 10, 40, 2, 5_000, "mlp", 8, "names", "0" * 64, "0" * 16)
    helper.set_model_props(graph, info.to_metadata())
    content = graph.SerializeToString()
    (tmp_path / "file").write_bytes(content)
    found = read_stored(tmp_path / "file")
    assert found == StoredFile(tmp_path / "file", content, graph, info)
    assert found.is_sampler == (kind == "sampler")
    (tmp_path / "file").write_bytes(content[:-1])
    with pytest.raises(ModelFileError, match="not a readable ONNX model"):
        read_stored(tmp_path / "file")


def expect_same_network(found: Network, expected: Network) -> None:
    for ours, theirs in zip(found.tables + found.sizes, expected.tables + expected.sizes, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(found.bias, expected.bias)
    assert found.n_terms == expected.n_terms
    for linear, due in zip(found.later, expected.later, strict=True):
        for ours, theirs in zip(linear, due, strict=True):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("n_layers", [1, 2, 3])
@pytest.mark.parametrize("options", [{}, {"n_labels": 3}, {"n_members": 4}], ids=str)
def test_the_network_that_a_file_stores(n_layers: int, options: dict[str, int]) -> None:
    """All its numbers, rounded to float32, each in its place."""
    weights = FoldedWeights.from_layers(folded(n_layers=n_layers, **options))

    def rounded(*arrays: NDArray[np.float64]) -> list[NDArray[np.float64]]:
        return [array.astype(np.float32).astype(np.float64) for array in arrays]

    linears = [tuple(rounded(*linear)) for linear in weights.linears]
    stored = FoldedWeights(
        3,
        *rounded(weights.embedding),
        linears[:-1],  # type: ignore[arg-type]
        linears[-1],  # type: ignore[arg-type]
        options.get("n_labels", 0),
    )
    expect_same_network(
        stored_network(build_model(weights, "mlp"), weights, "mlp"), Network.from_weights(stored)
    )
    (first_table, *tables), bias = weights.position_tables()
    tables = rounded(first_table + bias, *tables)
    due = Network(tables, np.zeros(len(bias)), [np.abs(table) for table in tables], len(tables), linears[1:])  # type: ignore[arg-type]
    expect_same_network(stored_network(build_model(weights, "fused"), weights, "fused"), due)


def other_last_numbers(numbers: NDArray[Any]) -> list[object]:
    if not numbers.size:
        return []  # an empty constant has but its shape
    number = numbers.reshape(-1)[-1]
    if number.dtype.kind == "f":
        return [np.nan, 0.0 if np.isinf(number) else number + number.dtype.type(1e-3)]
    return [not number] if number.dtype.kind == "b" else [number ^ 1]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("build", [model, sampler])
def test_every_constant_is_compared(build: Callable[[Form], onnx.ModelProto], form: Form) -> None:
    """The sampler's characters and limits among them, and those of branches that hardly ever run."""
    written = build(form)
    for i, tensor in enumerate(written.graph.initializer):
        numbers = numpy_helper.to_array(tensor)
        for wrong in other_last_numbers(numbers):
            changed = numbers.copy()
            changed.reshape(-1)[-1] = wrong
            replacement = numpy_helper.from_array(changed, tensor.name)
            expect_refused(written, lambda m, i=i, new=replacement: m.graph.initializer[i].CopyFrom(new))  # type: ignore[misc]


def test_only_the_neighbour_of_a_weight_may_stand_for_it() -> None:
    """Another machine may round it the other way; a constant of the graph is no weight."""
    written = sampler("mlp")
    tensors = written.graph.initializer
    weight = max(range(len(tensors)), key=lambda i: len(tensors[i].raw_data))
    constants = [
        i for i, t in enumerate(tensors) if t.data_type == TensorProto.FLOAT and t.name.startswith("constant")
    ]
    assert {len(tensors[i].dims) for i in constants} == {0, 2}

    def with_steps(i: int, steps: int) -> onnx.ModelProto:
        stored = copy.deepcopy(written)
        numbers = numpy_helper.to_array(tensors[i]).copy()
        for _ in range(abs(steps)):
            numbers[...] = np.nextafter(numbers, np.float32(np.copysign(np.inf, steps)))
        stored.graph.initializer[i].CopyFrom(numpy_helper.from_array(numbers, tensors[i].name))
        return stored

    expect_same_graph(with_steps(weight, 1), written, "file")
    for stored in (with_steps(weight, 2), with_steps(weight, -2), *(with_steps(i, -1) for i in constants)):
        with pytest.raises(VerificationError, match="is not the trained model"):
            expect_same_graph(stored, written, "file")


def test_every_weight_is_compared_with_its_own_rounding() -> None:
    """The smallest number off by 1e-9, however large the others are."""
    written = model("mlp")
    for i, tensor in enumerate(written.graph.initializer):
        numbers = numpy_helper.to_array(tensor)
        if tensor.data_type != TensorProto.FLOAT:
            continue
        smallest = int(np.abs(numbers).argmin())
        changed = numbers.copy()
        more = changed.reshape(-1)[smallest] + np.float32(1e-9)
        changed.reshape(-1)[smallest] = np.nextafter(np.nextafter(more, np.float32(9)), np.float32(9))
        replacement = numpy_helper.from_array(changed, tensor.name)
        expect_refused(written, lambda m, i=i, new=replacement: m.graph.initializer[i].CopyFrom(new))  # type: ignore[misc]


def of_weights(*numbers: float) -> onnx.ModelProto:
    g = GraphBuilder()
    total = g.Add(g.weight(np.array(numbers)), g.input("x", TensorProto.FLOAT, []))
    g.output(total, "y", TensorProto.FLOAT, [len(numbers)])
    return g.to_model()


INFINITE, NO_NUMBER = float("inf"), float("nan")


@pytest.mark.parametrize(
    ("due", "stored"),
    [
        ((0.0, 1.0), (2**-44, 1.0)),  # of the largest number
        ((0.0, -1.0), (-(2**-44), -1.0)),
        ((0.0, 2**-4), (2**-48, 2**-4)),
        ((0.0, INFINITE, 1.0), (2**-44, INFINITE, 1.0)),
        ((0.0, 2**-149), (2**-149, 2**-148)),  # the next number
        ((-1.0, -1e30), (-1.0, -1e30 * (1 + 2**-23))),
    ],
)
def test_how_far_a_weight_may_be_off(due: tuple[float, ...], stored: tuple[float, ...]) -> None:
    """By 2^-44 of the largest number, or by one step of float32, and no step more."""
    expect_same_graph(of_weights(*stored), of_weights(*due), "file")
    if due[-1] != stored[-1]:
        return
    beyond = np.nextafter(np.float32(stored[0]), np.float32(9 * np.sign(stored[0])))
    with pytest.raises(VerificationError, match=r"where 0 is due, at \[0\] of"):
        expect_same_graph(of_weights(float(beyond), *stored[1:]), of_weights(*due), "file")


@pytest.mark.parametrize(
    ("due", "stored"),
    [
        ((1.0, INFINITE), (2.0, INFINITE)),  # nothing is near because something is infinite
        ((1.0, INFINITE), (1.0, 3e38)),
        ((1.0, 3e38), (1.0, INFINITE)),
        ((1.0, INFINITE), (1.0, -INFINITE)),
        ((1.0, 2.0), (NO_NUMBER, 2.0)),
        ((1.0, INFINITE), (1.0, NO_NUMBER)),
    ],
)
def test_infinite_weights_are_compared(due: tuple[float, ...], stored: tuple[float, ...]) -> None:
    expect_same_graph(of_weights(*due), of_weights(*due), "file")
    with pytest.raises(VerificationError, match="file is not the trained model: by its weights"):
        expect_same_graph(of_weights(*stored), of_weights(*due), "file")


def test_numbers_of_another_size_are_refused() -> None:
    def shorter(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[0]
        tensor.raw_data = tensor.raw_data[:-4]

    expect_refused(model("mlp"), shorter)


def test_fields_that_onnx_does_not_know_are_refused() -> None:
    """ONNX Runtime might."""
    written = model("mlp")
    stored = onnx.load_from_string(written.SerializeToString() + b"\xc0\x0c\x05")  # field 200, number 5
    with pytest.raises(VerificationError, match="its graph is another one"):
        expect_same_graph(stored, written, "file")


def first(model: onnx.ModelProto, operator: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.op_type == operator)


def other_operator(model: onnx.ModelProto) -> None:
    first(model, "Tanh").op_type = "Sin"


def scaled_linear(model: onnx.ModelProto) -> None:
    first(model, "Gemm").attribute.append(helper.make_attribute("alpha", 1.001))


def planted_detector(model: onnx.ModelProto) -> None:
    """The right weights, and a node that would change the logits after one context only."""
    tanh = first(model, "Tanh")
    model.graph.node.insert(0, helper.make_node("ReduceMax", [tanh.input[0]], ["largest"], keepdims=1))
    model.graph.node.append(helper.make_node("Mul", [tanh.output[0], "largest"], ["bent"]))
    [*_, last] = [node for node in model.graph.node if node.op_type == "Gemm"]
    last.input[0] = "bent"


def own_meaning_of_an_operator(model: onnx.ModelProto) -> None:
    body = helper.make_node("Sin", ["x"], ["y"])
    opset = [helper.make_opsetid("", 18)]
    model.functions.append(helper.make_function("", "Tanh", ["x"], ["y"], [body], opset))


def same_position_twice(model: onnx.ModelProto) -> None:
    ids = [node for node in model.graph.node if node.input[0] == "context"]
    ids[1].input[1] = ids[0].input[1]


def hidden_in_a_branch(model: onnx.ModelProto) -> None:
    branch = first(model, "If").attribute[0].g
    branch.node[-1].op_type = "Neg"


@pytest.mark.parametrize(
    ("written", "change"),
    [
        *itertools.product(
            [model("mlp"), model("fused")],
            [other_operator, scaled_linear, planted_detector, own_meaning_of_an_operator],
        ),
        (model("fused"), same_position_twice),
        *((sampler(form), hidden_in_a_branch) for form in FORMS),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_graph_that_does_anything_else_is_refused(
    written: onnx.ModelProto, change: Callable[[onnx.ModelProto], object]
) -> None:
    expect_refused(written, change)


def test_another_form_or_size_is_found() -> None:
    """The form that the metadata claims decides nothing."""
    for form, claimed in itertools.permutations(FORMS, 2):
        with pytest.raises(VerificationError, match="its graph is another one"):
            expect_same_graph(model(form), model(claimed), "file")
    for form, other in itertools.product(FORMS, (folded(n_hidden=41), folded(block_size=2))):
        graph = build_model(FoldedWeights.from_layers(other), form)
        with pytest.raises(VerificationError, match="file is not the trained model"):
            expect_same_graph(graph, model(form), "file")
