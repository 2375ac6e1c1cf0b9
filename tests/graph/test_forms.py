"""`model.onnx` in all its forms, beside NumPy and PyTorch's own exporter, and in ONNX Runtime's quantizer."""

import itertools
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from helpers import open_graph, trained_like
from numpy.typing import NDArray
from onnxruntime.quantization import quantize_dynamic
from torch import nn

from makemore_pl.exported.metadata import FORMS, Form
from makemore_pl.graph.builder import OPSET
from makemore_pl.graph.forms import build_model
from makemore_pl.model.fold import fold
from makemore_pl.model.folded_weights import FoldedWeights, FormError
from makemore_pl.model.network import BatchNormMLP

CONTEXTS = np.array(list(itertools.product(range(11), repeat=3)))


def folded_layers() -> nn.Sequential:
    torch.manual_seed(3)
    return fold(trained_like(BatchNormMLP(11, 3, n_hidden=40, n_layers=2, output_gain=0.2)).layers)


def to_onnx(module: nn.Module) -> onnx.ModelProto:
    """The file of PyTorch's own exporter."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside the exporter, none about the model
        program = torch.onnx.export(
            module,
            (torch.zeros((2, 3), dtype=torch.int64),),
            dynamo=True,
            input_names=["context"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    return program.model_proto


def op_types(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def logits_of(model: onnx.ModelProto) -> NDArray[np.float32]:
    logits: NDArray[np.float32] = open_graph(model).run(["logits"], {"context": CONTEXTS})[0]
    return logits


def test_form_mlp_is_what_pytorchs_exporter_writes() -> None:
    """The same operators, and the same logits after every context."""
    folded = folded_layers()
    ours, theirs = build_model(FoldedWeights.from_layers(folded), "mlp"), to_onnx(folded.float())
    assert op_types(ours) == op_types(theirs) == ["Gather", "Reshape", *["Gemm", "Tanh"] * 2, "Gemm"]
    for mine, pytorchs in ((ours.graph.input, theirs.graph.input), (ours.graph.output, theirs.graph.output)):
        assert [value.name for value in mine] == [value.name for value in pytorchs]
        assert [value.type for value in mine] == [value.type for value in pytorchs]
    np.testing.assert_array_equal(logits_of(ours), logits_of(theirs))


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_folded_networks_logits(form: Form) -> None:
    folded = folded_layers()
    model = build_model(FoldedWeights.from_layers(folded), form)
    with torch.no_grad():
        expected = folded(torch.from_numpy(CONTEXTS)).numpy()
    logits = logits_of(model)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(open_graph(model).run(None, {"context": CONTEXTS[:1]})[0], logits[:1])


@pytest.mark.parametrize("form", ["mlp", "fused"])
def test_onnx_runtimes_quantizer_takes_the_file(tmp_path: Path, form: Form) -> None:
    model = build_model(FoldedWeights.from_layers(folded_layers()), form)
    assert not {tensor.name for tensor in model.graph.initializer} & {v.name for v in model.graph.value_info}
    onnx.save(model, tmp_path / "model.onnx")
    quantize_dynamic(tmp_path / "model.onnx", tmp_path / "quantized.onnx")
    quantized = onnx.load(tmp_path / "quantized.onnx")
    assert "MatMulInteger" in op_types(quantized)
    expected = logits_of(model)
    assert np.abs(logits_of(quantized) - expected).max() < 0.05 * np.abs(expected).max()


def test_the_numbers_of_a_folded_network() -> None:
    folded = folded_layers()
    weights = FoldedWeights.from_layers(folded)
    assert (weights.vocab_size, weights.block_size, weights.n_contexts) == (11, 3, 11**3)
    assert [weight.shape for weight, _ in weights.linears] == [(40, 30), (40, 40), (11, 40)]
    with torch.no_grad():
        expected = folded(torch.from_numpy(CONTEXTS)).numpy()
    np.testing.assert_allclose(weights.logits(CONTEXTS), expected, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(weights.table, weights.logits(CONTEXTS).astype(np.float32))
    np.testing.assert_array_equal(weights.space.numbers(CONTEXTS), np.arange(11**3))
    tables, bias = weights.position_tables()
    first, first_bias = weights.hidden[0]
    np.testing.assert_allclose(
        sum(tables[t][CONTEXTS[:, t]] for t in range(3)) + bias,
        weights.embedding[CONTEXTS].reshape(-1, 30) @ first.T + first_bias,
        rtol=0,
        atol=1e-12,
    )


def test_layers_that_no_graph_is_built_of() -> None:
    with pytest.raises(FormError, match="norm_1: a BatchNorm1d where Tanh was expected"):
        FoldedWeights.from_layers(BatchNormMLP(27, 3).eval().layers)
    folded = folded_layers()
    folded.add_module("extra", nn.ReLU())
    with pytest.raises(FormError, match="extra: a ReLU where"):
        FoldedWeights.from_layers(folded)


def test_a_table_that_is_too_large() -> None:
    weights = FoldedWeights(6, np.zeros((27, 1)), [], (np.zeros((27, 6)), np.zeros(27)))
    with pytest.raises(FormError, match=r"27\^6 \* 27 = 10,460,353,203 logits"):
        build_model(weights, "table")
