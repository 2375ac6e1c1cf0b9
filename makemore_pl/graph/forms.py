"""The forms in which one folded network can be written as an ONNX graph: `mlp`, `fused`, `table`.

    mlp     embedding, then Linear and Tanh layer by layer: the network as it was trained
    fused   embedding and first Linear multiplied out beforehand, one table per position of the context:
            look-ups and additions instead of the first matrix product
    table   the logits of all V^T contexts computed beforehand: one look-up, no arithmetic left

All of them are computed here in float64 and stored as float32.
Notation: B batch, T block size, C n_embd, H n_hidden, V vocabulary size.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto
from torch import Tensor, nn

from makemore_pl.errors import MakemoreError
from makemore_pl.graph.builder import GraphBuilder, Value
from makemore_pl.model.network import BatchNormMLP
from makemore_pl.runtime.metadata import Form

Array: TypeAlias = NDArray[np.float64]

TABLE_LIMIT = 1 << 24
"""Most float32 entries of a table of logits, V^T * V: 64 MiB, a file that a browser still loads."""
ENUMERABLE_LIMIT = 1 << 21
"""Most entries for which the sampler makes further tables from that one, when loaded or run."""
PAIR_LIMIT = 1 << 20
"""Most entries V^2 * H of a table for two positions at once, in form `fused`."""
CHUNK = 1 << 14
"""Contexts computed at a time."""


class FormError(MakemoreError):
    """A network that cannot be written in the form wished for."""


@dataclass(frozen=True)
class FoldedWeights:
    """All numbers of a network without BatchNorm, float64.

    Attributes:
        block_size: T.
        embedding: (V, C).
        hidden: weight (H, fan_in) and bias (H,) of each hidden Linear; a Tanh follows each.
        output: weight (V, H) and bias (V,).
    """

    block_size: int
    embedding: Array
    hidden: Sequence[tuple[Array, Array]]
    output: tuple[Array, Array]

    @property
    def vocab_size(self) -> int:
        """V."""
        return len(self.embedding)

    @property
    def n_contexts(self) -> int:
        """V^T, exact however large."""
        return int(self.vocab_size**self.block_size)

    @property
    def is_enumerable(self) -> bool:
        """Whether there are so few contexts that a sampler may hold all of their logits."""
        return self.n_contexts * self.vocab_size <= ENUMERABLE_LIMIT

    @functools.cached_property
    def table(self) -> NDArray[np.float32]:
        """`logits_table` as it is stored, float32 (V^T, V)."""
        return _float32(logits_table(self))

    @classmethod
    def from_model(cls, folded: BatchNormMLP) -> "FoldedWeights":
        """Read the weights off a folded model: Embedding, Flatten, [Linear, Tanh] ..., Linear.

        Raises:
            FormError: another layer, or another order of layers; a BatchNorm must be folded before.
        """
        layers = list(folded.layers.named_children())
        kinds = ["Embedding", "Flatten", *["Linear", "Tanh"] * ((len(layers) - 3) // 2), "Linear"]
        for i, (name, layer) in enumerate(layers):
            expected = kinds[i] if i < len(kinds) else "nothing"
            if type(layer).__name__ != expected:
                raise FormError(
                    f"{name}: a {type(layer).__name__} where {expected} was expected; a graph is built of "
                    "Embedding, Flatten, any number of Linear and Tanh, and a last Linear"
                )
        embedding = layers[0][1]
        linears = [layer for _, layer in layers if isinstance(layer, nn.Linear)]
        assert isinstance(embedding, nn.Embedding)
        pairs = [(_array(linear.weight), _bias(linear)) for linear in linears]
        return cls(folded.block_size, _array(embedding.weight), pairs[:-1], pairs[-1])

    def logits(self, contexts: NDArray[np.int64]) -> Array:
        """contexts int64 (B, T) -> logits float64 (B, V)."""
        x = self.embedding[contexts].reshape(len(contexts), -1)  # (B, T) -> (B, T*C)
        for weight, bias in self.hidden:
            x = np.tanh(x @ weight.T + bias)  # (B, fan_in) -> (B, H)
        weight, bias = self.output
        return np.asarray(x @ weight.T + bias)  # (B, H) -> (B, V)


def _array(tensor: Tensor) -> Array:
    return tensor.detach().cpu().double().numpy()


def _bias(linear: nn.Linear) -> Array:
    return np.zeros(linear.out_features) if linear.bias is None else _array(linear.bias)


def row_factors(weights: FoldedWeights) -> NDArray[np.int64]:
    """int64 (T,): the context c_1 … c_T is number sum(c_t * V^(T-t)), so counting walks through all."""
    return np.array([weights.vocab_size**t for t in reversed(range(weights.block_size))], dtype=np.int64)


def logits_table(weights: FoldedWeights) -> Array:
    """Logits after every context, float64 (V^T, V); row r belongs to context number r (`row_factors`).

    Raises:
        FormError: the table would have more than `TABLE_LIMIT` entries.
    """
    v, t, rows = weights.vocab_size, weights.block_size, weights.n_contexts
    if rows * v > TABLE_LIMIT:
        raise FormError(
            f"form table: {v} characters and a context of {t} make {v}^{t} * {v} = {rows * v:,} logits, "
            f"{rows * v * 4 / 2**20:,.0f} MiB; at most {TABLE_LIMIT:,} ({TABLE_LIMIT * 4 // 2**20} MiB) "
            "are stored; use form mlp or fused"
        )
    table = np.empty((rows, v))
    for start in range(0, rows, CHUNK):
        numbers = np.arange(start, min(start + CHUNK, rows))
        table[numbers] = weights.logits(numbers[:, None] // row_factors(weights) % v)  # (B, T) -> (B, V)
    return table


def position_tables(weights: FoldedWeights) -> tuple[Array, Array]:
    """First Linear after the embedding as look-ups: pre-activation = sum over t of tables[t, c_t] + bias.

    Returns:
        tables float64 (T, V, H) and bias (H,). Without a hidden layer, that Linear is the output: H = V.
    """
    weight, bias = [*weights.hidden, weights.output][0]
    per_position = weight.reshape(len(weight), weights.block_size, -1)  # (H, T*C) -> (H, T, C)
    return np.einsum("vc,htc->tvh", weights.embedding, per_position), bias


def add_network(
    g: GraphBuilder, weights: FoldedWeights, form: Form, context: Value, *, pairs: bool = True
) -> Value:
    """Add the nodes from `context` int64 (B, T) to the logits float32 (B, V), the result.

    Args:
        g: the graph.
        weights: the folded network.
        form: how its logits are computed.
        context: int64 (B, T).
        pairs: form fused may look up two positions at a time, which is faster and less plain to read.

    Raises:
        FormError: see `logits_table`.
    """
    if form == "table":
        return g.Gather(weights.table, add_row(g, weights, context))  # (B,) -> (B, V)
    linears = [*weights.hidden, weights.output]
    if form == "mlp":
        embedded = g.Gather(_float32(weights.embedding), context)  # (B, T) -> (B, T, C)
        flat = g.Reshape(embedded, np.array([-1, linears[0][0].shape[1]]))  # (B, T, C) -> (B, T*C)
        x = _linear(g, flat, linears[0])  # (B, T*C) -> (B, H)
    else:
        x = _add_look_ups(g, weights, context, pairs)  # (B, T) -> (B, H)
    for linear in linears[1:]:
        x = _linear(g, g.Tanh(x), linear)  # (B, H) -> (B, H), at last (B, V)
    return x


def _add_look_ups(g: GraphBuilder, weights: FoldedWeights, context: Value, pairs: bool) -> Value:
    """The first Linear's output, float32 (B, H), from `position_tables`."""
    tables, bias = position_tables(weights)
    tables[0] += bias
    v, width = weights.vocab_size, len(bias)
    single = [g.constant(_float32(table)) for table in tables]  # T of (V, H)
    ids = [g.Gather(context, np.int64(t), axis=1) for t in range(len(single))]  # T of (B,)
    looked_up = []
    while single:
        table, row = single.pop(0), ids.pop(0)
        if pairs and single and v * v * width <= PAIR_LIMIT:
            # Two positions in one look-up: half the memory traffic, which is what this form's speed hangs on.
            # The sums are constants: ONNX Runtime computes them once, when it loads the file.
            sums = g.Add(g.Unsqueeze(table, np.array([1])), single.pop(0))  # (V, 1, H) + (V, H)
            table = g.Reshape(sums, np.array([-1, width]))  # (V, V, H) -> (V*V, H)
            row = g.Add(g.Mul(row, np.int64(v)), ids.pop(0))
        looked_up.append(g.Gather(table, row))  # (B,) -> (B, H)
    return functools.reduce(g.Add, looked_up)  # not Sum, which is slower


def add_row(g: GraphBuilder, weights: FoldedWeights, context: Value) -> Value:
    """context int64 (B, T) -> its number int64 (B,), its row in the table."""
    return g.ReduceSum(g.Mul(context, row_factors(weights)), np.array([1]), keepdims=0)


def add_all_logits(g: GraphBuilder, weights: FoldedWeights, form: Form, request: Value) -> Value:
    """float32 (V^T, V): the logits after every context, by number.

    Args:
        request: any input of the graph. Tied to it, the network is not computed for all contexts when ONNX
            Runtime loads the file, wanted or not.
    """
    if form == "table":
        return g.constant(weights.table)
    zero = g.Mul(g.Size(request), np.int64(0))
    numbers = g.Unsqueeze(g.Range(zero, np.int64(weights.n_contexts), np.int64(1)), np.array([1]))
    contexts = g.Mod(g.Div(numbers, row_factors(weights)), np.int64(weights.vocab_size))  # (V^T, T)
    return add_network(g, weights, form, contexts)


def build_model(weights: FoldedWeights, form: Form) -> onnx.ModelProto:
    """The network as a file: input `context` int64 (batch, T), output `logits` float32 (batch, V).

    Args:
        weights: the folded network.
        form: see the head of this module.

    Raises:
        FormError: the form does not suit the network's size.
    """
    g = GraphBuilder()
    context = g.input("context", TensorProto.INT64, ["batch", weights.block_size])
    logits = add_network(g, weights, form, context, pairs=False)
    g.output(logits, "logits", TensorProto.FLOAT, ["batch", weights.vocab_size])
    return g.to_model()


def _linear(g: GraphBuilder, x: Value, linear: tuple[Array, Array]) -> Value:
    weight, bias = linear
    return g.Gemm(x, _float32(weight), _float32(bias), transB=1)


def _float32(array: Array) -> NDArray[np.float32]:
    return array.astype(np.float32)
