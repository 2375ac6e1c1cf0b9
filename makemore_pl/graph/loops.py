"""The loop that draws names, as ONNX nodes: iteration i draws character i of all of them.

Notation: n names, S = n + 1 with the padding, W columns of the padded uniforms, P positions of a context.
"""

from collections.abc import Sequence

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
    step_by_limits,
    step_by_rows,
    transitions_of,
)

DRAWS_PER_CONTEXT = 6
"""A table of limits is made for requests that may take more than this many draws per context."""


def add_draws(g: GraphBuilder, request: Request, tables: Tables | None) -> Sequence[Value]:
    """Draw names, whatever is requested.

    Args:
        g: the graph.
        request: what is drawn.
        tables: of the plain model, if they are there.

    Returns:
        Ids int64, log p float64, and flags, bool, false after a name's end: each (iterations, S). The
        last row and column hold only boundaries.
    """

    plain_by_limits = tables is not None

    def by_rows(g: GraphBuilder) -> Sequence[Value]:
        shape = g.Concat(_side_by_side(g, request), ROWS, axis=0)
        start = g.Expand(request.context, shape)  # (1, P) -> (S, P)
        return _loop(g, request, start, step_by_rows(g, request, only_bent=plain_by_limits))

    def by_limits(g: GraphBuilder, tables: Tables) -> Sequence[Value]:
        step = step_by_limits(request, tables, several_short=True)
        return _by_limits(g, request, tables, request.row, step)

    def by_what_pays(g: GraphBuilder) -> Sequence[Value]:
        n_contexts = request.weights.n_contexts
        enough = g.Greater(g.Size(request.uniforms), np.int64(DRAWS_PER_CONTEXT * n_contexts))
        return g.choose(enough, lambda g: by_limits(g, add_tables(g, request, bent=True)), by_rows)

    if not request.weights.is_enumerable:
        return by_rows(g)
    if tables is None:
        return by_what_pays(g)
    return g.choose(request.bend.is_off(g), lambda g: by_limits(g, tables), by_what_pays)


def add_common_draws(g: GraphBuilder, request: Request, tables: Tables) -> Sequence[Value]:
    """The same for the requests that `is_common` accepts, with the fewest nodes."""
    step = step_by_limits(request, tables, several_short=False)
    return _by_limits(g, request, tables, first_row(g, request), step)


def _by_limits(
    g: GraphBuilder, request: Request, tables: Tables, first: Value, step: Step
) -> Sequence[Value]:
    """The loop by look-ups, from the rows `first`, int64 (1,) or (S,); log p is looked up once, for all."""
    start = g.Expand(first, _side_by_side(g, request))  # -> (S,)
    ids, rows, drawn = _loop(g, request, start, step)
    return [ids, g.Gather(tables[1], transitions_of(g, request, rows, ids)), drawn]


def _side_by_side(g: GraphBuilder, request: Request) -> Value:
    """S, int64 (1,)."""
    return g.Shape(request.uniforms, start=0, end=1)


def _loop(g: GraphBuilder, request: Request, start: Value, step: Step) -> Sequence[Value]:
    """Add the loop over characters.

    Args:
        g: the graph.
        request: what is drawn.
        start: states before the first draw, (S, ...).
        step: from states and uniforms to draws.

    Returns:
        Ids, what leads to log p, and the flags of `add_draws`: (iterations, S).
    """
    uniforms = g.Unsqueeze(g.Transpose(request.uniforms, perm=[1, 0]), np.array([2]))  # (W, S, 1)
    # The uniform is capped at -1, which draws boundaries, from a name's end on.
    caps = np.full((request.weights.vocab_size, 1), np.inf, dtype=np.float32)
    caps[0] = -1

    def body(
        g: GraphBuilder, i: Value, carried: list[Value]
    ) -> tuple[Value, Sequence[Value], Sequence[Value]]:
        cap, states = carried
        uniform = g.Min(g.Gather(uniforms, i), cap)  # (S, 1)
        drawn, states, for_log_p = step(g, states, uniform, i)
        any_left = g.cast(g.ReduceMax(drawn, keepdims=0), np.bool_)
        return any_left, [g.Gather(caps, drawn), states], [drawn, for_log_p, uniform]

    trips = g.Shape(request.uniforms, start=1, end=2)
    first_cap = np.full((1, 1), np.inf, dtype=np.float32)
    carried: list[tuple[Operand, int]] = [(first_cap, TensorProto.FLOAT), (start, TensorProto.INT64)]
    *collected, used = g.loop(trips, np.bool_(True), carried, body)[2:]
    drawn = g.Squeeze(g.GreaterOrEqual(used, np.float32(0)), np.array([2]))  # (iterations, S)
    return [*collected, drawn]
