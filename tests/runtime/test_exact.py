"""Names of a file with labels, against all names of all labels; and what is kept of earlier wishes."""

import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import write_model
from numpy.typing import NDArray
from wish_cases import all_names, chi_squared, limit

from makemore_pl import Sampler
from makemore_pl.errors import MemoryLimitError, ModelFileError, NotExactError, RejectionWarning, RequestError
from makemore_pl.runtime import exact, ways
from makemore_pl.runtime.decoding import bend, log_softmax
from makemore_pl.runtime.engines import NextCharacterModel, open_engine
from makemore_pl.runtime.exact import Conditionals, given
from makemore_pl.runtime.request import Wish
from makemore_pl.wishes.conditional import LogProbs

SHARES = {"rare": 0.0, "x": 0.25, "y": 0.75}
"""Of the labels; no name of the training list is rare."""
LONGEST = 6


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    labels = {"labels": [*SHARES], "label_shares": [*SHARES.values()]}
    return write_model(tmp_path_factory.mktemp("model") / "model.onnx", "abc", 2, "mlp", **labels)


@pytest.fixture(scope="module")
def model(file: Path) -> NextCharacterModel:
    opened = open_engine(file)
    assert isinstance(opened, NextCharacterModel)
    return opened


def network(model: NextCharacterModel, label: str, wish: Wish) -> LogProbs:
    """log p of a label, bent and not; the label is the first id of a context."""
    first = len(model.info.vocabulary) + [*SHARES].index(label)

    def log_probs(contexts: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        logits = model.next_logits(np.pad(contexts, ((0, 0), (1, 0)), constant_values=first))
        return log_softmax(bend(logits.astype(np.float64), wish)), log_softmax(logits)

    return log_probs


def joint(model: NextCharacterModel, wish: Wish) -> dict[tuple[str, str], float]:
    """P(label, name) of all names of up to `LONGEST` characters that fulfil a wish."""
    return {
        (label, name): share * p
        for label, share in SHARES.items()
        for name, p in all_names(network(model, label, wish), model.info.vocabulary, 2, LONGEST)
        if share * p > 0 and wish.accepts(name)
    }


OPTIONS: list[dict[str, Any]] = [
    {"suffix": "a"},
    {"contains": ["ab"], "temperature": 0.6},
    {"top_k": 3, "without": "c"},
    {"match": "[ab]$", "top_p": 0.97, "min_length": 2},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_probabilities_of_one_label_and_of_all(
    file: Path, model: NextCharacterModel, options: dict[str, Any]
) -> None:
    sampler = Sampler(file)
    due = joint(model, Wish(**options))
    assert sampler.probability(**options, max_length=LONGEST) == pytest.approx(sum(due.values()), rel=1e-12)
    for label in ("x", "y"):
        of_label = sum(p for (other, _), p in due.items() if other == label) / SHARES[label]
        found = sampler.probability(**options, max_length=LONGEST, label=label)
        assert found == pytest.approx(of_label, rel=1e-12)


REJECTED: list[dict[str, Any]] = [{"match": r"(.)\1"}, {"match": r"(.)\1", "without": "c"}]
"""A back-reference has no automaton."""


@pytest.mark.filterwarnings("ignore::makemore_pl.errors.RejectionWarning")
@pytest.mark.parametrize("options", [{"min_length": 0}, *OPTIONS, *REJECTED], ids=str)
@pytest.mark.parametrize("label", [None, "x"])
def test_names_with_their_labels(
    file: Path, model: NextCharacterModel, options: dict[str, Any], label: str | None
) -> None:
    """Plainly drawn, given a wish, or rejected: 20,000 follow P(label, name), and know their likelihood."""
    wish = Wish(**options, max_length=LONGEST)
    found = [
        row
        for batch in Sampler(file).stream(20_000, seed=1, **options, max_length=LONGEST, label=label)
        for row in zip(batch.labels, batch.names, batch.log_probs, strict=True)
    ]
    due = {pair: p for pair, p in joint(model, wish).items() if label in (None, pair[0])}
    if wish.is_plain:  # the longest names may be cut
        due = {pair: p for pair, p in due.items() if len(pair[1]) < LONGEST}
        found = [row for row in found if len(row[1]) < LONGEST]
    total = sum(due.values())
    pairs = [(kind, name) for kind, name, _ in found]
    statistic, freedom = chi_squared(pairs, {pair: p / total for pair, p in due.items()})
    assert freedom > 3
    assert statistic < limit(freedom)
    plain = {
        kind: dict(all_names(network(model, kind, Wish()), model.info.vocabulary, 2, LONGEST))
        for kind in ("x", "y")
    }
    for kind, name, log_prob in found[:300]:
        assert log_prob == pytest.approx(math.log(plain[kind][name]), abs=1e-4)


def test_the_label_of_a_uniform_on_the_border(model: NextCharacterModel) -> None:
    """The first whose cumulative share exceeds it: none that no training name has."""
    uniforms = np.repeat(np.float32([[0.0], [0.25], [0.2499], [0.9999]]), 9, axis=1)
    assert list(ways.plain(model, Wish()).labels(uniforms)) == ["x", "y", "x", "y"]


@pytest.mark.parametrize("label", [None, "x"])
def test_names_are_as_long_as_allowed(file: Path, label: str | None) -> None:
    options = {"seed": 1, "temperature": 1e30, "max_length": LONGEST, "label": label}
    assert max(map(len, Sampler(file).sample(500, **options))) == LONGEST


def test_no_more_names_than_asked_for_once_those_seen_are_ruled_out(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a round without a new name."""
    monkeypatch.setattr(ways, "PATIENCE", 1)
    drawn: list[Wish] = []
    way = Sampler.way
    monkeypatch.setattr(Sampler, "way", lambda self, wish: drawn.append(wish) or way(self, wish))
    names = Sampler(file).sample(200, seed=1, unique=True, suffix="a", max_length=LONGEST)
    assert len(drawn) > 1
    assert len(names) == len(set(names)) == 200


def test_the_latest_tables_are_kept(model: NextCharacterModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as the limit allows, those asked for last; the very last one at any rate."""
    first, second, third = (Wish(suffix=text, max_length=5) for text in ("a", "b", "abc"))
    sizes = [given(model, wish).n_bytes for wish in (first, second, third)]
    assert sizes[0] == sizes[1] < sizes[2]
    monkeypatch.setattr(exact, "MOST_KEPT_BYTES", sizes[0] + sizes[2])
    conditionals = Conditionals(model)
    kept, dropped = conditionals.of(first), conditionals.of(second)
    assert conditionals.of(first) is kept
    last = conditionals.of(third)  # in the place of the second
    assert conditionals.of(first) is kept
    assert conditionals.of(third) is last
    assert conditionals.of(second) is not dropped
    monkeypatch.setattr(exact, "MOST_KEPT_BYTES", 0)
    conditionals = Conditionals(model)
    alone = conditionals.of(first)
    assert conditionals.of(first) is alone
    conditionals.of(second)
    assert conditionals.of(first) is not alone


def test_what_has_no_distribution(
    model: NextCharacterModel, run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RequestError, match="no name of 2 to 5 characters fulfils the wish"):
        given(model, Wish(suffix="a", without="a", min_length=2, max_length=5))
    alone = Sampler(shutil.copy(run_folder / "sampler.onnx", tmp_path))
    with pytest.raises(NotExactError, match=r"in model.onnx of the same export, which is not beside"):
        alone.probability(suffix="a")
    right = NextCharacterModel.next_logits

    def damaged(self: NextCharacterModel, context: NDArray[np.int64]) -> NDArray[np.float32]:
        logits = right(self, context)
        logits[(context[:, 1:] == [1, 1]).all(axis=1), 2] = np.nan
        return logits

    monkeypatch.setattr(NextCharacterModel, "next_logits", damaged)
    with pytest.raises(ModelFileError, match=r"damaged \(its logits are NaN or infinite"):
        given(model, Wish(suffix="a", max_length=5))


def test_names_are_rejected_for_the_expression_alone(run_folder: Path) -> None:
    """What else is wished is drawn, however seldom it is: of 100,000 names, none would be left."""
    sampler, match = Sampler(run_folder), r"([a-z])\1.*\1"
    rare = {"suffix": "zebelezel", "max_length": 14}
    assert sampler.probability(**rare) < 1e-9
    with pytest.warns(RejectionWarning, match="back-reference"):
        names = sampler.sample(3, seed=1, match=match, **rare)
    assert all(Wish(match=match, **rare).accepts(name) for name in names)
    few = {"suffix": "anna", "max_length": 5, "match": match, "unique": True}
    with pytest.warns(RejectionWarning), pytest.raises(RequestError, match="14 different names fulfil"):
        sampler.sample(15, **few)


def test_a_list_of_names_that_memory_does_not_hold(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAKEMORE_MAX_MEMORY", "10M")
    with pytest.raises(MemoryLimitError, match="100,001 names of about 128 bytes"):
        Sampler(run_folder).sample(100_001)
