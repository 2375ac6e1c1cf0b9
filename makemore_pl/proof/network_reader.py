"""Reading a `model.onnx` or `sampler.onnx` without running it: every node, every stored number.

A graph follows from the folded weights, its form and its characters alone. So the one in a file must be, node
for node, the one that is written again for the same weights: a file that computes anything else, if only for
one request, is refused. Nothing that the file says of itself decides what it is compared with, and ONNX
Runtime opens it only afterwards: an altered graph may crash the process that runs it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import numpy_helper

from makemore_pl.errors import ModelFileError, VerificationError
from makemore_pl.exported.metadata import FORMS, Form, ModelInfo
from makemore_pl.exported.session import read_onnx
from makemore_pl.graph.builder import holds_weights
from makemore_pl.model.folded_weights import FoldedWeights, FormError
from makemore_pl.proof.certificate import Network

CANCELLED = 2.0**-44
"""Largest difference, in units of a tensor's largest number, between two machines' float64 sums of terms that
cancel: hundreds of roundings of 2^-53, of terms some times as large as the sum."""


@dataclass(frozen=True)
class StoredFile:
    """An exported file as it lies on disk, not yet opened by ONNX Runtime.

    Attributes:
        path: where it was read.
        content: its bytes.
        model: what they say.
        info: its metadata, well-formed; compared by `expect_same_info`.
    """

    path: Path
    content: bytes
    model: onnx.ModelProto
    info: ModelInfo

    @property
    def is_sampler(self) -> bool:
        return any(value.name == "uniforms" for value in self.model.graph.input)


def read_stored(path: Path) -> StoredFile:
    """Read a file of either kind.

    Raises:
        ModelFileError: missing, damaged, or not one of ours.
    """
    content = read_onnx(path)
    try:
        model = onnx.load_from_string(content)
        metadata = {prop.key: prop.value for prop in model.metadata_props}
    except (DecodeError, UnicodeDecodeError) as error:
        raise ModelFileError(f"{path}: not a readable ONNX model ({error})") from error
    return StoredFile(path, content, model, ModelInfo.from_metadata(metadata, path))


def form_of(stored: StoredFile, write: Callable[[Form], onnx.ModelProto]) -> Form:
    """Find the form that a file is of: the one whose graph, written again, is the file's.

    Args:
        stored: the file. The form that it claims is tried first, and decides nothing else.
        write: `build_model` or `build_sampler`, for the trained network.

    Raises:
        VerificationError: of none; the message says where it differs from the form that it claims.
    """
    errors = []
    forms = sorted(FORMS, key=lambda form: form != stored.info.form)
    for form in forms:
        try:
            expect_same_graph(stored.model, write(form), stored.path.name)
        except VerificationError as error:
            errors.append(error)
        except FormError:
            pass  # the network is too wide for it, so the file cannot be of that form
        else:
            return form
    raise errors[0]


def expect_same_graph(stored: onnx.ModelProto, written: onnx.ModelProto, name: str) -> None:
    """Compare a file with the model that is written for the same weights; its metadata may differ.

    Nodes, attributes, names, shapes and constants must be equal. A weight may be the float32 next to the one
    expected, because another machine's float64 arithmetic may round it the other way.

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
        where = next((f" (at node {b.name or a.name!r})" for a, b in nodes if a != b), "")
        raise VerificationError(
            f"{name} is not the trained model: its graph is another one{where}; "
            "what an earlier version of this program has exported must be exported again"
        )
    for tensor, expected in zip(stored.graph.initializer, written.graph.initializer, strict=True):
        if holds_weights(expected):
            _expect_same_numbers(tensor, expected, name)


def stored_network(model: onnx.ModelProto, weights: FoldedWeights, form: Form) -> Network:
    """The network that a `model.onnx` of form `mlp` or `fused` stores, for its certificate.

    Args:
        model: as loaded from the file, its graph compared by `expect_same_graph`.
        weights: of the folded network, for the sizes.
        form: `mlp` or `fused`.
    """
    stored = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer if holds_weights(t)}
    found = [
        stored[value].astype(np.float64)
        for node in model.graph.node
        for value in node.input
        if value in stored
    ]
    n_tables = 1 if form == "mlp" else len(weights.space.sizes)
    tables, later = found[:n_tables], found[n_tables:]  # then weight and bias of each Linear
    linears = [
        (weight if weight.ndim == 2 else weight.swapaxes(1, 2), bias)
        for weight, bias in zip(later[::2], later[1::2], strict=True)
    ]
    if form == "mlp":
        [embedding] = tables
        return Network.from_weights(
            FoldedWeights(weights.block_size, embedding, linears[:-1], linears[-1], weights.n_labels)
        )
    bias = np.zeros(tables[0].shape[1])  # it is added to the first table
    return Network(tables, bias, [np.abs(table) for table in tables], len(tables), linears)


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy without its metadata and the bytes of its weights."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    del bare.metadata_props[:]
    for tensor in bare.graph.initializer:
        if holds_weights(tensor):
            tensor.ClearField("raw_data")
    return bare


def _expect_same_numbers(tensor: onnx.TensorProto, expected: onnx.TensorProto, name: str) -> None:
    if len(tensor.raw_data) != len(expected.raw_data):
        raise VerificationError(f"{name} is not the trained model: {expected.name!r} is of another size")
    stored: NDArray[np.float32] = numpy_helper.to_array(tensor)
    due: NDArray[np.float32] = numpy_helper.to_array(expected)
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
