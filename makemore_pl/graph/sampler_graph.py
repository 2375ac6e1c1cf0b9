"""`sampler.onnx`: prefix, draws and names, the whole of sampling in one ONNX graph.

The loop that draws is in `loops.py`, its steps in `steps.py`, the rule of a single draw in `draw.py`; here is
what surrounds them. The uniforms get a last column of -1, which draws the boundary, so that a name cut at
`steps` ends like any other; and a last row of -1, a name that ends at once, so that there is always one.

Notation: n names, p prefix length, W = steps + 1 columns of the padded uniforms, T block size, P positions of
a context (T, or with a label T + 1), V vocabulary size, L labels.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from makemore_pl.exported.metadata import Form
from makemore_pl.graph.builder import GraphBuilder, Operand, Value
from makemore_pl.graph.draw import ROWS, Bend, add_log_softmax
from makemore_pl.graph.forms import add_network, add_row
from makemore_pl.graph.labels import NameLabels
from makemore_pl.graph.loops import add_common_draws, add_draws
from makemore_pl.graph.steps import Request, Tables, add_tables, is_common
from makemore_pl.model.folded_weights import FoldedWeights

FIRST = np.array([0])
"""The first axis."""


def build_sampler(weights: FoldedWeights, form: Form, codepoints: NDArray[np.int32]) -> onnx.ModelProto:
    """Write the sampler as a file.

    Inputs: `uniforms` float32 (n, steps) in [0, 1); `prefix` int64 (p,); `temperature` float32 ();
    `top_k` int64 (); `top_p` float32 (); `min_length` int64 (); with labels, `label` int64 (n,), 0 to L-1.
    Outputs: `tokens` int64 (n, length), `codepoints` int32 (n, length), both 0 after the end;
    `log_prob` float32 (n,), nats. All as `runtime.decoding.sample_stepwise` gives them.
    A run fails on an id in `prefix` that is not in the vocabulary, and on a label that is none.

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
    request = Request(
        weights,
        form,
        Bend(temperature, top_k, top_p, weights.vocab_size),
        uniforms=g.Pad(uniforms, np.array([0, 0, 1, 1]), np.float32(-1)),  # (n, steps) -> (n + 1, W)
        n=g.Shape(uniforms, start=0, end=1),
        context=g.constant(np.zeros((1, weights.block_size), dtype=np.int64)),
        row=g.constant(np.zeros(1, dtype=np.int64)),
        short=g.Sub(min_length, prefix_length),
    )
    labels = None  # put before the characters in the branches: the commonest needs contexts' numbers alone
    if weights.n_labels:
        labels = NameLabels.of(g, weights, g.input("label", TensorProto.INT64, ["n"]), request.n)
    # From constants alone: ONNX Runtime computes these once, when it loads the file.
    tables = add_tables(g, request, bent=False) if weights.is_enumerable and form == "table" else None
    has_prefix = g.Greater(prefix_length, np.int64(0))

    def any_request(g: GraphBuilder) -> Sequence[Value]:
        return _any_request(g, request, labels, prefix, has_prefix, tables)

    if tables is None:
        tokens, log_prob = any_request(g)
    else:
        # The commonest request bypasses all other branches: each If costs as much as half a character.
        bypasses = g.And(is_common(g, request), g.Not(has_prefix))

        def common_request(g: GraphBuilder) -> Sequence[Value]:
            row = request.row if labels is None else labels.rows(g, request.context)
            return _names(g, *add_common_draws(g, replace(request, row=row), tables))

        tokens, log_prob = g.choose(bypasses, common_request, any_request)
    log_prob = g.Slice(log_prob, FIRST, np.array([-1]))  # (n + 1,) -> (n,)
    # GatherElements looks single numbers up in a fraction of the time of Gather, but wants equal ranks.
    flat = g.Reshape(tokens, np.array([-1]))
    characters = g.Reshape(g.GatherElements(codepoints, flat), g.Shape(tokens), allowzero=1)  # n may be 0
    g.output(tokens, "tokens", TensorProto.INT64, ["n", "length"])
    g.output(characters, "codepoints", TensorProto.INT32, ["n", "length"])
    g.output(g.cast(log_prob, np.float32), "log_prob", TensorProto.FLOAT, ["n"])
    return g.to_model()


def _any_request(
    g: GraphBuilder,
    request: Request,
    labels: NameLabels | None,
    prefix: Value,
    has_prefix: Value,
    tables: Tables | None,
) -> Sequence[Value]:
    """tokens int64 (n, length); log-likelihoods float64 (n + 1,)."""

    def no_prefix(g: GraphBuilder) -> Sequence[Operand]:
        context, row = request.context, request.row
        if labels is not None:
            context, row = labels.contexts(g, context), labels.rows(g, context)
        return [context, row, np.zeros(1)]

    context, row, prefix_log_prob = g.choose(
        has_prefix, lambda g: _prefix(g, request, labels, prefix), no_prefix
    )
    request = replace(request, context=context, row=row)
    names, log_prob = _names(g, *add_draws(g, request, tables))
    tokens = g.choose(has_prefix, lambda g: [_with_prefix(g, request, prefix, names)], lambda g: [names])[0]
    return [tokens, g.Add(log_prob, prefix_log_prob)]


def _names(g: GraphBuilder, ids: Value, log_p: Value, drawn: Value) -> Sequence[Value]:
    """Names from what `add_draws` gives: int64 (n, drawn); log-likelihoods float64 (n + 1,)."""
    names = g.Transpose(g.Slice(ids, np.array([0, 0]), np.array([-1, -1])), perm=[1, 0])
    return [names, g.ReduceSum(g.Where(drawn, log_p, np.float64(0)), FIRST, keepdims=0)]


def _prefix(g: GraphBuilder, request: Request, labels: NameLabels | None, prefix: Value) -> Sequence[Value]:
    """Context after `prefix`, int64 (1, P); its number (1,); log p of the prefix, float64 (1,).

    With labels, each has n + 1 rows.
    """
    weights, (v, t) = request.weights, (request.weights.vocab_size, request.weights.block_size)
    # Gather takes an id of V for an error, but -1 for the last id.
    prefix = g.Gather(np.arange(v), g.Where(g.Less(prefix, np.int64(0)), np.int64(v), prefix))
    padded = g.Concat(np.zeros(t, dtype=np.int64), prefix, axis=0)  # (T + p,)
    positions = g.Range(np.int64(0), g.Size(prefix), np.int64(1))  # (p,)
    contexts = g.Gather(padded, g.Add(g.Unsqueeze(positions, ROWS), np.arange(t)))  # (p, T)
    drawn = prefix
    if labels is not None:
        contexts, drawn = labels.before_each(g, contexts, prefix)  # (L * p, P), (L * p,)
    log_probs = add_log_softmax(g, g.cast(add_network(g, weights, request.form, contexts), np.float64))
    picked = g.GatherElements(log_probs, g.Unsqueeze(drawn, ROWS), axis=1)  # (p, V) -> (p, 1)
    after = g.Slice(padded, np.array([-t]), np.array([np.iinfo(np.int64).max]))  # (T + p,) -> (T,)
    context = g.Unsqueeze(after, FIRST)
    if labels is not None:
        return [labels.contexts(g, context), labels.rows(g, context), labels.sums_for_names(g, picked)]
    row = add_row(g, weights, context) if weights.is_enumerable else g.constant(np.zeros(1, np.int64))
    return [context, row, g.ReduceSum(picked, FIRST, keepdims=0)]


def _with_prefix(g: GraphBuilder, request: Request, prefix: Value, names: Value) -> Value:
    """Put `prefix` before each of the names: int64 (n, drawn) -> (n, length)."""
    columns = g.Expand(prefix, g.Concat(request.n, g.Shape(prefix), axis=0))  # (p,) -> (n, p)
    # A boundary in the prefix makes the names shorter than prefix and draws together.
    characters = g.cast(g.cast(prefix, np.bool_), np.int64)
    length = g.Add(g.ReduceSum(characters, FIRST, keepdims=1), g.Shape(names, start=1, end=2))
    length = g.Mul(length, g.Min(request.n, np.array([1])))  # 0 without names
    return g.Slice(g.Concat(columns, names, axis=1), FIRST, length, ROWS)
