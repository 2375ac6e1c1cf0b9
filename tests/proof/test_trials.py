"""The requests of the proof take every way through a sampler's graph."""

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from helpers import random_weights
from onnx import AttributeProto

from makemore_pl.exported.metadata import FORMS, Form
from makemore_pl.graph.sampler_graph import build_sampler
from makemore_pl.model import folded_weights
from makemore_pl.model.folded_weights import FoldedWeights
from makemore_pl.proof.trials import FEW_NAMES, MANY_NAMES, PLAIN_NAMES, Trial, trials
from makemore_pl.runtime.decoding import Decoding

STEPS = 6
WEIGHTS = random_weights(vocab_size=7)


REQUESTS = list(trials(WEIGHTS, STEPS))


def kinds(requests: list[Trial], *facts: Callable[[Trial], Any]) -> set[tuple[Any, ...]]:
    """The combinations of facts that there are."""
    return {tuple(fact(request) for fact in facts) for request in requests}


def size(request: Trial) -> int:
    return request.n


def prefix(request: Trial) -> str:
    return "longer than a context" if len(request.prefix) > 3 else "short" if len(request.prefix) else "none"


def short(request: Trial) -> str:
    """How many draws may not end a name."""
    beyond = request.decoding.min_length - len(request.prefix) if request.decoding.min_length else 0
    return "several" if beyond > 1 else ("none", "one")[beyond]


def temperature(request: Trial) -> float:
    """Below 1, 1, or above; or 0."""
    return float(np.sign(request.decoding.temperature - 1)) if request.decoding.temperature else -2.0


def filters(request: Trial) -> tuple[bool, bool]:
    return 0 < request.decoding.top_k < 7, request.decoding.top_p < 1


def test_all_kinds_of_requests_in_all_combinations_that_matter() -> None:
    few, many, none = FEW_NAMES, MANY_NAMES, 0
    both = (False, True)
    plain = [r for r in REQUESTS if not r.decoding.bends and not r.on_edges and r.n < PLAIN_NAMES]
    bent = [r for r in REQUESTS if r.decoding.bends and not r.on_edges]
    edges = [r for r in REQUESTS if r.on_edges]
    prefixes, shorts = ("none", "short", "longer than a context"), ("none", "one", "several")
    temperatures, combined = (-2.0, -1.0, 0.0, 1.0), tuple(itertools.product(both, both))
    assert kinds(plain, size, prefix, short) == {*itertools.product((few, many, none), prefixes, shorts)}
    assert len(plain) == 3 * 3 * 3
    bends = {*itertools.product((few, many), temperatures, combined)} - {
        (n, 0.0, combined[0]) for n in (few, many)
    }
    assert kinds(bent, size, temperature, filters) == bends
    assert kinds(bent, temperature, short) == {*itertools.product(temperatures, shorts)}
    assert kinds(bent, filters, short) == {*itertools.product(combined, shorts)}
    assert kinds(bent, prefix) == {(kind,) for kind in prefixes}
    ends = (combined[0], combined[-1])
    assert kinds(edges, size, short, filters) == {*itertools.product((few, many), shorts, ends)}
    assert len({r.seed for r in REQUESTS}) == len(REQUESTS) == len(plain) + len(bent) + len(edges) + 1


def test_ten_thousand_names_of_the_plain_model_and_fewer_of_a_large_vocabulary() -> None:
    first = REQUESTS[0]
    assert (first.n, len(first.prefix), first.decoding, first.on_edges) == (10_000, 0, Decoding(), False)
    for v, n in ((3_300, 10_000), (40_000, 2**25 // 40_000), (1_000_000, 100)):
        weights = random_weights(v, block_size=2, n_embd=1, hidden=(1,))
        assert next(trials(weights, STEPS)).n == n
        assert sum(request.n for request in trials(weights, STEPS)) < 20_000


@pytest.mark.parametrize(
    "weights",
    [
        WEIGHTS,
        random_weights(vocab_size=7, n_labels=3),
        *(random_weights(vocab_size=v, block_size=t) for v, t in ((2, 1), (3, 1), (2, 2), (7, 1), (9, 2))),
    ],
    ids=lambda weights: str(weights.n_contexts),
)
def test_few_names_are_drawn_by_rows_and_many_from_a_table(weights: FoldedWeights) -> None:
    """More than 6 uniforms for each context make a table; the graph adds a row and a column."""
    of_few, of_many = {}, {}
    for request in trials(weights, STEPS):
        if 0 < request.n < PLAIN_NAMES:
            (of_many if request.n == MANY_NAMES else of_few)[request.n] = request.width
            assert request.steps == min(request.width, STEPS)
            assert request.decoding.top_k < weights.vocab_size
    most = 6 * weights.n_contexts
    [(n, width)] = of_few.items()
    assert (n + 1) * (width + 1) <= most
    assert n == FEW_NAMES or (n + 2) * (width + 1) > most
    assert width == STEPS or (n == 1 and 2 * (width + 2) > most)
    assert (MANY_NAMES + 1) * (of_many[MANY_NAMES] + 1) > most


def test_prefixes_are_ids_and_one_holds_a_boundary() -> None:
    by_length = {len(request.prefix): request.prefix.tolist() for request in REQUESTS}
    assert {*by_length} == {0, 2, WEIGHTS.block_size + 2}
    assert all(0 < token < 7 for token in by_length[2])
    assert [token == 0 for token in by_length[5]] == [False, True, False, False, False]


@pytest.mark.parametrize("n_labels", [0, 3])
def test_uniforms_and_labels_of_a_request(n_labels: int) -> None:
    number = np.finfo(np.float32)
    ends = [0, number.smallest_subnormal, number.smallest_normal, 2**-24, 0.5, 1 - number.epsneg]
    for request in trials(random_weights(vocab_size=7, n_labels=n_labels), STEPS):
        uniforms = request.uniforms()
        assert uniforms.shape == (request.n, request.width)
        assert uniforms.dtype == np.float32
        drawn, later = np.split(uniforms, [request.steps], axis=1)
        assert request.steps == STEPS
        assert not later.any()
        assert (uniforms == request.uniforms()).all()
        found = set(drawn.ravel().tolist())
        if request.on_edges:
            assert found == {float(end) for end in ends}
        elif request.n:
            assert len(found) > 0.99 * drawn.size
        labels = request.label_ids()
        if n_labels == 0:
            assert labels is None
        else:
            assert labels is not None
            assert labels.shape == (request.n,)
            assert set(labels.tolist()) == (set(range(7, 7 + n_labels)) if request.n else set())


def nodes_of(graph: onnx.GraphProto) -> Iterator[str]:
    """All nodes, those in the bodies of If and Loop among them, by their path."""
    for node in graph.node:
        yield node.name
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                yield from nodes_of(attribute.g)


def nodes_that_run(model: onnx.ModelProto, requests: list[Trial], folder: Path) -> set[str]:
    options = ort.SessionOptions()
    options.enable_profiling = True
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # else nodes are merged
    options.profile_file_prefix = str(folder / "profile")
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    for request in requests:
        decoding = request.decoding
        feed = {
            "uniforms": request.uniforms(),
            "prefix": request.prefix,
            "temperature": np.array(decoding.temperature, np.float32),
            "top_k": np.array(decoding.top_k, np.int64),
            "top_p": np.array(decoding.top_p, np.float32),
            "min_length": np.array(decoding.min_length, np.int64),
        }
        if (labels := request.label_ids()) is not None:
            feed["label"] = labels - request.first_label
        session.run(None, feed)
    events = json.loads(Path(session.end_profiling()).read_text())
    return {e["name"].removesuffix("_kernel_time") for e in events if e["cat"] == "Node"}


def never_run(weights: FoldedWeights, form: Form, requests: list[Trial], folder: Path) -> set[str]:
    model = build_sampler(weights, form, np.arange(weights.vocab_size, dtype=np.int32))
    return set(nodes_of(model.graph)) - nodes_that_run(model, requests, folder)


def few_plain(requests: Iterator[Trial]) -> list[Trial]:
    """All but the 10,000, which take the same way as 300; and those for no name, which compare nothing."""
    return [request for request in requests if 0 < request.n < PLAIN_NAMES]


@pytest.mark.parametrize("form", FORMS)
def test_every_node_runs(tmp_path: Path, form: Form) -> None:
    """So every branch of every If."""
    requests = few_plain(trials(WEIGHTS, STEPS))
    assert never_run(WEIGHTS, form, requests, tmp_path) == set()


@pytest.mark.parametrize(
    ("form", "sizes"),
    [
        ("fused", {"vocab_size": 7, "n_labels": 3}),
        ("table", {"vocab_size": 7, "n_labels": 3}),
        ("mlp", {"vocab_size": 7, "block_size": 1}),
        ("table", {"vocab_size": 2, "block_size": 2}),
    ],
    ids=str,
)
def test_every_node_runs_with_labels_and_with_few_contexts(
    tmp_path: Path, form: Form, sizes: dict[str, int]
) -> None:
    weights = random_weights(**sizes)  # type: ignore[arg-type]
    assert never_run(weights, form, few_plain(trials(weights, STEPS)), tmp_path) == set()


@pytest.mark.parametrize(("form", "n_labels"), [("mlp", 0), ("table", 0), ("fused", 3)])
def test_every_node_runs_where_contexts_are_too_many_to_enumerate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: Form, n_labels: int
) -> None:
    monkeypatch.setattr(folded_weights, "ENUMERABLE_LIMIT", 1000)
    weights = random_weights(vocab_size=7, n_labels=n_labels)
    assert never_run(weights, form, few_plain(trials(weights, STEPS)), tmp_path) == set()


def test_a_way_that_no_request_takes_is_found(tmp_path: Path) -> None:
    some = few_plain(trials(WEIGHTS, STEPS))[:3]
    assert len(never_run(WEIGHTS, "table", some, tmp_path)) > 100
