"""The loops that draw names character by character, as ONNX nodes.

There are two. Few names are drawn side by side: iteration i draws character i of all of them. Many names
share slots: when a slot's name has ended, it takes the next name that waits for it. So every slot is busy
until the end, and the working set stays in the processor's cache however many names there are.

Notation: n names, S slots, W columns of the padded uniforms, K draws in all, P positions of a context, V
vocabulary size. A draw's place `at` is its flat index in the padded uniforms (n + 1, W).
"""

from collections.abc import Callable, Sequence

import numpy as np
from onnx import TensorProto

from makemore_pl.graph.builder import GraphBuilder, Operand, Value
from makemore_pl.graph.draw import ROWS
from makemore_pl.graph.steps import (
    Request,
    Step,
    Tables,
    add_tables,
    first_row,
    has_limits,
    step_by_limits,
    step_by_rows,
    transitions_of,
)
from makemore_pl.model.folded_weights import FoldedWeights

FEW = 256
"""Up to this many names are drawn side by side."""
NAMES_PER_SLOT = 4
"""More names share slots, at least this many per slot: their lengths then even out."""
MAX_SLOTS = 1024
"""Enough to hide the overhead of a node, few enough for the processor's cache. Twice as many gain little
for 100,000 names and lose more for 10,000."""
MAX_SLOTS_BY_ROWS = 256
"""The same where each step computes the network, whose hidden layers fill the cache sooner."""
MAX_ENTRIES = 1 << 22
"""Most logits of all slots together: a float64 tensor of them takes 32 MiB."""
DRAWS_PER_CONTEXT = 6
"""A table of limits is made for requests that may take this many draws per context."""


def most_slots(weights: FoldedWeights, most: int = MAX_SLOTS) -> int:
    """Names that may be drawn at a time, at most `most`."""
    return max(1, min(most, MAX_ENTRIES // weights.vocab_size))


def add_few_draws(g: GraphBuilder, request: Request, tables: Tables | None) -> Sequence[Value]:
    """Draw up to `FEW` names and `most_slots`, iteration i character i of all.

    Returns:
        Ids int64, log p float64, and flags, bool, false after a name's end: each (iterations, n + 1). The
        last row and column hold only boundaries.
    """

    def by_rows(g: GraphBuilder) -> Sequence[Value]:
        shape = g.Concat(g.Shape(request.uniforms, start=0, end=1), ROWS, axis=0)
        start = g.Expand(request.context, shape)  # (1, P) -> (n + 1, P)
        return _few(g, request, start, step_by_rows(g, request))

    if tables is None:
        return by_rows(g)
    return g.choose(has_limits(g, request), lambda g: add_few_by_limits(g, request, tables), by_rows)


def add_few_by_limits(g: GraphBuilder, request: Request, tables: Tables) -> Sequence[Value]:
    """`add_few_draws` by look-ups, for the requests that `has_limits` accepts."""
    limits, log_probs, following = tables
    step = step_by_limits(request, limits, following, many=False, several_short=False)
    names = g.Shape(request.uniforms, start=0, end=1)
    start = g.Expand(first_row(g, request), names)  # (1,) -> (n + 1,)
    ids, rows, drawn = _few(g, request, start, step)
    return [ids, g.Gather(log_probs, transitions_of(g, request, rows, ids)), drawn]


def add_many_draws(g: GraphBuilder, request: Request, tables: Tables | None) -> Sequence[Value]:
    """Draw any number of names.

    Returns:
        at int64, ids int64 and log p float64, each (K,), of all draws, the padding's among them.
    """
    weights = request.weights

    def by_rows(g: GraphBuilder) -> Sequence[Value]:
        slots = most_slots(weights, MAX_SLOTS_BY_ROWS)
        step = step_by_rows(g, request, only_bent=tables is not None)
        return _many(g, request, request.context, 1, step, slots)

    def by_limits(g: GraphBuilder, tables: Tables) -> Sequence[Value]:
        def draws(several_short: bool) -> Callable[[GraphBuilder], Sequence[Value]]:
            step = step_by_limits(request, tables[0], tables[2], many=True, several_short=several_short)
            slots = most_slots(weights)
            return lambda g: _many(
                g, request, request.row if several_short else first_row(g, request), 0, step, slots
            )

        several = g.Greater(request.short, np.int64(1))
        at, ids, rows = g.choose(several, draws(several_short=True), draws(several_short=False))
        transitions = g.Reshape(transitions_of(g, request, rows, ids), np.array([-1]))
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


def _few(g: GraphBuilder, request: Request, start: Value, step: Step) -> Sequence[Value]:
    """Add the loop over characters.

    Args:
        start: states before the first draw, (1, ...) or (n + 1, ...).

    Returns:
        Ids, what leads to log p, and the flags of `add_few_draws`: (iterations, n + 1).
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
        any_left = g.cast(g.ReduceMax(drawn, keepdims=0), np.bool_)
        return any_left, [g.Gather(caps, drawn), states], [drawn, for_log_p, uniform]

    trips = g.Shape(request.uniforms, start=1, end=2)
    first_cap = np.full((1, 1), np.inf, dtype=np.float32)
    carried: list[tuple[Operand, int]] = [(first_cap, TensorProto.FLOAT), (start, TensorProto.INT64)]
    *collected, used = g.loop(trips, np.bool_(True), carried, body)[2:]
    drawn = g.Squeeze(g.GreaterOrEqual(used, np.float32(0)), np.array([2]))  # (iterations, n + 1)
    return [*collected, drawn]


def _many(
    g: GraphBuilder, request: Request, start: Value, state_axes: int, step: Step, most: int
) -> Sequence[Value]:
    """Add the loop over slots.

    Args:
        start: the state before a name's first draw, (1, ...), or with labels each name's own, (n + 1, ...).
        state_axes: how many axes a state has, without the slots'.
        most: slots, at most.

    Returns:
        at, ids, and what leads to log p: (iterations, S).
    """
    one = np.int64(1)
    width = g.Shape(request.uniforms, start=1, end=2)  # (1,)
    slots = g.Clip(g.Div(request.n, np.int64(NAMES_PER_SLOT)), one, np.int64(most))  # (1,)
    flat = g.Reshape(request.uniforms, np.array([-1]))  # (n + 1, W) -> ((n + 1) * W,)
    idle = g.Sub(g.Size(request.uniforms), one)  # a place that draws the boundary, for slots without work
    first = g.Range(np.int64(0), g.Squeeze(slots), one)  # (S,): a slot for each of the first names
    at = g.Mul(first, width)
    stride = g.Mul(slots, width)  # from a slot's name to its next
    rounds = g.Div(g.Add(request.n, slots), slots)  # at least a slot's names, of up to W draws each

    def states_before(g: GraphBuilder, places: Value) -> Value:
        if not request.weights.n_labels:
            return start  # (1, ...)
        names = g.Div(places, width)  # (S,)
        # GatherElements looks single numbers up in a fraction of the time of Gather.
        return g.Gather(start, names) if state_axes else g.GatherElements(start, names)  # (S, ...)

    shape = g.Concat(slots, np.ones(state_axes, dtype=np.int64), axis=0)
    states = g.Expand(states_before(g, at), shape)  # (1, ...) -> (S, ...)

    def body(
        g: GraphBuilder, _: Value, carried: list[Value]
    ) -> tuple[Value, Sequence[Value], Sequence[Value]]:
        at, upcoming, states = carried  # upcoming (S,): first place of the slot's next name
        # GatherElements looks single numbers up in a fraction of the time of Gather.
        uniforms = g.Unsqueeze(g.GatherElements(flat, at), ROWS)  # (S,) -> (S, 1)
        drawn, states, for_log_p = step(g, states, uniforms, lambda g: g.Mod(at, width))
        unfinished = g.cast(drawn, np.bool_)  # (S,)
        following = g.Min(g.Where(unfinished, g.Add(at, one), upcoming), idle)
        which = g.Unsqueeze(unfinished, ROWS) if state_axes else unfinished
        after = [
            following,
            g.Where(unfinished, upcoming, g.Add(upcoming, stride)),
            g.Where(which, states, states_before(g, following)),
        ]
        return g.Less(g.ReduceMin(following, keepdims=0), idle), after, [at, drawn, for_log_p]

    carried = [(value, TensorProto.INT64) for value in (at, g.Add(at, stride), states)]
    return g.loop(g.Mul(rounds, width), np.bool_(True), carried, body)[len(carried) :]
