"""One step of the sampler's loop: from a context to the character that is drawn after it, as ONNX nodes.

Two ways lead there:

* by rows: compute the context's logits, bend them, draw. Works for every network and request.
* by limits: before the loop, turn the logits of *all* contexts into a table of the uniforms at which each
  draw changes (`add_limits`); a step is then a look-up and a comparison. For networks with few contexts,
  when the table is there anyway or so many names are requested that making it pays.

Notation: n names, W columns of the padded uniforms, T block size, P positions of a context (T, or with a
label T + 1), V vocabulary size, R contexts: V^T for each label, and S = n + 1 names drawn side by side.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from makemore_pl.exported.metadata import Form
from makemore_pl.graph.builder import GraphBuilder, Value
from makemore_pl.graph.draw import (
    ROWS,
    Bend,
    add_bent_weights,
    add_draw,
    add_draw_within,
    add_limits,
    add_log_softmax,
    add_plain_draw,
    add_shifted,
    add_weights,
    add_without_boundary,
)
from makemore_pl.graph.forms import add_all_logits, add_network
from makemore_pl.model.folded_weights import FoldedWeights

Tables = tuple[Value, Value, Value]
"""Limits float32 (2 * R, V), the second half without boundary; log p float64 (R * V,); and the number of the
next context when the boundary is drawn, int64 (R,), to which the id drawn is added."""
Step = Callable[[GraphBuilder, Value, Value, Value], tuple[Value, Value, Value]]
"""(graph, states (S, ...), uniforms float32 (S, 1), number of the draw int64 ()) -> ids drawn int64 (S,),
states after them, and what leads to the draws' log p, (S,)."""


@dataclass(frozen=True)
class Request:
    """The graph's inputs, and what follows from them.

    Attributes:
        weights, form: the network.
        bend: temperature, top-k, top-p.
        uniforms: float32 (n + 1, W), padded with -1.
        n: int64 (1,).
        context: int64 (1, P), before the first draw; with labels (n + 1, P), the padding's too.
        row: its number, int64 (1,) or (n + 1,).
        short: int64 (), how many draws of a name may not end it: min_length - p; may be negative.
    """

    weights: FoldedWeights
    form: Form
    bend: Bend
    uniforms: Value
    n: Value
    context: Value
    row: Value
    short: Value


def add_tables(g: GraphBuilder, request: Request, bent: bool) -> Tables:
    """Tables for `bent` draws, or for the plain model's: from constants alone if the form is `table`."""
    v = request.weights.vocab_size
    scores = g.cast(add_all_logits(g, request.weights, request.form, request.uniforms), np.float64)  # (R, V)

    def limits(g: GraphBuilder, scores: Value) -> Value:
        weights = (
            add_bent_weights(g, scores, request.bend) if bent else add_weights(g, add_shifted(g, scores)[0])
        )
        return add_limits(g, weights, v)

    def both(g: GraphBuilder) -> Sequence[Value]:
        return [g.Concat(limits(g, scores), limits(g, add_without_boundary(g, scores, v)), axis=0)]

    if bent:
        some_short = g.Greater(request.short, np.int64(0))
        table = g.choose(some_short, both, lambda g: [limits(g, scores)])[0]
    else:
        table = both(g)[0]
    # From constants alone: in the loop, a look-up costs less than an integer remainder.
    r, of_label = np.int64(request.weights.n_contexts), np.int64(v**request.weights.block_size)
    rows = g.Range(np.int64(0), r, np.int64(1))
    shifted = g.Mod(g.Mul(rows, np.int64(v)), of_label)  # (R,)
    if request.weights.n_labels:  # the label stays
        shifted = g.Add(shifted, g.Sub(rows, g.Mod(rows, of_label)))
    return table, g.Reshape(add_log_softmax(g, scores), np.array([-1])), shifted


def is_common(g: GraphBuilder, request: Request) -> Value:
    """bool (): draws follow the plain model, and at most one of them is short."""
    return g.And(request.bend.is_off(g), g.LessOrEqual(request.short, np.int64(1)))


def first_row(g: GraphBuilder, request: Request) -> Value:
    """Row at which the first draw looks up its limits, int64 (1,).

    A context's number minus R is negative and counts from the end of a table. There lie the limits without
    boundary, while log p and the next context are the same as before. The next context's number is not
    negative, so this serves exactly one short draw.
    """
    some_short = g.Clip(request.short, np.int64(0), np.int64(1))
    return g.Sub(request.row, g.Mul(some_short, np.int64(request.weights.n_contexts)))


def transitions_of(g: GraphBuilder, request: Request, rows: Value, ids: Value) -> Value:
    """Index of log p of drawing `ids` after the contexts `rows`."""
    return g.Add(g.Mul(rows, np.int64(request.weights.vocab_size)), ids)


def step_by_limits(request: Request, tables: Tables, several_short: bool) -> Step:
    """Step whose state is the context's number, from which log p follows: see `transitions_of`.

    Args:
        request: what is drawn.
        tables: to look up in.
        several_short: more than one draw may be short; else the first row says whether the first one is.
    """
    limits, _, following = tables

    def step(g: GraphBuilder, rows: Value, uniforms: Value, i: Value) -> tuple[Value, Value, Value]:
        if several_short:
            r = np.int64(request.weights.n_contexts)
            rows = g.Sub(rows, g.Where(g.Less(i, request.short), r, np.int64(0)))  # see first_row
        drawn = add_draw_within(g, g.Gather(limits, rows), uniforms)  # (S, V) -> (S,)
        return drawn, g.Add(g.GatherElements(following, rows), drawn), rows

    return step


def step_by_rows(g: GraphBuilder, request: Request, *, only_bent: bool) -> Step:
    """Step whose state is the context, (S, P), and which gives log p itself, float64.

    Args:
        g: the graph around the loop.
        request: what is drawn.
        only_bent: plain draws go another way, so that no branch for them is written.
    """
    weights, v = request.weights, request.weights.vocab_size
    is_plain = request.bend.is_off(g)

    def step(g: GraphBuilder, contexts: Value, uniforms: Value, i: Value) -> tuple[Value, Value, Value]:
        logits = g.cast(add_network(g, weights, request.form, contexts), np.float64)  # (S, P) -> (S, V)
        short = g.Less(i, request.short)
        scores = g.choose(short, lambda g: [add_without_boundary(g, logits, v)], lambda g: [logits])[0]

        def bent(g: GraphBuilder) -> Sequence[Value]:
            drawn = add_draw(g, add_bent_weights(g, scores, request.bend), uniforms, v)[0]  # (S, V) -> (S,)
            log_p = g.GatherElements(add_log_softmax(g, logits), g.Unsqueeze(drawn, ROWS), axis=1)  # (S, 1)
            return [drawn, g.Squeeze(log_p, ROWS)]

        def plain(g: GraphBuilder) -> Sequence[Value]:
            return add_plain_draw(g, logits, scores, short, uniforms, v)

        drawn, log_p = bent(g) if only_bent else g.choose(is_plain, plain, bent)
        if weights.n_labels:  # the label stays
            older = g.Gather(contexts, np.array([0, *range(2, weights.block_size + 1)]), axis=1)  # (S, P-1)
        else:
            older = g.Slice(contexts, np.array([1]), np.array([weights.block_size]), ROWS)
        return drawn, g.Concat(older, g.Unsqueeze(drawn, ROWS), axis=1), log_p

    return step
