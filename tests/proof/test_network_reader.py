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

from makemore_pl.errors import VerificationError
from makemore_pl.exported.metadata import FORMS, Form, ModelInfo
from makemore_pl.graph.forms import build_model
from makemore_pl.graph.sampler_graph import build_sampler
from makemore_pl.model.fold import fold
from makemore_pl.model.folded_weights import FoldedWeights, FormError
from makemore_pl.model.network import BatchNormMLP
from makemore_pl.proof.network_reader import StoredFile, expect_same_graph, form_of


def folded(block_size: int = 3, n_hidden: int = 40) -> torch.nn.Sequential:
    torch.manual_seed(block_size)
    model = BatchNormMLP(11, block_size, n_hidden=n_hidden, n_layers=2, output_gain=0.2)
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
