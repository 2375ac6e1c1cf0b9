"""The input `label` of both graphs: every form beside NumPy, every name beside the step-by-step sampler."""

import itertools
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from helpers import open_graph, random_weights
from numpy.typing import NDArray
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, RuntimeException

from makemore_pl.exported.metadata import FORMS, Form
from makemore_pl.graph.forms import build_model
from makemore_pl.graph.sampler_graph import build_sampler
from makemore_pl.model.folded_weights import FoldedWeights
from makemore_pl.runtime.decoding import Decoding, sample_stepwise

V, L = 11, 4
WEIGHTS = random_weights(vocab_size=V, n_labels=L)
ONE = random_weights(vocab_size=V, n_labels=1)
FEW_CHARACTERS = random_weights(vocab_size=8, block_size=2, n_labels=20)
LARGE = random_weights(vocab_size=200, block_size=4, hidden=(16, 8), n_labels=3)
"""Too many contexts for any table."""
REFUSED = (Fail, InvalidArgument, RuntimeException)
KINDS: list[tuple[FoldedWeights, Form]] = [
    *((WEIGHTS, form) for form in FORMS),
    (ONE, "fused"),
    (ONE, "table"),
    (FEW_CHARACTERS, "fused"),
    (LARGE, "mlp"),
    (LARGE, "fused"),
]
IDS = [f"{form}-{weights.n_contexts}" for weights, form in KINDS]


def read_by_hand(weights: FoldedWeights, contexts: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.float64]:
    """The network from its weights alone: the label's row of the embedding first, then the characters'."""
    v = weights.vocab_size
    characters, of_labels = weights.embedding[:v], weights.embedding[v:]
    rows = [
        np.concatenate([of_labels[label], *(characters[c] for c in context)])
        for label, context in zip(labels, contexts, strict=True)
    ]
    x = np.array(rows)  # (n, (1 + T) * C)
    for weight, bias in weights.hidden:
        x = np.tanh(x @ weight.T + bias)
    return np.asarray(x @ weights.output[0].T + weights.output[1])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("hidden", [(32,), (16, 8), ()], ids=str)
def test_logits_for_all_labels_and_contexts(form: Form, hidden: tuple[int, ...]) -> None:
    weights = random_weights(vocab_size=V, n_labels=L, hidden=hidden)
    everything = np.array(list(itertools.product(range(L), range(V), range(V), range(V))))
    labels, contexts = everything[:, 0], everything[:, 1:]
    [logits] = open_graph(build_model(weights, form)).run(None, {"context": contexts, "label": labels})
    np.testing.assert_allclose(logits, read_by_hand(weights, contexts, labels), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("weights", "form"), KINDS, ids=IDS)
def test_an_id_that_is_none_is_refused(weights: FoldedWeights, form: Form) -> None:
    """A label's id is no character's, and the other way round, though they share a matrix."""
    session = open_graph(build_model(weights, form))
    v, t, n_labels = weights.vocab_size, weights.block_size, weights.n_labels
    zeros = np.zeros((2, t), dtype=np.int64)
    for label in (-1, n_labels, max(v, n_labels), -n_labels, 1 << 40):
        with pytest.raises(REFUSED):
            session.run(None, {"context": zeros, "label": np.array([0, label])})
    for at, token in itertools.product(range(t), (v, v + n_labels - 1, v + n_labels)):
        wrong = zeros.copy()
        wrong[1, at] = token
        with pytest.raises(REFUSED):
            session.run(None, {"context": wrong, "label": np.array([0, 0])})
    with pytest.raises((*REFUSED, ValueError)):
        session.run(None, {"context": zeros})
    for rows, n in itertools.product(range(4), range(4)):
        if rows != n:
            inputs = {"context": np.zeros((rows, t), np.int64), "label": np.zeros(n, np.int64)}
            with pytest.raises(REFUSED, match=r"[Rr]eshape"):  # not an id that was in memory by chance
                session.run(None, inputs)


def feed(uniforms: NDArray[np.float32], label: NDArray[np.int64], prefix: Any, decoding: Decoding) -> Any:
    return {
        "uniforms": uniforms,
        "label": label,
        "prefix": np.array(prefix, np.int64),
        "temperature": np.array(decoding.temperature, np.float32),
        "top_k": np.array(decoding.top_k, np.int64),
        "top_p": np.array(decoding.top_p, np.float32),
        "min_length": np.array(decoding.min_length, np.int64),
    }


@pytest.fixture(scope="module", params=KINDS, ids=IDS)
def sampler(request: pytest.FixtureRequest) -> tuple[FoldedWeights, ort.InferenceSession]:
    weights, form = request.param
    codepoints = np.arange(weights.vocab_size, dtype=np.int32)
    return weights, open_graph(build_sampler(weights, form, codepoints))


DECODINGS = [
    Decoding(),
    Decoding(min_length=0),
    Decoding(min_length=5),
    Decoding(temperature=0),
    Decoding(temperature=0.6, top_k=4),
    Decoding(top_p=0.8, min_length=3),
]
MANY = 257
REQUESTS = [
    (0, [4]),
    (1, []),
    (7, [3, 1, 2, 7, 5]),
    (MANY, [0, 5]),
    (MANY, [4]),
    (1_200, []),
]


@pytest.mark.parametrize(("n", "prefix"), REQUESTS, ids=str)
def test_names_of_mixed_labels(sampler: Any, n: int, prefix: list[int]) -> None:
    """Beside the step-by-step sampler, and beside a run of each label alone with the same uniforms."""
    weights, session = sampler
    rng = np.random.default_rng(n)
    uniforms, label = rng.random((n, 12), dtype=np.float32), rng.integers(weights.n_labels, size=n)
    for decoding in DECODINGS:
        inputs = feed(uniforms, label, prefix, decoding)
        tokens, log_prob = session.run(["tokens", "log_prob"], inputs)
        due, due_log_prob = sample_stepwise(
            weights.logits,
            weights.block_size,
            uniforms,
            np.array(prefix, np.int64),
            decoding,
            label + weights.vocab_size,
        )
        different = int((tokens != due).any(axis=1).sum()) if tokens.shape == due.shape else n
        assert different <= n / 1_000  # float32 beside float64: a draw on a border
        if not different:
            np.testing.assert_allclose(log_prob, due_log_prob, rtol=1e-5, atol=1e-4)
        for number in range(weights.n_labels):
            own = label == number
            alone, alone_log_prob = session.run(
                ["tokens", "log_prob"], feed(uniforms[own], label[own], prefix, decoding)
            )
            np.testing.assert_array_equal(tokens[own][:, : alone.shape[1]], alone)
            np.testing.assert_allclose(log_prob[own], alone_log_prob, rtol=1e-5, atol=1e-4)


def test_labels_that_are_none(sampler: Any) -> None:
    weights, session = sampler
    for n in (3, MANY):
        uniforms = np.full((n, 5), 0.5, dtype=np.float32)
        for wrong in (-1, weights.n_labels, weights.n_labels + weights.vocab_size):
            label = np.zeros(n, dtype=np.int64)
            label[-1] = wrong
            with pytest.raises(REFUSED):
                session.run(None, feed(uniforms, label, [], Decoding()))
        for length in (0, 1, n - 1, n + 1):
            with pytest.raises(REFUSED):
                session.run(None, feed(uniforms, np.zeros(length, dtype=np.int64), [], Decoding()))
        without = {k: v for k, v in feed(uniforms, uniforms, [], Decoding()).items() if k != "label"}
        with pytest.raises(ValueError, match="label"):
            session.run(None, without)
