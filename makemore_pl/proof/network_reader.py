"""Reading a `model.onnx` or `sampler.onnx` without running it: every node, every stored number.

A graph is written from the folded weights alone. So the one in a file must be, node for node, the one that is
written again for the same weights: a file that computes anything else, if only for one request, is refused.
"""

from itertools import zip_longest

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from makemore_pl.errors import VerificationError
from makemore_pl.model.folded_weights import Array, FoldedWeights
from makemore_pl.proof.certificate import Network
from makemore_pl.runtime.metadata import Form

CANCELLED = 2.0**-44
"""Largest difference, in units of a tensor's largest number, between two machines' float64 sums of terms that
cancel: hundreds of roundings of 2^-53, of terms some times as large as the sum."""


def expect_same_graph(stored: onnx.ModelProto, written: onnx.ModelProto, name: str) -> None:
    """Compare a file with the model that is written for the same weights; its metadata may differ.

    Nodes, names, shapes, whole numbers and scalars must be equal. A float32 weight may be the neighbour of
    the one expected, because another machine's float64 arithmetic may round it the other way.

    Args:
        stored: as loaded from the file.
        written: as `build_model` or `build_sampler` gives it.
        name: the file's, for messages.

    Raises:
        VerificationError: another graph or another number; the message says which.
    """
    bare_stored, bare_written = _without_weights(stored), _without_weights(written)
    if bare_stored != bare_written:
        nodes = zip_longest(bare_stored.graph.node, bare_written.graph.node, fillvalue=onnx.NodeProto())
        where = next((f" ({a.name!r} where {b.name!r} is due)" for a, b in nodes if a != b), "")
        raise VerificationError(f"{name} is not the trained model: its graph is another one{where}")
    for tensor, expected in zip(stored.graph.initializer, written.graph.initializer, strict=True):
        if _holds_weights(tensor):
            _expect_same_numbers(numpy_helper.to_array(tensor), numpy_helper.to_array(expected), name)


def stored_network(model: onnx.ModelProto, weights: FoldedWeights, form: Form) -> Network:
    """The network that a `model.onnx` of form `mlp` or `fused` stores, for its certificate.

    Args:
        model: as loaded from the file, its graph compared by `expect_same_graph`.
        weights: of the folded network, for the sizes.
        form: `mlp` or `fused`.
    """
    constants = {t.name: numpy_helper.to_array(t).astype(np.float64) for t in model.graph.initializer}

    def numbers(operator: str) -> list[list[Array]]:
        nodes = [node for node in model.graph.node if node.op_type == operator]
        found = [[constants[value] for value in node.input if value in constants] for node in nodes]
        return [arrays for arrays in found if arrays[0].ndim == 2]  # not the ids that form fused gathers

    linears = [(weight, bias) for weight, bias in numbers("Gemm")]
    tables = [table for [table] in numbers("Gather")]
    if form == "mlp":
        [embedding] = tables
        return Network.from_weights(FoldedWeights(weights.block_size, embedding, linears[:-1], linears[-1]))
    stacked = np.stack(tables)  # (T, V, H)
    return Network(stacked, np.zeros(stacked.shape[2]), np.abs(stacked), len(tables), linears)


def _holds_weights(tensor: onnx.TensorProto) -> bool:
    return tensor.data_type == TensorProto.FLOAT and len(tensor.dims) > 0


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy without its metadata and the bytes of its weights."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    del bare.metadata_props[:]
    for tensor in bare.graph.initializer:
        if _holds_weights(tensor):
            tensor.ClearField("raw_data")
    return bare


def _expect_same_numbers(stored: NDArray[np.float32], due: NDArray[np.float32], name: str) -> None:
    with np.errstate(invalid="ignore"):  # infinite ones, which must be equal
        off = np.abs(stored.astype(np.float64) - due)
        largest = np.abs(due).max(initial=0, where=np.isfinite(due))
        same = (stored == due) | (off <= np.spacing(np.abs(due)) + CANCELLED * largest)
    if not same.all():
        where = tuple(np.argwhere(~same)[0].tolist())
        raise VerificationError(
            f"{name} is not the trained model: by its weights, {stored[where]:.9g} is stored "
            f"where {due[where]:.9g} is due, at {list(where)} of {list(due.shape)}"
        )
