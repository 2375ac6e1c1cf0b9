"""`sampler.onnx`: prefix, draws and names, the whole of sampling in one ONNX graph.

The loops that draw are in `loops.py`, the rule of a single draw in `draw_graph.py`; here is what surrounds
them. The uniforms get a last column of -1, which draws the boundary, so that a name cut at `steps` ends like
any other; and a last row of -1, a name that ends at once, so that there always is one.

Notation: n names, p prefix length, W = steps + 1 columns of the padded uniforms, K draws in all,
T block size, V vocabulary size.
"""

from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from makemore_pl.export.draw_graph import ROWS, Bend, add_log_softmax
from makemore_pl.export.forms import FoldedWeights, Form, add_network, add_row
from makemore_pl.export.graph_builder import GraphBuilder, Value
from makemore_pl.export.loops import FEW, Request, add_few_draws, add_many_draws, add_tables, most_slots

FIRST = np.array([0])
"""The first axis."""


def build_sampler(weights: FoldedWeights, form: Form, codepoints: NDArray[np.int32]) -> onnx.ModelProto:
    """The sampler as a file.

    Inputs: `uniforms` float32 (n, steps) in [0, 1); `prefix` int64 (p,); `temperature` float32 ();
    `top_k` int64 (); `top_p` float32 (); `min_length` int64 ().
    Outputs: `tokens` int64 (n, length), `codepoints` int32 (n, length), both 0 after the end;
    `log_prob` float32 (n,), nats. All as `runtime.decoding.sample_stepwise` gives them.
    A run fails on an id in `prefix` that is not in the vocabulary.

    Args:
        weights: the folded network.
        form: how its logits are computed.
        codepoints: int32 (V,), Unicode code point of each id, 0 for the boundary.

    Raises:
        FormError: the form does not suit the network's size.
    """
    g = GraphBuilder()
    uniforms = g.input("uniforms", TensorProto.FLOAT, ["n", "steps"])
    prefix = g.input("prefix", TensorProto.INT64, ["p"])
    temperature = g.input("temperature", TensorProto.FLOAT, [])
    top_k = g.input("top_k", TensorProto.INT64, [])
    top_p = g.input("top_p", TensorProto.FLOAT, [])
    min_length = g.input("min_length", TensorProto.INT64, [])

    prefix_length = g.Size(prefix)
    has_prefix = g.Greater(prefix_length, np.int64(0))
    short = g.Sub(min_length, prefix_length)
    context, row, prefix_log_prob = g.choose(
        has_prefix,
        lambda g: _prefix(g, weights, form, prefix),
        lambda g: [np.zeros((1, weights.block_size), dtype=np.int64), np.zeros(1, np.int64), np.zeros(1)],
    )
    request = Request(
        weights,
        form,
        Bend(temperature, top_k, top_p, weights.vocab_size),
        uniforms=g.Pad(uniforms, np.array([0, 0, 1, 1]), np.float32(-1)),  # (n, steps) -> (n + 1, W)
        n=g.Shape(uniforms, start=0, end=1),
        context=context,
        row=row,
        short=short,
    )
    # From constants alone: ONNX Runtime computes these once, when it loads the file.
    tables = add_tables(g, request, bent=False) if weights.is_enumerable and form == "table" else None

    def few(g: GraphBuilder) -> Sequence[Value]:
        ids, log_p, drawn = add_few_draws(g, request, tables)  # (iterations, n + 1), the last all boundaries
        names = g.Transpose(g.Slice(ids, np.array([0, 0]), np.array([-1, -1])), perm=[1, 0])
        whole = g.choose(has_prefix, lambda g: [_with_prefix(g, request, prefix, names)], lambda g: [names])
        return [*whole, g.ReduceSum(g.Where(drawn, log_p, np.float64(0)), FIRST, keepdims=0)]

    def many(g: GraphBuilder) -> Sequence[Value]:
        return _names_in_place(g, request, prefix, *add_many_draws(g, request, tables))

    is_few = g.LessOrEqual(request.n, np.array([min(FEW, most_slots(weights))]))
    tokens, log_prob = g.choose(is_few, few, many)
    log_prob = g.Slice(g.Add(log_prob, prefix_log_prob), FIRST, np.array([-1]))  # (n + 1,) -> (n,)
    characters = g.Gather(codepoints, tokens)
    g.output(tokens, "tokens", TensorProto.INT64, ["n", "length"])
    g.output(characters, "codepoints", TensorProto.INT32, ["n", "length"])
    g.output(g.cast(log_prob, np.float32), "log_prob", TensorProto.FLOAT, ["n"])
    return g.to_model()


def _prefix(g: GraphBuilder, weights: FoldedWeights, form: Form, prefix: Value) -> Sequence[Value]:
    """The context after `prefix`, int64 (1, T); its number (1,); log p of the prefix, float64 (1,)."""
    v, t = weights.vocab_size, weights.block_size
    # Gather takes an id of V for an error, but -1 for the last id.
    prefix = g.Gather(np.arange(v), g.Where(g.Less(prefix, np.int64(0)), np.int64(v), prefix))
    padded = g.Concat(np.zeros(t, dtype=np.int64), prefix, axis=0)  # (T + p,)
    positions = g.Range(np.int64(0), g.Size(prefix), np.int64(1))  # (p,)
    contexts = g.Gather(padded, g.Add(g.Unsqueeze(positions, ROWS), np.arange(t)))  # (p, T)
    log_probs = add_log_softmax(g, g.cast(add_network(g, weights, form, contexts), np.float64))  # (p, V)
    picked = g.GatherElements(log_probs, g.Unsqueeze(prefix, ROWS), axis=1)  # (p, V) -> (p, 1)
    after = g.Slice(padded, np.array([-t]), np.array([np.iinfo(np.int64).max]))  # (T + p,) -> (T,)
    context = g.Unsqueeze(after, FIRST)
    row = add_row(g, weights, context) if weights.is_enumerable else g.constant(np.zeros(1, np.int64))
    return [context, row, g.ReduceSum(picked, FIRST, keepdims=0)]


def _length(g: GraphBuilder, request: Request, prefix: Value, drawn_length: Value) -> Value:
    """int64 (1,): characters of the longest name, boundaries in the prefix not counted; 0 without names."""
    characters = g.cast(g.cast(prefix, np.bool_), np.int64)
    length = g.Add(g.ReduceSum(characters, FIRST, keepdims=1), drawn_length)
    return g.Mul(length, g.Min(request.n, np.array([1])))


def _with_prefix(g: GraphBuilder, request: Request, prefix: Value, names: Value) -> Value:
    """`prefix` before each of the names: int64 (n, drawn) -> (n, length)."""
    columns = g.Expand(prefix, g.Concat(request.n, g.Shape(prefix), axis=0))  # (p,) -> (n, p)
    length = _length(g, request, prefix, g.Shape(names, start=1, end=2))
    return g.Slice(g.Concat(columns, names, axis=1), FIRST, length, ROWS)


def _names_in_place(
    g: GraphBuilder, request: Request, prefix: Value, at: Value, ids: Value, log_p: Value
) -> Sequence[Value]:
    """Names from draws in any order.

    Args:
        at: int64 (K,), each draw's place in the padded uniforms (n + 1, W), flat.
        ids: int64 (K,), what was drawn.
        log_p: float64 (K,), its log p.

    Returns:
        tokens int64 (n, length); log-likelihoods float64 (n + 1,) without the prefix's.
    """
    width = g.Shape(request.uniforms, start=1, end=2)
    name = g.Div(at, width)  # (K,)
    column = g.Sub(at, g.Mul(name, width))  # (K,)
    ends = g.Mul(g.Min(ids, np.int64(1)), g.Add(column, np.int64(1)))  # (K,), 0 for boundaries
    drawn_length = g.ReduceMax(ends, FIRST, keepdims=1)  # (K,) -> (1,)
    length = _length(g, request, prefix, drawn_length)

    def some(g: GraphBuilder) -> Sequence[Value]:
        # A boundary in the prefix makes the names shorter than prefix and draws together.
        start = g.Slice(g.Concat(prefix, g.Expand(np.int64(0), drawn_length), axis=0), FIRST, length)
        position = g.Add(column, g.Size(prefix))  # (K,)
        characters = g.Where(g.Less(position, length), ids, np.int64(0))
        # What is 0 may lie outside: it is added to some other place.
        shape = g.Concat(request.n, length, axis=0)
        place = g.Min(g.Add(g.Mul(name, length), position), g.Sub(g.Mul(request.n, length), np.array([1])))
        flat = g.Reshape(g.Expand(start, shape), np.array([-1]))  # (length,) -> (n * length,)
        return [g.Reshape(g.ScatterElements(flat, place, characters, reduction="add"), shape)]

    tokens = g.choose(
        g.Greater(length, np.array([0])),
        some,
        lambda g: [g.Expand(np.int64(0), g.Concat(request.n, np.array([0]), axis=0))],
    )[0]
    # Draws of the padding count for the row after the names.
    owner = g.Where(g.Less(column, g.Sub(width, np.array([1]))), name, request.n)
    zeros = g.Expand(np.float64(0), g.Shape(request.uniforms, start=0, end=1))
    return [tokens, g.ScatterElements(zeros, owner, log_p, reduction="add")]
