"""The requests of the proof take every way through a sampler's graph."""

import json
from collections.abc import Iterator
from pathlib import Path

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
from makemore_pl.proof.trials import PLAIN_NAMES, Trial, trials

STEPS = 6
WEIGHTS = random_weights(vocab_size=7)


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
        session.run(None, feed)
    events = json.loads(Path(session.end_profiling()).read_text())
    return {e["name"].removesuffix("_kernel_time") for e in events if e["cat"] == "Node"}


def never_run(weights: FoldedWeights, form: Form, requests: list[Trial], folder: Path) -> set[str]:
    model = build_sampler(weights, form, np.arange(weights.vocab_size, dtype=np.int32))
    return set(nodes_of(model.graph)) - nodes_that_run(model, requests, folder)


def few_plain(requests: Iterator[Trial]) -> list[Trial]:
    """All but the 10,000, which take the same way as 300."""
    return [request for request in requests if request.n < PLAIN_NAMES]


@pytest.mark.parametrize("form", FORMS)
def test_every_node_runs(tmp_path: Path, form: Form) -> None:
    """So every branch of every If."""
    requests = few_plain(trials(WEIGHTS, STEPS))
    assert never_run(WEIGHTS, form, requests, tmp_path) == set()


def test_every_node_runs_where_contexts_are_too_many_to_enumerate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folded_weights, "ENUMERABLE_LIMIT", 1000)
    for form in ("mlp", "table"):
        assert never_run(WEIGHTS, form, few_plain(trials(WEIGHTS, STEPS)), tmp_path) == set()


def test_a_way_that_no_request_takes_is_found(tmp_path: Path) -> None:
    some = few_plain(trials(WEIGHTS, STEPS))[:3]
    assert len(never_run(WEIGHTS, "table", some, tmp_path)) > 100
