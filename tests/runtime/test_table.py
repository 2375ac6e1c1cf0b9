"""Names drawn from a table of logits are those that are drawn step by step, and those of the graph."""

import itertools
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from helpers import random_weights
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from makemore_pl import Sampler
from makemore_pl.context_space import ContextSpace
from makemore_pl.exported.metadata import TABLE, ModelInfo
from makemore_pl.exported.stored_table import stored_logits
from makemore_pl.graph.sampler_graph import build_sampler
from makemore_pl.runtime import engines, table
from makemore_pl.runtime.decoding import Decoding, draw, sample_stepwise
from makemore_pl.runtime.engines import GraphSampler, open_engine
from makemore_pl.runtime.table import (
    DRAWS_PER_CONTEXT,
    LogitTables,
    guide_of,
    limits_of,
    pays,
)

BENDS: list[dict[str, Any]] = [
    {},
    {"temperature": 0.0},
    {"temperature": 1e-45},
    {"temperature": 0.7, "top_k": 3},
    {"top_p": 0.6},
    {"temperature": 1e30, "top_p": 0.9, "top_k": 4},
]
DECODINGS = st.builds(
    lambda bend, min_length: Decoding(**bend, min_length=min_length),
    st.sampled_from(BENDS),
    st.integers(0, 6),
)


@given(
    seed=st.integers(0, 99),
    v=st.integers(2, 7),
    t=st.integers(1, 3),
    n=st.sampled_from([0, 1, 40, 9_000]),
    steps=st.integers(0, 9),
    prefix=st.lists(st.integers(0, 1), max_size=4),
    decoding=DECODINGS,
    equal=st.booleans(),
    n_labels=st.integers(0, 3),
    at_a_time=st.sampled_from([7, 1 << 14]),
    cores=st.sampled_from([1, 3]),
)
def test_the_names_of_the_step_by_step_sampler(
    seed: int,
    v: int,
    t: int,
    n: int,
    steps: int,
    prefix: list[int],
    decoding: Decoding,
    equal: bool,
    n_labels: int,
    at_a_time: int,
    cores: int,
) -> None:
    """Also where logits are equal and uniforms few, so that many lie on the border between two ids."""
    n = min(n, 100 * at_a_time)
    rng = np.random.default_rng(seed)
    shape = max(1, n_labels) * v**t, v
    logits = np.zeros(shape, np.float32) if equal else rng.normal(0, 3, shape).astype(np.float32)
    space = ContextSpace(v, t, n_labels)
    tables = LogitTables(space, np.split(logits, max(1, n_labels)).__getitem__)
    uniforms = rng.random((n, steps), dtype=np.float32)
    if equal:
        uniforms = (uniforms * v).astype(np.int64).astype(np.float32) / np.float32(v)
    label_ids = v + rng.integers(n_labels, size=n) if n_labels else None
    request = uniforms, np.array(prefix, dtype=np.int64), decoding, label_ids
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table, "NAMES_AT_A_TIME", at_a_time)
        patch.setattr(table, "CORES", cores)
        tokens, log_prob = tables.generate(*request)
    expected, expected_log_prob = sample_stepwise(lambda c: logits[space.numbers(c)], t, *request)
    np.testing.assert_array_equal(tokens, expected)
    np.testing.assert_allclose(log_prob, expected_log_prob, rtol=1e-6, atol=1e-6)


@given(seed=st.integers(0, 999), bend=st.sampled_from(BENDS), v=st.integers(2, 9))
def test_limits_are_exact(seed: int, bend: dict[str, Any], v: int) -> None:
    """The uniform at a limit draws its id or one before it, the next float32 one after it."""
    logits = np.random.default_rng(seed).normal(0, 4, (20, v))
    decoding = Decoding(**bend)
    limits = limits_of(logits.copy(), decoding)
    assert (np.diff(limits) >= 0).all()
    for i in range(v - 1):
        at, after = limits[:, i], np.nextafter(limits[:, i], np.float32(1))
        assert (draw(logits, at, decoding, 9)[at >= 0] <= i).all()
        assert (draw(logits, after, decoding, 9)[after < 1] > i).all()


@given(seed=st.integers(0, 999), bend=st.sampled_from(BENDS), v=st.integers(2, 9), k=st.integers(0, 6))
def test_a_guide_table_knows_what_a_whole_bucket_draws(
    seed: int, bend: dict[str, Any], v: int, k: int
) -> None:
    """And says so of all buckets but those with a limit inside."""
    logits = np.random.default_rng(seed).normal(0, 4, (20, v))
    decoding, n_buckets = Decoding(**bend), 1 << k
    limits = limits_of(logits.copy(), decoding)
    guide = guide_of(limits, n_buckets)
    edges = (np.arange(n_buckets + 1) / n_buckets).astype(np.float32)
    for bucket, (first, after) in enumerate(itertools.pairwise(edges)):
        at = np.full(20, first)
        drawn = draw(logits, at, decoding, 9)
        drawn_last = draw(logits, np.nextafter(np.full(20, after), np.float32(0)), decoding, 9)
        inside = ((first <= limits) & (limits < after)).any(axis=1)
        np.testing.assert_array_equal(guide[:, bucket], np.where(inside, v, drawn))
        assert (drawn == drawn_last)[~inside].all()


@pytest.fixture(scope="module")
def engine(run_folder: Path) -> GraphSampler:
    opened = open_engine(run_folder / "sampler.onnx", prepare=False)
    assert isinstance(opened, GraphSampler)
    return opened


@pytest.mark.parametrize(
    "decoding", [Decoding(**bend, min_length=m) for bend in BENDS for m in (0, 1, 3)], ids=str
)
def test_a_file_gives_the_same_names_by_its_table_and_by_its_graph(
    engine: GraphSampler, decoding: Decoding
) -> None:
    uniforms = np.random.default_rng(1).random((4_000, 25), dtype=np.float32)
    for prefix in (np.array([], np.int64), np.array([5, 1, 2, 9])):
        by_graph = engine.generate_all(uniforms, prefix, decoding)
        codepoints, log_prob = engine.generate(uniforms, prefix, decoding)  # so many: by the table
        np.testing.assert_array_equal(codepoints, by_graph[1])
        np.testing.assert_allclose(log_prob, by_graph[2], atol=1e-4)


def test_many_names_are_drawn_from_the_table_and_few_are_not(
    engine: GraphSampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []
    monkeypatch.setattr(
        LogitTables, "generate", lambda self, u, *rest: drawn.append(len(u)) or (u.astype(int), u[:, 0])
    )
    generate = partial(engine.generate, prefix=np.array([], np.int64), decoding=Decoding())
    contexts = len(engine.info.vocabulary) ** 3
    enough = DRAWS_PER_CONTEXT * contexts // 30
    for n in (enough - 1, enough + 1):
        generate(np.zeros((n, 30), np.float32))
    assert drawn == [n]


def test_only_the_labels_asked_for_are_in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """And those asked for before, as long as all of them fit."""
    space = ContextSpace(5, 2, n_labels=4)
    logits = np.random.default_rng(0).normal(size=(4, 25, 5)).astype(np.float32)
    monkeypatch.setattr(table, "MOST_KEPT", 3 * 25 * 5)
    tables = LogitTables(space, logits.__getitem__)
    uniforms, nothing = np.random.default_rng(1).random((60, 10), dtype=np.float32), np.array([], np.int64)
    for labels, due in (([1, 3], [1, 3]), ([3], [1, 3]), ([2], [1, 2, 3]), ([2, 0], [0, 2])):
        label_ids = 5 + np.resize(labels, 60)
        tokens, _ = tables.generate(uniforms, nothing, Decoding(), label_ids)
        assert tables.of([labels[0]]).labels == due
        expected, _ = sample_stepwise(
            lambda c: logits.reshape(-1, 5)[space.numbers(c)], 2, uniforms, nothing, Decoding(), label_ids
        )
        np.testing.assert_array_equal(tokens, expected)


def test_a_table_pays_by_the_draws_and_where_the_labels_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    space, uniforms = ContextSpace(5, 2, n_labels=5), np.zeros((DRAWS_PER_CONTEXT, 25), np.float32)
    for most in (0, 1, 3):
        monkeypatch.setattr(table, "MOST_KEPT", most * 25 * 5)
        assert pays(space, uniforms, None)
        assert not pays(space, uniforms[1:], None)
        for n_labels in range(1, 5):
            label_ids = 5 + np.resize(np.arange(n_labels), len(uniforms))
            assert pays(space, uniforms, label_ids) == (n_labels <= max(1, most))
            assert not pays(space, uniforms[1:], label_ids[1:])


def test_names_of_many_contexts_are_drawn_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that hidden layers fit the cache; the names are those of one call."""
    weights, characters = random_weights(27, 8), "abcdefghijklmnopqrstuvwxyz"
    model = build_sampler(weights, "fused", np.array([0, *map(ord, characters)], dtype=np.int32))
    info = ModelInfo(characters, 8, 6, 32, 1, 1, "fused", 9, "list", "0", "id")
    onnx.helper.set_model_props(model, info.to_metadata())
    (tmp_path / "sampler.onnx").write_bytes(model.SerializeToString())
    engine = open_engine(tmp_path / "sampler.onnx")
    assert isinstance(engine, GraphSampler)
    sizes, run = [], engine._run

    def counted(outputs: list[str], uniforms: Any, *others: Any) -> Any:
        sizes.append(len(uniforms))
        return run(outputs, uniforms, *others)

    monkeypatch.setattr(engine, "_run", counted)
    uniforms = np.random.default_rng(0).random((2_345, 9), dtype=np.float32)
    request = uniforms, np.array([3]), Decoding()
    monkeypatch.setattr(engines, "NAMES_PER_CALL", 100)
    codepoints, log_prob = engine.generate(*request)
    assert sum(sizes) == 2_345
    assert max(sizes) < 200
    _, due, due_log_prob = engine.generate_all(*request)
    np.testing.assert_array_equal(codepoints, due)
    np.testing.assert_allclose(log_prob, due_log_prob, rtol=1e-6)


def rename(model: onnx.ModelProto) -> None:
    """As other programs that write a file again may do it."""
    for tensor in model.graph.initializer:
        tensor.name = tensor.name.replace(TABLE, "other")
    renamed = model.SerializeToString().replace(TABLE.encode(), b"other".ljust(len(TABLE), b"_"))
    model.ParseFromString(renamed)
    for tensor in model.graph.initializer:
        tensor.name = "other".ljust(len(TABLE), "_") if tensor.name == "other" else tensor.name


def transpose(model: onnx.ModelProto) -> None:
    """The tensor of that name holds something else, and the graph works with another."""
    [table] = [tensor for tensor in model.graph.initializer if tensor.name == TABLE]
    rename(model)
    other = model.graph.initializer.add()
    other.CopyFrom(table)
    other.name = TABLE
    other.dims[:] = other.dims[::-1]


@pytest.mark.parametrize("change", [rename, transpose])
def test_a_file_without_the_table_is_sampled_by_its_graph(
    run_folder: Path, tmp_path: Path, change: Any
) -> None:
    model = onnx.load_from_string((run_folder / "sampler.onnx").read_bytes())
    change(model)
    (tmp_path / "sampler.onnx").write_bytes(model.SerializeToString())
    engine = open_engine(tmp_path / "sampler.onnx", prepare=False)
    assert isinstance(engine, GraphSampler)
    assert engine.tables is None
    names = Sampler(tmp_path / "sampler.onnx").sample(5_000, seed=1)
    assert names == Sampler(run_folder).sample(5_000, seed=1)


def test_the_table_is_found_where_it_is_and_only_once() -> None:
    """Whatever else is in the file; a second one, or one cut short, is none."""
    table = np.random.default_rng(0).normal(size=(125, 5)).astype(np.float32)
    for other in (np.zeros(3, np.float32), np.arange(700)):
        tensors = [numpy_helper.from_array(other, "other"), numpy_helper.from_array(table, TABLE)]
        graph = helper.make_graph([], "graph", [], [], tensors)
        content = helper.make_model(graph).SerializeToString()
        np.testing.assert_array_equal(stored_logits(content, 125, 5), table)
        for wrong in (content + content, content[: content.index(table.tobytes()) + 2_499]):
            assert stored_logits(wrong, 125, 5) is None
        for shape in ((5, 125), (25, 25), (124, 5)):
            assert stored_logits(content, *shape) is None
    doubles = numpy_helper.from_array(table.astype(np.float64), TABLE).SerializeToString()
    assert stored_logits(doubles, 125, 5) is None
