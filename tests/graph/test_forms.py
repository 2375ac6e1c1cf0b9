"""`model.onnx` in all its forms, beside NumPy and PyTorch's own exporter, and in ONNX Runtime's quantizer."""

import copy
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
from makemore_pl.model.members import BlockLinear
from makemore_pl.model.network import BatchNormMLP

CONTEXTS = np.array(list(itertools.product(range(11), repeat=3)))


def folded_layers(n_members: int = 1) -> nn.Sequential:
    torch.manual_seed(3)
    model = BatchNormMLP(11, 3, n_hidden=40, n_layers=2, output_gain=0.2, n_members=n_members)
    return fold(trained_like(model).layers)


def op_types(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def logits_of(model: onnx.ModelProto) -> NDArray[np.float32]:
    logits: NDArray[np.float32] = open_graph(model).run(["logits"], {"context": CONTEXTS})[0]
    return logits


@pytest.mark.parametrize("n_members", [1, 3])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_folded_networks_logits(form: Form, n_members: int) -> None:
    folded = folded_layers(n_members)
    model = build_model(FoldedWeights.from_layers(folded), form)
    with torch.no_grad():
        expected = folded(torch.from_numpy(CONTEXTS)).numpy()
    logits = logits_of(model)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5)
    [one] = open_graph(model).run(None, {"context": CONTEXTS[:1]})
    # ONNX Runtime adds up the products of blocks in another order for a single row.
    np.testing.assert_allclose(one, logits[:1], rtol=0, atol=0 if n_members == 1 else 1e-6)


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
    assert [weight.shape for weight, _ in weights.linears] == [(40, 72), (40, 40), (11, 40)]
    with torch.no_grad():
        expected = folded(torch.from_numpy(CONTEXTS)).numpy()
    np.testing.assert_allclose(weights.logits(CONTEXTS), expected, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(weights.table, weights.logits(CONTEXTS).astype(np.float32))
    np.testing.assert_array_equal(weights.space.numbers(CONTEXTS), np.arange(11**3))
    tables, bias = weights.position_tables()
    first, first_bias = weights.hidden[0]
    np.testing.assert_allclose(
        sum(tables[t][CONTEXTS[:, t]] for t in range(3)) + bias,
        weights.embedding[CONTEXTS].reshape(-1, 72) @ first.T + first_bias,
        rtol=0,
        atol=1e-12,
    )


@pytest.mark.parametrize("n_labels", [0, 1, 2])
def test_layers_in_float32_are_read_in_float64(n_labels: int) -> None:
    layers = BatchNormMLP(11, 3, n_hidden=40, batch_norm=False, n_labels=n_labels).layers.eval()
    weights = FoldedWeights.from_layers(layers)
    labels = 11 + CONTEXTS[:, : n_labels > 0] % max(n_labels, 1)
    contexts = np.concatenate([labels, CONTEXTS], axis=1)
    with torch.no_grad():
        expected = layers.double()(torch.from_numpy(contexts)).numpy()
    assert (weights.vocab_size, weights.block_size, weights.n_labels) == (11, 3, n_labels)
    assert {array.dtype for linear in weights.linears for array in linear} == {np.dtype(np.float64)}
    np.testing.assert_allclose(weights.logits(contexts), expected, rtol=0, atol=1e-12)


def test_layers_that_no_graph_is_built_of() -> None:
    with pytest.raises(FormError, match="norm_1: a BatchNorm1d where Tanh was expected"):
        FoldedWeights.from_layers(BatchNormMLP(27, 3).eval().layers)
    for extra in (nn.ReLU(), nn.Tanh()):
        folded = folded_layers()
        folded.add_module("extra", extra)
        with pytest.raises(FormError, match=f"extra: a {type(extra).__name__} where nothing was expected"):
            FoldedWeights.from_layers(folded)
    # Blocks are for hidden Linears after the first.
    wide = fold(BatchNormMLP(11, 3, n_hidden=4, n_members=2, n_layers=3).eval().layers)
    FoldedWeights.from_layers(wide)
    assert isinstance(wide.linear_2, BlockLinear)
    for i, name in enumerate(wide._modules):
        if i > 1 and name not in ("linear_2", "linear_3"):
            layers = copy.deepcopy(wide)
            layers[i] = BlockLinear(2, 4, 4, bias=True)
            with pytest.raises(FormError, match=f"{name}: a BlockLinear where"):
                FoldedWeights.from_layers(layers)


def bare(vocab_size: int, block_size: int, n_labels: int = 0) -> FoldedWeights:
    """No hidden layer, and one number for each id."""
    rng = np.random.default_rng(0)
    output = rng.random((vocab_size, block_size + (n_labels > 0))), rng.random(vocab_size)
    return FoldedWeights(block_size, rng.random((vocab_size + n_labels, 1)), [], output, n_labels)


def test_the_largest_table() -> None:
    largest = bare(256, 2)  # 2^24 logits
    numbers = np.array([0, 1, 255, 256, (1 << 14) - 1, 1 << 14, 40_000, (1 << 16) - 1])
    assert largest.table.shape == (1 << 16, 256)
    expected = largest.logits(np.stack([numbers // 256, numbers % 256], axis=1))
    np.testing.assert_allclose(largest.table[numbers], expected, rtol=1e-6)
    for too_large, message in (
        (
            bare(257, 2),
            r"a context of 2 make 257\^2 \* 257 = 16,974,593 logits, 65 MiB; at most 16,777,216 \(",
        ),
        (bare(200, 2, 3), r"a context of 2, 3 labels make 3 \* 200\^2 \* 200 = 24,000,000 logits, 92 MiB"),
    ):
        with pytest.raises(FormError, match=message):
            build_model(too_large, "table")


def test_networks_of_few_contexts() -> None:
    assert bare(128, 2).is_enumerable  # 2^21 logits
    assert bare(32, 3, 2).is_enumerable
    assert not bare(129, 2).is_enumerable
    assert not bare(32, 3, 3).is_enumerable


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


def test_form_mlp_is_what_pytorchs_exporter_writes() -> None:
    """The same operators, and the same logits after every context."""
    folded = folded_layers()
    ours, theirs = build_model(FoldedWeights.from_layers(folded), "mlp"), to_onnx(folded.float())
    assert op_types(ours) == op_types(theirs) == ["Gather", "Reshape", *["Gemm", "Tanh"] * 2, "Gemm"]
    for mine, pytorchs in ((ours.graph.input, theirs.graph.input), (ours.graph.output, theirs.graph.output)):
        assert [value.name for value in mine] == [value.name for value in pytorchs]
        assert [value.type for value in mine] == [value.type for value in pytorchs]
    np.testing.assert_array_equal(logits_of(ours), logits_of(theirs))
