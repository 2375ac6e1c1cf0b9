"""The nodes of a single draw, each beside its rule: NumPy's in `runtime/decoding.py`, or the definition."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from helpers import open_graph
from numpy.typing import NDArray
from onnx import TensorProto, helper

from makemore_pl.graph import draw as nodes
from makemore_pl.graph.builder import GraphBuilder, Value
from makemore_pl.runtime.decoding import Decoding, bend, draw, log_softmax

V = 9
N = 20_000
BELOW_ONE = np.nextafter(np.float32(1), np.float32(0))
FLAG, FLOAT, DOUBLE, INT64 = TensorProto.BOOL, TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64


def opened(
    build: Callable[..., Sequence[Value]], kinds: Sequence[tuple[int, int]], *arrays: Any
) -> Callable[..., list[NDArray[Any]]]:
    """The nodes that `build` adds as a function of such inputs; they give values of these types and axes."""
    g = GraphBuilder()
    inputs = [
        g.input(
            f"i{i}",
            helper.np_dtype_to_tensor_dtype(array.dtype),
            [f"i{i}_{axis}" for axis in range(array.ndim)],
        )
        for i, array in enumerate(arrays)
    ]
    for i, (value, (dtype, axes)) in enumerate(zip(build(g, *inputs), kinds, strict=True)):
        g.output(value, f"o{i}", dtype, [f"o{i}_{axis}" for axis in range(axes)])
    session = open_graph(g.to_model())
    return lambda *arrays: list(session.run(None, {f"i{i}": array for i, array in enumerate(arrays)}))


def run(build: Callable[..., Sequence[Value]], kinds: Sequence[tuple[int, int]], *arrays: Any) -> Any:
    """What the nodes that `build` adds give for these inputs."""
    return opened(build, kinds, *arrays)(*arrays)


def some_scores(spread: float, seed: int = 0) -> NDArray[np.float64]:
    """(rows, V): half of them whole numbers, of which many are equal; every third row without boundary."""
    scores = np.random.default_rng(seed).normal(0, spread, (300, V)).astype(np.float32).astype(np.float64)
    scores[::2] = np.rint(scores[::2])
    scores[::3, 0] = -np.inf
    return scores


def some_weights() -> NDArray[np.float64]:
    """(N, V), the largest of each row 1: shares from the smallest float32 on, and some that are exactly 0."""
    rng = np.random.default_rng(0)
    weights = 2.0 ** rng.uniform(-rng.choice([2, 30, 155, 1000], (N, 1)), 0, (N, V))
    weights[::2] *= rng.integers(0, 2, (N // 2, V))
    weights[np.arange(N), rng.integers(V, size=N)] = 1
    weights[::5] = np.ceil(weights[::5])  # cumulative shares of k / n
    return weights


def test_limits_are_the_largest_uniforms_that_draw_each_id() -> None:
    weights = some_weights()
    [limits] = run(lambda g, w: [nodes.add_limits(g, w, V)], [(FLOAT, 2)], weights)
    cumulative = weights.cumsum(axis=1)
    before_last, total = cumulative[:, :-1], cumulative[:, -1:]
    largest = limits[:, :-1]
    assert (largest.astype(np.float64) * total < before_last).all()
    assert (np.nextafter(largest, np.float32(2)).astype(np.float64) * total >= before_last).all()
    assert np.isposinf(limits[:, -1]).all()


def test_draws_by_sums_and_by_limits_are_one_draw() -> None:
    weights, rng = some_weights(), np.random.default_rng(1)
    [limits] = run(lambda g, w: [nodes.add_limits(g, w, V)], [(FLOAT, 2)], weights)
    edges = limits[np.arange(N), rng.integers(V, size=N)].clip(-1, BELOW_ONE)
    cumulative = weights.cumsum(axis=1)
    for uniforms in (
        rng.random(N, dtype=np.float32),
        edges,
        np.nextafter(edges, np.float32(1)).clip(-1, BELOW_ONE),
        np.zeros(N, np.float32),
        np.full(N, BELOW_ONE),
        np.full(N, -1, np.float32),
    ):
        due = (cumulative <= uniforms[:, None].astype(np.float64) * cumulative[:, -1:]).sum(axis=1)
        column = uniforms[:, None]
        drawn, total = run(
            lambda g, w, u: nodes.add_draw(g, w, u, V), [(INT64, 1), (DOUBLE, 2)], weights, column
        )
        [within] = run(lambda g, a, u: [nodes.add_draw_within(g, a, u)], [(INT64, 1)], limits, column)
        np.testing.assert_array_equal(drawn, due)
        np.testing.assert_array_equal(within, due)
        np.testing.assert_array_equal(total, cumulative[:, -1:])


DECODINGS = [
    Decoding(temperature=temperature, top_k=top_k, top_p=top_p)
    for temperature, top_k, top_p in itertools.product(
        (1.0, 0.0, 1e-45, 0.4, 3.0, 1e30), (0, 1, 4, V - 1, V, V + 1), (1.0, float(BELOW_ONE), 0.6, 1e-30)
    )
]


def of(decoding: Decoding) -> list[NDArray[Any]]:
    """The graph's inputs."""
    return [
        np.array(decoding.temperature, np.float32),
        np.array(decoding.top_k, np.int64),
        np.array(decoding.top_p, np.float32),
    ]


def bent(g: GraphBuilder, scores: Value, *options: Value) -> list[Value]:
    return [nodes.add_bent_weights(g, scores, nodes.Bend(*options, V))]


@pytest.mark.parametrize("spread", [0.5, 3, 300])
def test_weights_are_bent_as_by_numpy(spread: float) -> None:
    scores = some_scores(spread)
    weights_of = opened(bent, [(DOUBLE, 2)], scores, *of(Decoding()))
    for decoding in DECODINGS:
        [weights] = weights_of(scores, *of(decoding))
        due = np.exp(bend(scores.copy(), decoding))
        np.testing.assert_array_equal(weights == 0, due == 0)
        np.testing.assert_allclose(weights, due, rtol=1e-12, atol=1e-307)


def test_a_nucleus_that_reaches_p_exactly_ends_there() -> None:
    """Of 1, 1/2, 1/4 and 1/4 the first is half."""
    scores = np.full((1, V), -np.inf)
    scores[0, [3, 1, 8, 5]] = np.log([1, 0.5, 0.25, 0.25])
    for top_p, due in ((0.5, [3]), (0.51, [1, 3]), (0.75, [1, 3]), (0.76, [1, 3, 5, 8])):
        [weights] = run(bent, [(DOUBLE, 2)], scores, *of(Decoding(top_p=top_p)))
        assert np.flatnonzero(weights[0]).tolist() == due


def test_which_options_bend() -> None:
    def build(g: GraphBuilder, *options: Value) -> list[Value]:
        bend = nodes.Bend(*options, V)
        return [bend.is_off(g), bend.keeps_k(g), bend.keeps_p(g)]

    flags_of = opened(build, [(FLAG, 0)] * 3, *of(Decoding()))
    for decoding in DECODINGS:
        found = flags_of(*of(decoding))
        due = (not decoding.bends, 0 < decoding.top_k < V, decoding.top_p < 1)
        assert tuple(map(bool, found)) == due


@pytest.mark.parametrize("spread", [1, 30, 1000])
@pytest.mark.parametrize("short", [False, True])
def test_plain_draws_and_their_log_likelihoods(spread: float, short: bool) -> None:
    logits = np.random.default_rng(2).normal(0, spread, (2_000, V))
    logits[::4, 0] += 2 * spread
    uniforms = np.random.default_rng(3).random(2_000, dtype=np.float32)

    def build(g: GraphBuilder, logits: Value, uniforms: Value) -> list[Value]:
        scores = nodes.add_without_boundary(g, logits, V) if short else logits
        is_short = g.constant(np.bool_(short))
        plain = nodes.add_plain_draw(g, logits, scores, is_short, uniforms, V)
        return [*plain, nodes.add_log_softmax(g, logits)]

    kinds = [(INT64, 1), (DOUBLE, 1), (DOUBLE, 2)]
    drawn, log_p, log_probs = run(build, kinds, logits, uniforms[:, None])
    due = draw(logits, uniforms, Decoding(min_length=int(short)), length=0)
    np.testing.assert_array_equal(drawn, due)
    np.testing.assert_allclose(log_probs, log_softmax(logits), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(log_p, log_softmax(logits)[np.arange(2_000), due], rtol=1e-12, atol=1e-12)
