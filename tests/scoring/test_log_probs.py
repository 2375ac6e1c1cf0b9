"""Columns of names against one name after the other, one character after the other."""

import pickle
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from helpers import write_model
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from makemore_pl import Scorer
from makemore_pl.errors import DataError, ModelFileError, RequestError
from makemore_pl.exported.metadata import Form
from makemore_pl.runtime.decoding import log_softmax
from makemore_pl.runtime.engines import NextCharacterModel
from makemore_pl.scoring import text_column, transitions
from makemore_pl.text import PLAIN

LATIN = "abcdefghijklmnopqrstuvwxyz"
WIDE = "".join(map(chr, range(0x4E00, 0x4E00 + 32_767)))  # as many as a training list may have
MODELS: dict[str, tuple[str, int, Form]] = {
    "table": (LATIN, 3, "table"),
    "one character of context": (LATIN, 1, "mlp"),
    "too many contexts for a table": (LATIN, 8, "fused"),
    # With 8 ids, a number that is too large forgets its beginning.
    "more contexts than int64 has numbers": ("'abzé漢😀", 40, "mlp"),
    "many characters": (WIDE, 2, "mlp"),
    "one character": ("a", 2, "mlp"),
}


LABELS = {"x": 0.3, "rare": 0.0, "of none": 0.2, "böy": 0.5}
"""And their shares: no name of the training list is rare."""


@pytest.fixture(scope="module", params=MODELS)
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "model.onnx", *MODELS[request.param])


@pytest.fixture(scope="module")
def latin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("latin") / "model.onnx", LATIN, 3, "mlp")


@pytest.fixture(scope="module", params=[("mlp", "nfc", LABELS), ("table", "none", {"x": 1.0})], ids=str)
def labelled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    form, normalize, labels = request.param
    file = tmp_path_factory.mktemp("labelled") / "model.onnx"
    stored = {"labels": [*labels], "label_shares": [*labels.values()], "normalize": normalize}
    return write_model(file, "abé", 2, form, **stored)


@pytest.fixture(autouse=True)
def each_context_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Logits whose float32 sums do not depend on how many contexts a processor is given at a time."""
    together = NextCharacterModel.next_logits

    def alone(self: NextCharacterModel, context: NDArray[np.int64]) -> NDArray[np.float32]:
        return np.concatenate([together(self, one[None]) for one in context])

    monkeypatch.setattr(NextCharacterModel, "next_logits", alone)


def slow_log_prob(scorer: Scorer, name: str | None, label: str | None = None) -> float:
    """The sum over the characters and the end of log p after the block_size ids before."""
    info = scorer.info
    if name is None or set(name) - set(info.characters):
        return np.nan
    ids = [0] * info.block_size + [info.characters.index(c) + 1 for c in name] + [0]
    first = [] if label is None else [len(info.vocabulary) + info.labels.index(label)]
    total = 0.0
    for i in range(info.block_size, len(ids)):
        context = [*first, *ids[i - info.block_size : i]]
        total += log_softmax(scorer._model.next_logits(np.array([context])))[0, ids[i]]
    return float(total)


def random_names(characters: str, n: int) -> list[str]:
    rng = random.Random(0)
    some = characters[:3] + characters[-3:]
    return ["".join(rng.choices(some, k=rng.randint(0, 12))) for _ in range(n)]


def test_every_kind_of_model(file: Path) -> None:
    scorer = Scorer(file)
    first, other = scorer.info.characters[0], scorer.info.characters[-1]
    names = ["", "*", *random_names(scorer.info.characters, 60), "\0", "Ω" + first]
    names += [before + first * 30 for before in (first, other, other + first, first + other)]
    expected = [slow_log_prob(scorer, name) for name in names]
    np.testing.assert_allclose(scorer.log_probs(names), expected, rtol=0, atol=1e-10)
    assert [s.log_prob for s in scorer.score(names)] == [
        None if x != x else x for x in scorer.log_probs(names)
    ]


@pytest.mark.parametrize("case", ["keep", "lower"])
def test_a_names_spelling_does_not_depend_on_the_names_beside_it(tmp_path: Path, case: str) -> None:
    scorer = Scorer(write_model(tmp_path / "m.onnx", f" {LATIN}é", 3, "mlp", normalize="nfc", case=case))
    spellings, names = [" anna", "mia\t", "anna maria", "", " "], ["anna", "mia", "anna maria", "", ""]
    for beside in ([], ["e\u0301va"]):
        found = scorer.log_probs([*spellings, *beside])[: len(names)]
        np.testing.assert_array_equal(found, scorer.log_probs(names))
        np.testing.assert_array_equal(found, [score.log_prob for score in scorer.score(spellings)])
    capitals, written = scorer.log_probs(["ANNA", "MIA"]), scorer.log_probs(["anna", "mia"])
    np.testing.assert_array_equal(capitals, [np.nan, np.nan] if case == "keep" else written)


LABELLED_ROWS = st.lists(
    st.tuples(
        st.none() | st.text("aeé\u0301 漢", max_size=4),
        st.none() | st.sampled_from(["", " x", "bo\u0308y", *LABELS]),
    ),
    max_size=9,
)


@given(LABELLED_ROWS, st.integers(1, 9), st.booleans(), st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_labels_and_spellings(
    labelled: Path, rows: list[tuple[str | None, str | None]], most: int, encode_names: bool, encode: bool
) -> None:
    """A label for each row, one for all, or the likeliest by Bayes; in pieces, or from a dictionary."""
    scorer = Scorer(labelled)
    info, rules = scorer.info, scorer.info.text_rules
    names = [name for name, _ in rows]
    labels = [label and label * (rules.spelled(label) in info.labels) for _, label in rows]  # or empty
    columns = [pa.array(texts, pa.string()) for texts in (names, labels)]
    for i, encoded in enumerate((encode_names, encode)):
        columns[i] = columns[i].dictionary_encode() if encoded else columns[i]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_column, "TEXTS_PER_PIECE", most)
        found, guessed = scorer.columns(*columns), scorer.columns(columns[0])
    read = [name if name is None or rules == PLAIN else rules.name(name) for name in names]
    each = {
        label: np.array([slow_log_prob(scorer, name, label) for name in read], float) for label in info.labels
    }
    due = [each[rules.spelled(label)][i] if label else np.nan for i, label in enumerate(labels)]
    lengths = [np.nan if name is None else len(name) + 1 for name in read]
    np.testing.assert_allclose(found.log_prob, due, rtol=0, atol=1e-10)
    np.testing.assert_allclose(found.per_character, np.divide(due, lengths), rtol=0, atol=1e-10)
    assert np.isnan(found.label_probability).all()
    unknown = [None if name is None else "".join(sorted(set(name) - set("abé"))) for name in read]
    assert found.unknown.tolist() == [u if label else None for u, label in zip(unknown, labels, strict=True)]
    assert guessed.unknown.tolist() == unknown
    joint = np.exp([*each.values()]) * np.array(info.label_shares)[:, None]  # (L, n)
    np.testing.assert_allclose(guessed.log_prob, np.log(joint.sum(axis=0)), rtol=0, atol=1e-10)
    shares = joint.max(axis=0) / joint.sum(axis=0)
    np.testing.assert_allclose(guessed.label_probability, shares, rtol=0, atol=1e-10)
    likeliest = np.array(info.labels)[joint.argmax(axis=0)]
    assert guessed.label.tolist() == np.where(np.isnan(joint[0]), None, likeliest).tolist()
    for label in info.labels:
        one = scorer.of_label(label).columns(names)
        np.testing.assert_allclose(one.log_prob, each[label], rtol=0, atol=1e-10)
        assert {*found.label, *one.label} <= {None}


def test_scores_one_by_one_are_the_columns(labelled: Path) -> None:
    names = ["ab", "", "za", "éb", "e\u0301b "]
    for scorer in (Scorer(labelled), Scorer(labelled, label="x")):
        columns, scores = scorer.columns(names), scorer.score(names)
        rules = scorer.info.text_rules
        assert [score.name for score in scores] == (names if rules == PLAIN else list(map(rules.name, names)))
        assert [score.unknown for score in scores] == columns.unknown.tolist()
        assert columns.unknown.tolist() == ["", "", "z", "", "" if rules != PLAIN else " e\u0301"]
        assert [score.label for score in scores] == columns.label.tolist()
        for i, one in enumerate(scores):
            found = [one.log_prob, one.per_character, one.perplexity, one.label_probability]
            due = columns.log_prob, columns.per_character, columns.perplexity, columns.label_probability
            assert all(x == x for x in found)  # None in place of NaN
            np.testing.assert_allclose(np.array(found, float), [x[i] for x in due], rtol=1e-12)


def test_a_wrong_logit_is_found(latin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = Scorer(latin)
    expected = [slow_log_prob(scorer, name) for name in ("anna", "bob")]
    right = NextCharacterModel.next_logits

    def wrong(self: NextCharacterModel, context: NDArray[np.int64]) -> NDArray[np.float32]:
        logits = right(self, context)
        logits[(context == [0, 1, 14]).all(axis=1), 14] += 1e-4  # after "an"
        return logits

    monkeypatch.setattr(NextCharacterModel, "next_logits", wrong)
    differences = np.abs(scorer.log_probs(["anna", "bob"]) - expected)
    assert differences[0] > 1e-6
    assert differences[1] < 1e-10


ROWS = [*random_names(LATIN, 40), None, "zoë", "漢", "", "anna", "anna"]
KINDS: dict[str, Callable[[list[str | None]], Any]] = {
    "tuple": tuple,
    "generator": lambda rows: (row for row in rows),
    "objects": lambda rows: np.array(rows, dtype=object),
    "objects with NaN": lambda rows: np.array([np.nan if row is None else row for row in rows], dtype=object),
    "string": lambda rows: pa.array(rows, pa.string()),
    "large_string": lambda rows: pa.array(rows, pa.large_string()),
    "string_view": lambda rows: pa.array(rows, pa.string()).cast(pa.string_view()),
    "slice": lambda rows: pa.array(["x" * 99, None, *rows, "漢"], pa.string())[2:-1],
    "chunks": lambda rows: pa.chunked_array([rows[:9], [], rows[9:]], pa.string()),
    "dictionary": lambda rows: pa.array(rows, pa.string()).dictionary_encode(),
    "slice of a dictionary": lambda rows: pa.array(["x", *rows], pa.string()).dictionary_encode()[1:],
    "large dictionary": lambda rows: pa.DictionaryArray.from_arrays(
        pa.array(range(900, 900 + len(rows))), pa.array(["z"] * 900 + rows, pa.string())
    ),
    "Polars": lambda rows: pl.Series(rows, dtype=pl.String),
    "categories of Polars": lambda rows: pl.Series(rows, dtype=pl.Categorical),
    "pandas": lambda rows: pd.Series(rows, dtype="str"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_column(latin: Path, kind: str) -> None:
    """What is not there is NaN, and what is unknown is named, whatever holds the names."""
    scorer = Scorer(latin)
    scores = scorer.columns(KINDS[kind](ROWS))
    expected = [slow_log_prob(scorer, name) for name in ROWS]
    np.testing.assert_allclose(scores.log_prob, expected, rtol=0, atol=1e-10)
    assert scores.log_prob.dtype == np.float64
    lengths = [np.nan if name is None else len(name) + 1 for name in ROWS]
    np.testing.assert_allclose(scores.per_character, np.array(expected) / lengths, rtol=1e-12)
    np.testing.assert_allclose(scores.perplexity, np.exp(-scores.per_character), rtol=1e-12)
    assert scores.unknown.tolist() == [
        None if name is None else "".join(sorted(set(name) - set(LATIN))) for name in ROWS
    ]


@pytest.mark.parametrize(
    "names",
    [
        [],
        (),
        np.array([], dtype=str),
        np.array([]),
        pa.array([], pa.string()),
        pa.array([], pa.string()).dictionary_encode(),
        pa.chunked_array([], pa.string()),
    ],
    ids=lambda names: type(names).__name__,
)
def test_no_rows(latin: Path, names: Any) -> None:
    assert Scorer(latin).log_probs(names).shape == (0,)


def test_only_nulls(latin: Path) -> None:
    for names in (
        [None, None],
        pa.nulls(2),
        pa.nulls(2, pa.string()),
        pa.nulls(2, pa.string()).dictionary_encode(),
    ):
        assert np.isnan(Scorer(latin).log_probs(names)).tolist() == [True, True]


@given(st.lists(st.text(st.sampled_from("abz\0é漢😀\ud800"), max_size=9), max_size=9), st.integers(1, 30))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_any_texts_in_any_pieces(latin: Path, names: list[str], most: int) -> None:
    scorer = Scorer(latin)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_column, "TEXTS_PER_PIECE", most)
        patch.setattr(transitions, "WINDOWS_AT_ONCE", most)
        scores = scorer.columns(names)
        fixed = [name.rstrip("\0") for name in names]  # NumPy drops these
        of_numpy = scorer.columns(np.array(fixed, dtype=str))
    expected = [slow_log_prob(scorer, name) for name in names]
    np.testing.assert_allclose(scores.log_prob, expected, rtol=0, atol=1e-10)
    assert scores.unknown.tolist() == ["".join(sorted(set(name) - set(LATIN))) for name in names]
    np.testing.assert_array_equal(of_numpy.log_prob, scorer.log_probs(fixed))


def test_equal_contexts_are_computed_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contexts: list[tuple[int, ...]] = []
    compute = NextCharacterModel.next_logits

    def counted(self: NextCharacterModel, context: NDArray[np.int64]) -> NDArray[np.float32]:
        contexts.extend(map(tuple, context.tolist()))
        return compute(self, context)

    monkeypatch.setattr(NextCharacterModel, "next_logits", counted)
    scorer = Scorer(file)
    monkeypatch.setattr(
        transitions, "ENTRIES_PER_CALL", 7 * (len(scorer.info.vocabulary) + scorer.info.block_size)
    )
    names = random_names(scorer.info.characters, 30) * 3
    scorer.log_probs(names)
    if scorer._transitions[0]._has_table:
        scorer.log_probs(names)
    assert len(contexts) == len(set(contexts)) > 0


def test_copies_and_threads_give_the_same(latin: Path) -> None:
    names = random_names(LATIN, 2_000)
    expected = Scorer(latin).log_probs(names)
    scorer = pickle.loads(pickle.dumps(Scorer(latin)))
    with ThreadPoolExecutor(8) as pool:
        for log_probs in pool.map(scorer.log_probs, [names] * 16):
            np.testing.assert_array_equal(log_probs, expected)


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        ("anna", RequestError, "names: several texts are needed, not the text 'anna'"),
        (["anna", 5], DataError, r"expected a text, found 5 \(int\)"),
        ([b"anna"], DataError, r"expected a text, found b'anna' \(bytes\)"),
        (pa.array([1, 2]), DataError, "expected texts, found int64"),
        (pa.array([1, 2]).dictionary_encode(), DataError, "expected texts, found int64"),
        (np.array([1.5]), DataError, r"expected a text, found 1.5 \(float\)"),
        (
            pa.Array.from_buffers(
                pa.string(), 1, [None, pa.py_buffer(np.array([0, 2], np.int32)), pa.py_buffer(b"\xc3\x28")]
            ),
            DataError,
            "a text is not UTF-8",
        ),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
def test_what_is_no_text(latin: Path, names: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Scorer(latin).log_probs(names)


def test_a_file_that_gives_no_logits(run_folder: Path) -> None:
    with pytest.raises(ModelFileError, match=r"a sampler, which gives no logits; model.onnx is needed"):
        Scorer(run_folder / "sampler.onnx")


def test_a_model_that_computes_nan(latin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error, but not for names that have no score anyway."""
    monkeypatch.setattr(NextCharacterModel, "next_logits", lambda self, c: np.full((len(c), 27), np.nan))
    scorer = Scorer(latin)
    assert np.isnan(scorer.log_probs([None, "é"])).all()
    with pytest.raises(ModelFileError, match="its log-likelihoods are NaN"):
        scorer.log_probs(["anna"])
