"""The loops that draw names character by character, as ONNX nodes.

Two ways lead from a context to a character:

* by rows: compute the context's logits, bend them, draw. Works for every network and request.
* by limits: before the loop, turn the logits of *all* contexts into a table of the uniforms at which each
  draw changes (`add_limits`); a step is then a look-up and a comparison. For networks with few contexts,
  when the table is there anyway or so many names are wanted that making it pays.

And there are two loops. Few names are drawn side by side, iteration i drawing character i of all of them.
Many names share slots: one whose name has ended goes on with the next name that waits for it, so that every
slot is busy until the end, and the working set stays in the processor's cache however many names there are.

Notation: n names, S slots, W columns of the padded uniforms, K draws in all, T block size, V vocabulary
size, R = V^T contexts. A draw's place `at` is its flat index in the padded uniforms (n + 1, W).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from makemore_pl.export.draw_graph import (
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
from makemore_pl.export.forms import FoldedWeights, Form, add_all_logits, add_network
from makemore_pl.export.graph_builder import GraphBuilder, Operand, Value

FEW = 256
"""Up to so many names are drawn side by side, each in a slot of its own."""
NAMES_PER_SLOT = 4
"""More names share slots, at least so many a slot: their lengths then even out."""
MAX_SLOTS = 1024
"""Enough to drown the overhead of a node, few enough for the processor's cache. Twice as many gain little
for 100,000 names and lose more for 10,000."""
MAX_ENTRIES = 1 << 22
"""Most logits of all slots together: a tensor of them takes 32 MiB, a step some such tensors."""
DRAWS_PER_CONTEXT = 6
"""A table of limits is made for a request that may take this many draws for each context."""

Tables = tuple[Value, Value, Value]
"""Limits float32 (2 * R, V), the second half without boundary; log p float64 (R * V,); and the number of the
next context when the boundary is drawn, int64 (R,), to which the id drawn is added."""
Column = Callable[[GraphBuilder], Value]
"""Adds the nodes for the column that is drawn: int64 (S,), or () where it is the same for all."""
Step = Callable[[GraphBuilder, Value, Value, Column], tuple[Value, Value, Value]]
"""(graph, states (S, ...), uniforms float32 (S, 1), column) -> ids drawn int64 (S,), states after them, and
what leads to the draws' log p, (S,)."""


@dataclass(frozen=True)
class Request:
    """The graph's inputs, and what follows from them.

    Attributes:
        weights, form: the network.
        bend: temperature, top-k, top-p.
        uniforms: float32 (n + 1, W), padded with -1.
        n: int64 (1,).
        context: int64 (1, T), before the first draw; `row`: its number, int64 (1,).
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


def most_slots(weights: FoldedWeights) -> int:
    """Names that may be drawn at a time."""
    return max(1, min(MAX_SLOTS, MAX_ENTRIES // weights.vocab_size))


def add_tables(g: GraphBuilder, request: Request, bent: bool) -> Tables:
    """The tables for `bent` draws, or for the plain model's: from constants alone if the form is `table`."""
    v = request.weights.vocab_size
    scores = g.cast(add_all_logits(g, request.weights, request.form, request.uniforms), np.float64)  # (R, V)

    def limits(g: GraphBuilder, scores: Value) -> Value:
        weights = (
            add_bent_weights(g, scores, request.bend) if bent else add_weights(g, add_shifted(g, scores)[0])
        )
        return add_limits(g, weights, v)

    def both(g: GraphBuilder) -> Sequence[Value]:
        without = add_without_boundary(g, scores, v, np.ones((1, 1), dtype=np.bool_))
        return [g.Concat(limits(g, scores), limits(g, without), axis=0)]

    if bent:
        some_short = g.Greater(request.short, np.int64(0))
        table = g.choose(some_short, both, lambda g: [limits(g, scores)])[0]
    else:
        table = both(g)[0]
    # From constants alone; in the loop a look-up costs less than an integer remainder.
    r = np.int64(request.weights.n_contexts)
    shifted = g.Mod(g.Mul(g.Range(np.int64(0), r, np.int64(1)), np.int64(v)), r)  # (R,)
    return table, g.Reshape(add_log_softmax(g, scores), np.array([-1])), shifted


def add_few_draws(g: GraphBuilder, request: Request, tables: Tables | None) -> Sequence[Value]:
    """Draw up to `FEW` names and `most_slots`, iteration i character i of all.

    Returns:
        Ids int64, log p float64, and whether it was drawn at all, bool: each (iterations, n + 1), the last
        row and column all boundaries.
    """

    def by_rows(g: GraphBuilder) -> Sequence[Value]:
        return _few(g, request, _context_of_each(g, request), _step_by_rows(g, request))

    if tables is None:
        return by_rows(g)
    return g.choose(has_limits(g, request), lambda g: add_few_by_limits(g, request, tables), by_rows)


def has_limits(g: GraphBuilder, request: Request) -> Value:
    """bool (): the request suits `add_few_by_limits`, which knows only plain draws and one short one."""
    return g.And(request.bend.is_off(g), g.LessOrEqual(request.short, np.int64(1)))


def add_few_by_limits(g: GraphBuilder, request: Request, tables: Tables) -> Sequence[Value]:
    """What `add_few_draws` gives, for requests that suit."""
    limits, log_probs, following = tables
    step = _step_by_limits(request, limits, following, many=False, several_short=False)
    names = g.Shape(request.uniforms, start=0, end=1)
    start = g.Expand(_first_row(g, request), names)  # (1,) -> (n + 1,)
    ids, rows, drawn = _few(g, request, start, step)
    return [ids, g.Gather(log_probs, _transitions(g, request, rows, ids)), drawn]


def add_many_draws(g: GraphBuilder, request: Request, tables: Tables | None) -> Sequence[Value]:
    """Draw any number of names.

    Returns:
        at int64, ids int64 and log p float64, each (K,), of all draws, with the padding's.
    """
    weights = request.weights

    def by_rows(g: GraphBuilder) -> Sequence[Value]:
        return _many(g, request, request.context, 1, _step_by_rows(g, request))

    def by_limits(g: GraphBuilder, tables: Tables) -> Sequence[Value]:
        def draws(several_short: bool) -> Callable[[GraphBuilder], Sequence[Value]]:
            step = _step_by_limits(request, tables[0], tables[2], many=True, several_short=several_short)
            return lambda g: _many(
                g, request, request.row if several_short else _first_row(g, request), 0, step
            )

        several = g.Greater(request.short, np.int64(1))
        at, ids, rows = g.choose(several, draws(several_short=True), draws(several_short=False))
        transitions = g.Reshape(_transitions(g, request, rows, ids), np.array([-1]))
        return [at, ids, g.GatherElements(tables[1], transitions)]

    def by_new_limits(g: GraphBuilder) -> Sequence[Value]:
        return by_limits(g, add_tables(g, request, bent=True))

    def by_what_pays(g: GraphBuilder) -> Sequence[Value]:
        enough = g.Greater(g.Size(request.uniforms), np.int64(DRAWS_PER_CONTEXT * weights.n_contexts))
        return g.choose(enough, by_new_limits, by_rows)

    if not weights.is_enumerable:
        draws = by_rows(g)
    elif tables is None:
        draws = by_what_pays(g)
    else:
        draws = g.choose(request.bend.is_off(g), lambda g: by_limits(g, tables), by_what_pays)
    return [g.Reshape(values, np.array([-1])) for values in draws]  # (iterations, S) -> (K,)


def _first_row(g: GraphBuilder, request: Request) -> Value:
    """Where the first draw looks up its limits, int64 (1,).

    A number less R counts from the end of a table: there lie the limits without boundary, and the same log p
    and next context as before. That one's number is right again, so this does for one short draw.
    """
    some_short = g.Clip(request.short, np.int64(0), np.int64(1))
    return g.Sub(request.row, g.Mul(some_short, np.int64(request.weights.n_contexts)))


def _transitions(g: GraphBuilder, request: Request, rows: Value, ids: Value) -> Value:
    """Where log p of drawing `ids` after the contexts `rows` stands."""
    return g.Add(g.Mul(rows, np.int64(request.weights.vocab_size)), ids)


def _step_by_limits(
    request: Request, limits: Value, following: Value, many: bool, several_short: bool
) -> Step:
    """A state is the context's number, and that leads to log p: see `_transitions`."""
    v, r = request.weights.vocab_size, np.int64(request.weights.n_contexts)

    def step(g: GraphBuilder, rows: Value, uniforms: Value, column: Column) -> tuple[Value, Value, Value]:
        if several_short:
            short = g.Less(column(g), request.short)  # (S,)
            rows = g.Sub(rows, g.Where(short, r, np.int64(0)))  # see _first_row
        drawn = add_draw_within(g, g.Gather(limits, rows), uniforms, v, many)  # (S, V) -> (S,)
        return drawn, g.Add(g.GatherElements(following, rows), drawn), rows

    return step


def _context_of_each(g: GraphBuilder, request: Request) -> Value:
    """The first context for every name, (1, T) -> (n + 1, T)."""
    return g.Expand(request.context, g.Concat(g.Shape(request.uniforms, start=0, end=1), ROWS, axis=0))


def _step_by_rows(g: GraphBuilder, request: Request) -> Step:
    """A state is the context, (S, T). Gives log p itself, float64."""
    weights, v = request.weights, request.weights.vocab_size
    is_plain = request.bend.is_off(g)
    some_short = g.Greater(request.short, np.int64(0))

    def step(g: GraphBuilder, contexts: Value, uniforms: Value, column: Column) -> tuple[Value, Value, Value]:
        logits = g.cast(add_network(g, weights, request.form, contexts), np.float64)  # (S, T) -> (S, V)
        short = g.Reshape(g.Less(column(g), request.short), np.array([-1, 1]))  # (S, 1) or (1, 1)
        scores = g.choose(
            some_short, lambda g: [add_without_boundary(g, logits, v, short)], lambda g: [logits]
        )[0]

        def bent(g: GraphBuilder) -> Sequence[Value]:
            drawn = add_draw(g, add_bent_weights(g, scores, request.bend), uniforms, v)[0]  # (S, V) -> (S,)
            log_p = g.GatherElements(add_log_softmax(g, logits), g.Unsqueeze(drawn, ROWS), axis=1)  # (S, 1)
            return [drawn, g.Squeeze(log_p, ROWS)]

        drawn, log_p = g.choose(
            is_plain, lambda g: add_plain_draw(g, logits, scores, short, uniforms, v), bent
        )
        older = g.Slice(contexts, np.array([1]), np.array([weights.block_size]), ROWS)  # (S, T-1)
        return drawn, g.Concat(older, g.Unsqueeze(drawn, ROWS), axis=1), log_p

    return step


def _few(g: GraphBuilder, request: Request, start: Value, step: Step) -> Sequence[Value]:
    """The loop over characters.

    Args:
        start: states before the first draw, (1, ...) or (n + 1, ...).

    Returns:
        Ids, what leads to log p, and whether it was drawn at all, bool: (iterations, n + 1).
    """
    uniforms = g.Unsqueeze(g.Transpose(request.uniforms, perm=[1, 0]), np.array([2]))  # (W, n + 1, 1)
    # The uniform is capped at -1, which draws boundaries, from a name's end on.
    caps = np.full((request.weights.vocab_size, 1), np.inf, dtype=np.float32)
    caps[0] = -1

    def body(
        g: GraphBuilder, i: Value, carried: list[Value]
    ) -> tuple[Value, Sequence[Value], Sequence[Value]]:
        cap, states = carried
        uniform = g.Min(g.Gather(uniforms, i), cap)  # (n + 1, 1)
        drawn, states, for_log_p = step(g, states, uniform, lambda g: i)
        goes_on = g.cast(g.ReduceMax(drawn, keepdims=0), np.bool_)
        return goes_on, [g.Gather(caps, drawn), states], [drawn, for_log_p, uniform]

    trips = g.Shape(request.uniforms, start=1, end=2)
    first_cap = np.full((1, 1), np.inf, dtype=np.float32)
    carried: list[tuple[Operand, int]] = [(first_cap, TensorProto.FLOAT), (start, TensorProto.INT64)]
    *collected, used = g.loop(trips, np.bool_(True), carried, body)[2:]
    drawn = g.Squeeze(g.GreaterOrEqual(used, np.float32(0)), np.array([2]))  # (iterations, n + 1)
    return [*collected, drawn]


def _many(g: GraphBuilder, request: Request, start: Value, state_axes: int, step: Step) -> Sequence[Value]:
    """The loop over slots.

    Args:
        start: the state before each name's first draw, (1, ...).
        state_axes: how many axes a state has, without the slots'.

    Returns:
        at, ids, and what leads to log p: (iterations, S).
    """
    one = np.int64(1)
    width = g.Shape(request.uniforms, start=1, end=2)  # (1,)
    most = np.int64(most_slots(request.weights))
    slots = g.Clip(g.Div(request.n, np.int64(NAMES_PER_SLOT)), one, most)  # (1,)
    flat = g.Reshape(request.uniforms, np.array([-1]))  # (n + 1, W) -> ((n + 1) * W,)
    idle = g.Sub(g.Size(request.uniforms), one)  # a place that draws the boundary, for slots without work
    first = g.Range(np.int64(0), g.Squeeze(slots), one)  # (S,): a slot for each of the first names
    at = g.Mul(first, width)
    stride = g.Mul(slots, width)  # from a slot's name to its next
    rounds = g.Div(g.Add(request.n, slots), slots)  # at least a slot's names, of up to W draws each
    shape = g.Concat(slots, np.ones(state_axes, dtype=np.int64), axis=0)
    states = g.Expand(start, shape)  # (1, ...) -> (S, ...)

    def body(
        g: GraphBuilder, _: Value, carried: list[Value]
    ) -> tuple[Value, Sequence[Value], Sequence[Value]]:
        at, upcoming, states = carried  # upcoming (S,): first place of the slot's next name
        # GatherElements looks single numbers up in a fraction of the time of Gather.
        uniforms = g.Unsqueeze(g.GatherElements(flat, at), ROWS)  # (S,) -> (S, 1)
        drawn, states, for_log_p = step(g, states, uniforms, lambda g: g.Mod(at, width))
        goes_on = g.cast(drawn, np.bool_)  # (S,)
        following = g.Min(g.Where(goes_on, g.Add(at, one), upcoming), idle)
        which = g.Unsqueeze(goes_on, ROWS) if state_axes else goes_on
        after = [
            following,
            g.Where(goes_on, upcoming, g.Add(upcoming, stride)),
            g.Where(which, states, start),
        ]
        return g.Less(g.ReduceMin(following, keepdims=0), idle), after, [at, drawn, for_log_p]

    carried = [(value, TensorProto.INT64) for value in (at, g.Add(at, stride), states)]
    return g.loop(g.Mul(rounds, width), np.bool_(True), carried, body)[len(carried) :]
