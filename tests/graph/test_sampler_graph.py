"""`sampler.onnx` against the step-by-step sampler: same uniforms, same names, character by character."""

import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from helpers import open_graph, random_weights
from numpy.typing import NDArray
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument, RuntimeException

from makemore_pl.exported.metadata import FORMS, Form
from makemore_pl.graph import loops
from makemore_pl.graph.forms import build_model
from makemore_pl.graph.sampler_graph import build_sampler
from makemore_pl.model import folded_weights
from makemore_pl.model.folded_weights import FoldedWeights, FormError
from makemore_pl.runtime.decoding import Decoding, NextLogits, sample_stepwise

BELOW_ONE = np.nextafter(np.float32(1), np.float32(0))

Sample = Callable[..., tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]]


def codepoints(vocab_size: int) -> NDArray[np.int32]:
    return np.concatenate([[0], np.arange(vocab_size - 1) + ord("a")]).astype(np.int32)


def open_sampler(weights: FoldedWeights, form: Form) -> tuple[Sample, NextLogits]:
    """The sampler's graph as a function, and the logits of the same form for the reference."""
    session = open_graph(build_sampler(weights, form, codepoints(weights.vocab_size)))
    network = open_graph(build_model(weights, form))

    def sample(
        uniforms: NDArray[np.float32],
        prefix: Sequence[int] = (),
        temperature: float = 1,
        top_k: int = 0,
        top_p: float = 1,
        min_length: int = 1,
    ) -> Any:
        feed = {
            "uniforms": uniforms,
            "prefix": np.array(prefix, np.int64),
            "temperature": np.array(temperature, np.float32),
            "top_k": np.array(top_k, np.int64),
            "top_p": np.array(top_p, np.float32),
            "min_length": np.array(min_length, np.int64),
        }
        return session.run(["tokens", "codepoints", "log_prob"], feed)

    return sample, lambda context: network.run(["logits"], {"context": context})[0]


def uniform(n: int, steps: int = 20, seed: int = 1) -> NDArray[np.float32]:
    return np.random.default_rng(seed).random((n, steps), dtype=np.float32)


def assert_same(
    weights: FoldedWeights,
    sampler: tuple[Sample, NextLogits],
    uniforms: NDArray[np.float32],
    prefix: Sequence[int] = (),
    **decoding: Any,
) -> NDArray[np.int64]:
    sample, next_logits = sampler
    tokens, characters, log_prob = sample(uniforms, prefix, **decoding)
    expected, expected_log_prob = sample_stepwise(
        next_logits, weights.block_size, uniforms, np.array(prefix, np.int64), Decoding(**decoding)
    )
    assert (tokens.dtype, characters.dtype, log_prob.dtype) == (np.int64, np.int32, np.float32)
    np.testing.assert_array_equal(tokens, expected)
    np.testing.assert_array_equal(characters, codepoints(weights.vocab_size)[expected])
    np.testing.assert_allclose(log_prob, expected_log_prob, rtol=1e-6, atol=1e-5)
    return tokens


DEFAULT = random_weights()


@pytest.fixture(scope="module", params=FORMS)
def default_sampler(request: pytest.FixtureRequest) -> tuple[Sample, NextLogits]:
    return open_sampler(DEFAULT, request.param)


def node_runs(uniforms: NDArray[np.float32], folder: Path, min_length: int = 0) -> list[str]:
    """Operators of the nodes that ONNX Runtime runs for these uniforms, each iteration's."""
    options = ort.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / "profile")
    model = build_sampler(DEFAULT, "table", codepoints(27)).SerializeToString()
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    one, zero = np.array(1, np.float32), np.array(0, np.int64)
    feed = {"uniforms": uniforms, "prefix": np.array([], np.int64), "temperature": one}
    session.run(None, {**feed, "top_k": zero, "top_p": one, "min_length": np.array(min_length, np.int64)})
    events = json.loads(Path(session.end_profiling()).read_text())
    return [event["args"]["op_name"] for event in events if event["cat"] == "Node"]


@pytest.mark.parametrize("min_length", [0, 1])
def test_a_plain_name_takes_the_short_way(tmp_path: Path, min_length: int) -> None:
    runs = node_runs(uniform(1), tmp_path, min_length)
    assert runs.count("If") == 1
    assert runs.count("Loop") == 1


DECODINGS: list[dict[str, Any]] = [
    {},
    {"min_length": 0},
    {"min_length": 5},
    {"temperature": 0.6},
    {"temperature": 0},
    {"temperature": 1e-6},
    {"temperature": 1e6},
    {"temperature": 1e-45},
    {"top_k": 1},
    {"top_k": 5, "temperature": 1.3},
    {"top_k": 27},
    {"top_k": 1000, "min_length": 3},
    {"top_p": 0.8},
    {"top_p": 1e-30, "min_length": 0},
    {"top_p": 0.9, "top_k": 4, "temperature": 0.8, "min_length": 4},
]


PREFIXES = [[4], [3, 1, 2], [9, 9, 1, 26, 5]]
PAYS = loops.DRAWS_PER_CONTEXT * DEFAULT.n_contexts // 21  # names of 20 characters: a table of limits is made
SIZES = [1, 2, 300, PAYS, PAYS + 1]
REQUESTS = [
    *itertools.product([10_000], [12], [[]], DECODINGS),
    *itertools.product([100, 3_000], [8], PREFIXES, [{}, {"min_length": 7, "top_k": 6}, {"min_length": 0}]),
    *itertools.product(SIZES, [20], [[]], [{}, {"min_length": 2}, {"min_length": 3}, {"top_p": 0.7}]),
    # No names, no steps, and boundaries in the prefix.
    *itertools.product(
        [0, 1, 2_000], [0, 1], [[], [5, 6], [0, 5], [0]], [{"min_length": 0}, {"min_length": 1}]
    ),
]


@pytest.mark.parametrize(("n", "steps", "prefix", "decoding"), REQUESTS, ids=str)
def test_same_uniforms_same_names(
    default_sampler: tuple[Sample, NextLogits],
    n: int,
    steps: int,
    prefix: list[int],
    decoding: dict[str, Any],
) -> None:
    tokens = assert_same(DEFAULT, default_sampler, uniform(n, steps), prefix, **decoding)
    assert n > 0 or tokens.shape == (0, 0)


@pytest.mark.parametrize("n", [3, 500])
@pytest.mark.parametrize("prefix", [[], [7]], ids=str)
def test_names_that_end_at_once_or_never(n: int, prefix: list[int]) -> None:
    for form in FORMS:
        weights = random_weights(9, 2, boundary=200)
        tokens = assert_same(weights, open_sampler(weights, form), uniform(n), prefix, min_length=0)
        assert tokens.shape == (n, len(prefix))
        weights = random_weights(9, 2, boundary=-200)
        tokens = assert_same(weights, open_sampler(weights, form), uniform(n), prefix, min_length=0)
        assert tokens.shape == (n, len(prefix) + 20)
        assert (tokens != 0).all()


@pytest.mark.parametrize(
    "decoding", [{}, {"min_length": 0}, {"top_k": 3}, {"top_p": 0.5}, {"temperature": 0.01}]
)
def test_smallest_and_largest_uniforms(
    default_sampler: tuple[Sample, NextLogits], decoding: dict[str, Any]
) -> None:
    special = np.array([0, 1e-45, 1e-39, 2**-126, 2**-24, 0.5, BELOW_ONE], np.float32)
    uniforms = np.random.default_rng(2).choice(special, (5_000, 6))
    assert_same(DEFAULT, default_sampler, uniforms, **decoding)
    assert_same(DEFAULT, default_sampler, uniforms[:500], **decoding)


@pytest.mark.parametrize("n", [500, 5_000])
def test_uniforms_on_the_edges_of_the_draws(n: int) -> None:
    """Equal logits: with V = 8 the cumulative probabilities are k/8, and so are many uniforms."""
    weights = random_weights(vocab_size=8, spread=0, boundary=0)
    weights.output[1][:] = 0
    uniforms = np.random.default_rng(3).integers(0, 8, (n, 9)).astype(np.float32) / 8
    below = np.nextafter(uniforms, np.float32(-1)).clip(0)
    for form in FORMS:
        sampler = open_sampler(weights, form)
        for decoding in ({"min_length": 0}, {"min_length": 1}, {"temperature": 0.0}, {"top_k": 2}):
            assert_same(weights, sampler, uniforms, **decoding)
            assert_same(weights, sampler, below, **decoding)


@pytest.mark.parametrize("form", FORMS)
def test_uniforms_on_either_side_of_every_edge(form: Form) -> None:
    """The limits are exact: the float32 next to a cumulative probability falls on the side it should."""
    weights = random_weights(vocab_size=12, block_size=1)
    sampler = open_sampler(weights, form)
    logits = sampler[1](np.zeros((1, 1), np.int64))[0].astype(np.float64)
    edges = (np.exp(logits - logits.max()).cumsum() / np.exp(logits - logits.max()).sum()).astype(np.float32)
    near = [np.nextafter(edges, np.float32(0)), edges, np.nextafter(edges, np.float32(2))]
    uniforms = np.minimum(np.stack(near).reshape(-1, 1), BELOW_ONE)
    assert_same(weights, sampler, uniforms, min_length=0)
    assert_same(weights, sampler, np.tile(uniforms, (60, 1)), min_length=0)


@pytest.mark.parametrize(
    ("vocab_size", "block_size", "hidden"),
    [(2, 1, (4,)), (2, 10, (8, 8)), (60, 2, (16,)), (27, 3, ()), (6, 5, (24, 16, 8)), (300, 8, (32,))],
)
@pytest.mark.parametrize("form", FORMS)
def test_other_sizes(vocab_size: int, block_size: int, hidden: Sequence[int], form: Form) -> None:
    weights = random_weights(vocab_size, block_size, hidden=hidden, boundary=2.5)
    if form == "table" and weights.n_contexts * vocab_size > folded_weights.TABLE_LIMIT:
        with pytest.raises(FormError, match="300\\^8"):
            build_sampler(weights, form, codepoints(vocab_size))
        return
    sampler = open_sampler(weights, form)
    for n in (200, 3_000):
        assert_same(weights, sampler, uniform(n, 10))
        assert_same(weights, sampler, uniform(n, 10), [1, 1, 1], temperature=0.5, top_k=20, min_length=5)


@pytest.mark.parametrize("form", ["mlp", "fused"])
def test_two_byte_vocabulary(form: Form) -> None:
    weights = random_weights(40_000, 2, n_embd=4, hidden=(8,), boundary=9)
    sampler = open_sampler(weights, form)
    assert_same(weights, sampler, uniform(20, 4))
    assert_same(weights, sampler, uniform(100, 3))
    assert_same(weights, sampler, uniform(10, 4), [39_999], top_p=0.9, min_length=3)


def test_a_table_too_large_for_limits_is_sampled_by_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folded_weights, "ENUMERABLE_LIMIT", 1000)
    assert_same(DEFAULT, open_sampler(DEFAULT, "table"), uniform(3_000))


@pytest.mark.parametrize("n", [1, 400, 3_000])
@pytest.mark.parametrize(
    "decoding",
    [
        {"temperature": -1.0},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"top_p": float("nan")},
        {"top_p": -1.0},
        {"top_k": -5},
        {"min_length": -3},
        {},
    ],
    ids=str,
)
def test_nonsense_stays_within_bounds(
    default_sampler: tuple[Sample, NextLogits], n: int, decoding: dict[str, Any]
) -> None:
    nonsense = np.array([1, 2, np.inf, -np.inf, np.nan, -0.5, 0.3, 0.7], np.float32)
    uniforms = np.random.default_rng(4).choice(nonsense, (n, 9))
    tokens, characters, log_prob = default_sampler[0](uniforms, **decoding)
    assert tokens.shape == characters.shape
    assert (tokens.shape[0], *log_prob.shape) == (n, n)
    assert tokens.shape[1] <= 9
    assert tokens.min(initial=0) >= 0
    assert tokens.max(initial=0) < 27


@pytest.mark.parametrize("prefix", [[27], [-1], [3, 1_000, 4], [-28], [2**62], [-(2**63)]], ids=str)
@pytest.mark.parametrize("n", [2, 2_000])
def test_a_prefix_outside_the_vocabulary_fails(
    default_sampler: tuple[Sample, NextLogits], prefix: list[int], n: int
) -> None:
    with pytest.raises((InvalidArgument, RuntimeException), match=r"(?i)gather"):
        default_sampler[0](uniform(n), prefix)


@pytest.mark.parametrize("n", [1, 300])
def test_the_loops_stop_with_the_last_name(tmp_path: Path, n: int) -> None:
    uniforms = np.full((n, 1_000), BELOW_ONE, np.float32)  # no boundary, ever
    endless = len(node_runs(uniforms, tmp_path))
    uniforms[:, 5] = 0  # draws the boundary
    assert len(node_runs(uniforms, tmp_path)) * 20 < endless
