"""The forms in which one folded network can be written as an ONNX graph: `mlp`, `fused`, `table`.

    mlp     embedding, then Linear and Tanh layer by layer: the network as it was trained
    fused   embedding and first Linear multiplied out beforehand, one table per position of the context:
            look-ups and additions instead of the first matrix product
    table   the logits of all contexts computed beforehand: one look-up, no arithmetic left

All of them are computed here in float64 and stored as float32.
Notation: B batch, T block size, P positions of a context (T, or with a label T + 1), C n_embd, H n_hidden,
V vocabulary size, L labels, M members, I inputs and O outputs of one of them.
"""

import functools

import numpy as np
import onnx
from onnx import TensorProto

from makemore_pl.exported.metadata import TABLE, Form
from makemore_pl.graph.builder import GraphBuilder, Value
from makemore_pl.model.folded_weights import FoldedWeights, Linear

PAIR_LIMIT = 1 << 20
"""Most entries V^2 * H of a table for two positions at once, in form `fused`."""


def build_model(weights: FoldedWeights, form: Form) -> onnx.ModelProto:
    """Write the network as a file: input `context` int64 (batch, T), output `logits` float32 (batch, V).

    With labels there is one more input, `label` int64 (batch,), from 0 to L-1.

    Args:
        weights: the folded network.
        form: see the head of this module.

    Raises:
        FormError: the form does not suit the network's size.
    """
    g = GraphBuilder()
    context = g.input("context", TensorProto.INT64, ["batch", weights.block_size])
    if weights.n_labels:
        label = g.input("label", TensorProto.INT64, ["batch"])
        # Fails on more or fewer labels than contexts. ONNX Runtime's Concat takes none for any number.
        label = g.Reshape(label, g.Shape(context, start=0, end=1), allowzero=1)
        label = g.Add(add_label_numbers(g, weights, label), np.int64(weights.vocab_size))
        # An id that is no character's must fail, as without labels, and not be taken for a label's.
        characters = g.Gather(np.arange(weights.vocab_size), context)
        context = g.Concat(g.Unsqueeze(label, np.array([1])), characters, axis=1)  # (B, 1 + T)
    logits = add_network(g, weights, form, context, pairs=False)
    g.output(logits, "logits", TensorProto.FLOAT, ["batch", weights.vocab_size])
    return g.to_model()


def add_network(
    g: GraphBuilder, weights: FoldedWeights, form: Form, context: Value, *, pairs: bool = True
) -> Value:
    """Add the nodes from `context` int64 (B, P) to the logits float32 (B, V), the result.

    Args:
        g: the graph.
        weights: the folded network.
        form: how its logits are computed.
        context: int64 (B, P).
        pairs: form fused may look up two positions at a time, which is faster and less plain to read.

    Raises:
        FormError: the form does not suit the network's size.
    """
    if form == "table":
        return g.Gather(g.weight(weights.table, TABLE), add_row(g, weights, context))  # (B,) -> (B, V)
    first, *later = weights.linears
    if form == "mlp":
        embedded = g.Gather(g.weight(weights.embedding), context)  # (B, P) -> (B, P, C)
        flat = g.Reshape(embedded, np.array([-1, first[0].shape[1]]))  # (B, P, C) -> (B, P*C)
        x = _add_linear(g, flat, first)  # (B, P*C) -> (B, H)
    else:
        x = _add_look_ups(g, weights, context, pairs)  # (B, P) -> (B, H)
    for linear in later:
        x = _add_linear(g, g.Tanh(x), linear)  # (B, H) -> (B, H), at last (B, V)
    return x


def _add_linear(g: GraphBuilder, x: Value, linear: Linear) -> Value:
    """(B, fan_in) -> (B, fan_out)."""
    weight, bias = linear
    if weight.ndim == 2:
        return g.Gemm(x, g.weight(weight), g.weight(bias), transB=1)
    members, _, fan_in = weight.shape
    x = g.Transpose(g.Reshape(x, np.array([-1, members, fan_in])), perm=[1, 0, 2])  # (B, M*I) -> (M, B, I)
    x = g.MatMul(x, g.weight(weight.swapaxes(1, 2)))  # (M, B, I) @ (M, I, O) -> (M, B, O)
    x = g.Reshape(g.Transpose(x, perm=[1, 0, 2]), np.array([-1, len(bias)]))  # (B, M*O)
    return g.Add(x, g.weight(bias))


def _add_look_ups(g: GraphBuilder, weights: FoldedWeights, context: Value, pairs: bool) -> Value:
    """The first Linear's output, float32 (B, H), from one table for each position."""
    tables, bias = weights.position_tables()
    tables[0] = tables[0] + bias
    sizes, width = weights.space.sizes, len(bias)
    single = [g.weight(table) for table in tables]  # P of (V, H); of a label (L, H)
    digits = _add_digits(g, weights, context)
    ids = [g.Gather(digits, np.int64(p), axis=1) for p in range(len(single))]  # P of (B,)
    looked_up = []
    while single:
        table, row, size = single.pop(0), ids.pop(0), sizes.pop(0)
        if pairs and single and size * sizes[0] * width <= PAIR_LIMIT:
            # Two positions in one look-up: half the memory traffic, which limits this form's speed.
            # The sums are constants: ONNX Runtime computes them once, when it loads the file.
            sums = g.Add(g.Unsqueeze(table, np.array([1])), single.pop(0))  # (V, 1, H) + (V, H)
            table = g.Reshape(sums, np.array([-1, width]))  # (V, V, H) -> (V*V, H)
            row = g.Add(g.Mul(row, np.int64(sizes.pop(0))), ids.pop(0))
        looked_up.append(g.Gather(table, row))  # (B,) -> (B, H)
    return functools.reduce(g.Add, looked_up)  # not Sum, which is slower


def add_label_numbers(g: GraphBuilder, weights: FoldedWeights, label: Value) -> Value:
    """Numbers of labels, int64 of any shape, unchanged; a run fails on a number that is no label's."""
    # Gather takes a number of L for an error, but -1 for the last label.
    number = g.Where(g.Less(label, np.int64(0)), np.int64(weights.n_labels), label)
    return g.Gather(np.arange(weights.n_labels), number)


def _add_digits(g: GraphBuilder, weights: FoldedWeights, context: Value) -> Value:
    """Each id's number among those of its position, int64 (B, P): of a label, from 0 to L-1."""
    return g.Sub(context, weights.space.first_ids) if weights.n_labels else context


def add_row(g: GraphBuilder, weights: FoldedWeights, context: Value) -> Value:
    """context int64 (B, P) -> its number int64 (B,), its row in the table."""
    digits = _add_digits(g, weights, context)
    return g.ReduceSum(g.Mul(digits, weights.space.factors), np.array([1]), keepdims=0)


def add_all_logits(g: GraphBuilder, weights: FoldedWeights, form: Form, request: Value) -> Value:
    """float32 (contexts, V): the logits after every context, by number.

    Args:
        request: any input of the graph. Tied to it, the network is not computed for all contexts whenever
            ONNX Runtime loads the file, but only in calls that need them.
    """
    if form == "table":
        return g.weight(weights.table, TABLE)
    zero = g.Mul(g.Size(request), np.int64(0))
    numbers = g.Unsqueeze(g.Range(zero, np.int64(weights.n_contexts), np.int64(1)), np.array([1]))
    sizes = np.array(weights.space.sizes) if weights.n_labels else np.int64(weights.vocab_size)
    contexts = g.Mod(g.Div(numbers, weights.space.factors), sizes)  # (contexts, P)
    if weights.n_labels:
        contexts = g.Add(contexts, weights.space.first_ids)
    return add_network(g, weights, form, contexts)
