"""Automata of texts and of lists, read against what Python says of the same names."""

import itertools

import numpy as np
import pytest
from helpers import accepted
from hypothesis import given, settings
from hypothesis import strategies as st

from makemore_pl.errors import NotExactError, VocabularyError
from makemore_pl.vocabulary import Vocabulary
from makemore_pl.wishes import automata

VOCABULARY = Vocabulary("abé")
NAMES = ["".join(name) for length in range(6) for name in itertools.product("abé", repeat=length)]


@settings(deadline=None, max_examples=50)
@given(st.text("abé", max_size=4))
def test_one_text(text: str) -> None:
    for automaton, fits in (
        (automata.starts_with(text, VOCABULARY), [name.startswith(text) for name in NAMES]),
        (automata.ends_with(text, VOCABULARY), [name.endswith(text) for name in NAMES]),
        (automata.contains(text, VOCABULARY), [text in name for name in NAMES]),
        (automata.uses_none_of(text, VOCABULARY), [not set(text) & set(name) for name in NAMES]),
    ):
        assert accepted(automaton, VOCABULARY, NAMES) == list(itertools.compress(NAMES, fits))
        assert automaton.following.shape == (len(automaton.accepts), len(VOCABULARY))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.text("abéx", max_size=4), max_size=8))
def test_many_texts(texts: list[str]) -> None:
    """Texts within texts, the empty one, and some that the vocabulary does not have."""
    avoids = automata.avoids(texts, VOCABULARY)
    assert accepted(avoids, VOCABULARY, NAMES) == [n for n in NAMES if not any(t in n for t in texts)]
    differs = automata.differs_from(texts, VOCABULARY)
    assert accepted(differs, VOCABULARY, NAMES) == [n for n in NAMES if n not in texts]
    both = automata.intersection([avoids, differs, automata.ends_with("ab", VOCABULARY)])
    fitting = [n for n in NAMES if n.endswith("ab") and not any(t in n for t in texts)]
    assert accepted(both, VOCABULARY, NAMES) == [n for n in fitting if n not in texts]
    for automaton in (avoids, differs, both):
        assert automaton.following.shape == (len(automaton.accepts), len(VOCABULARY))


def test_thousands_of_texts() -> None:
    rng = np.random.default_rng(0)
    vocabulary = Vocabulary("abcdefghij")
    texts = ["".join(rng.choice(list(vocabulary.characters), size=rng.integers(4, 9))) for _ in range(10_000)]
    names = ["".join(rng.choice(list(vocabulary.characters), size=6)) for _ in range(500)]
    names += [f"a{text}b" for text in texts[:100]]
    fitting = [name for name in names if not any(text in name for text in texts)]
    assert fitting
    assert accepted(automata.avoids(texts, vocabulary), vocabulary, names) == fitting
    assert accepted(automata.differs_from(texts, vocabulary), vocabulary, texts) == []


def test_unknown_characters() -> None:
    with pytest.raises(VocabularyError, match="does not know 'x'"):
        automata.contains("ax", VOCABULARY)
    everything = automata.uses_none_of("xyz", VOCABULARY)
    assert accepted(everything, VOCABULARY, NAMES) == NAMES


def test_only_reachable_states_are_made() -> None:
    """Of a list and of texts to be avoided, the product has hardly more states than the list."""
    names = ["".join(name) for name in itertools.product("abé", repeat=7)]
    novel = automata.differs_from(names, VOCABULARY)
    avoids = automata.avoids(["aab", "éé", "baba"], VOCABULARY)
    product = automata.intersection([novel, avoids])
    assert len(product.accepts) < len(novel.accepts) + len(avoids.accepts)


def test_keys_in_a_table_and_sorted_give_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [automata.avoids(["aab", "éé"], VOCABULARY), automata.differs_from(["ab", "béa"], VOCABULARY)]
    in_a_table = automata.intersection(parts)
    monkeypatch.setattr(automata, "MOST_KEYS", 0)
    assert (automata.intersection(parts).following == in_a_table.following).all()


@given(st.integers(1, 12), st.integers(1, 3), st.none() | st.integers(0, 4), st.integers(0, 999))
def test_what_is_reached_in_so_many_steps(n: int, n_ids: int, most: int | None, seed: int) -> None:
    graph = np.random.default_rng(seed).integers(automata.DEAD, n, size=(n, n_ids))
    distance, waiting = {0: 0}, [0]
    for key in waiting:  # which grows meanwhile
        for after in set(graph[key].tolist()) - {automata.DEAD, *distance}:
            if distance[key] != most:
                distance[after] = distance[key] + 1
                waiting.append(after)
    keys, following = automata.explore(0, graph.__getitem__, n, n_ids, most)
    assert sorted(keys.tolist()) == sorted(distance)
    assert [distance[key] for key in keys.tolist()] == sorted(distance.values())
    number = {key: i for i, key in enumerate(keys.tolist())}
    assert following.tolist() == [[number.get(after, -1) for after in graph[key].tolist()] for key in keys]


def test_too_many_states(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAKEMORE_MAX_MEMORY", "10K")
    texts = ["".join(text) for text in itertools.product("abé", repeat=6)]
    with pytest.raises(
        NotExactError, match=r"at least [\d,]+ states × 4 ids × 48 bytes = .*; at most 10.0 KiB"
    ):
        automata.avoids(texts, VOCABULARY)
    with monkeypatch.context() as limits:
        limits.setenv("MAKEMORE_MAX_MEMORY", "1G")
        parts = [automata.contains(text, VOCABULARY) for text in ("ab", "éa")]
        n_transitions = automata.intersection(parts).following.size
        limits.setattr(automata, "MOST_TRANSITIONS", n_transitions)
        automata.intersection(parts)
        limits.setattr(automata, "MOST_TRANSITIONS", n_transitions - 1)
        with pytest.raises(
            NotExactError, match=f"= {n_transitions:,} transitions; at most {n_transitions - 1:,} are"
        ):
            automata.intersection(parts)
    parts = [automata.contains(text * 6, VOCABULARY) for text in "abé"]
    with pytest.raises(NotExactError, match="states"):
        automata.intersection([*parts, automata.ends_with("abéabé", VOCABULARY)])
