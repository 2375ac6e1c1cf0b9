"""Wishes as finite automata: which names begin, end, contain or avoid something.

An automaton reads a name id by id and moves from state to state. Where several wishes must be met, the
product of their automata reads for all of them at once. Only states that can be reached are ever made.

Notation: S states, V vocabulary size.
"""

import functools
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from makemore_pl.errors import NotExactError
from makemore_pl.memory import in_words, memory_limit
from makemore_pl.vocabulary import BOUNDARY, Vocabulary

DEAD = -1
"""The state from which no name can be accepted any more. As an index, it is the last entry of a table."""
MOST_TRANSITIONS = 1 << 27
"""Of all states together: a quarter of a minute."""
MOST_KEYS = 1 << 22
"""Up to so many possible states, there is a table of all: 32 MiB."""
STATES_AT_A_TIME = 1 << 11
"""What is computed of them meanwhile fits in the processor's cache."""
BYTES_PER_TRANSITION = 48
"""Of a transition while tables are made: its state, two log-probabilities, and as much for temporaries."""


@dataclass(frozen=True)
class Automaton:
    """A deterministic finite automaton over ids. It starts in state 0."""

    following: NDArray[np.int64]  # (S, V): the state after each id, or DEAD; always DEAD for the boundary
    accepts: NDArray[np.bool_]  # (S,): a name that ends here is accepted

    def __post_init__(self) -> None:
        self.following[:, BOUNDARY] = DEAD


def intersection(automata: Sequence[Automaton]) -> Automaton:
    """The names that all of them accept.

    Raises:
        NotExactError: the product has too many states.
    """
    return functools.reduce(_product, sorted(automata, key=lambda automaton: len(automaton.accepts)))


def _product(a: Automaton, b: Automaton) -> Automaton:
    width = len(b.accepts)

    def successors(pairs: NDArray[np.int64]) -> NDArray[np.int64]:
        first, second = a.following[pairs // width], b.following[pairs % width]  # (m, V) each
        return np.where((first == DEAD) | (second == DEAD), DEAD, first * width + second)

    pairs, following = explore(0, successors, len(a.accepts) * width, a.following.shape[1])
    return Automaton(following, a.accepts[pairs // width] & b.accepts[pairs % width])


def explore(
    start: int,
    successors: Callable[[NDArray[np.int64]], NDArray[np.int64]],
    n_keys: int,
    n_ids: int,
    most_steps: int | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find and number everything that can be reached, in as many rounds as the farthest is steps away.

    Args:
        start: the key of number 0.
        successors: keys (m,) -> keys (m, V), or DEAD. Called with each key once, in the order of the numbers,
            and with no more than `STATES_AT_A_TIME`.
        n_keys: keys are from 0 on, and below it.
        n_ids: V.
        most_steps: go so many steps from the start, no further.

    Returns:
        The keys found, int64 (S,), in the order of their numbers; and the numbers of their successors, int64
        (S, V), or DEAD.

    Raises:
        NotExactError: there are too many.
    """
    found = [np.array([start])]  # by distance from the start
    keys = _Keys(n_keys)
    keys.add(found[0])
    rows = []
    while len(found[-1]):
        require_room(keys.n, n_ids)
        rows.append(np.concatenate(list(map(successors, some_at_a_time(found[-1])))))
        if most_steps is not None and len(found) > most_steps:
            break
        new = np.sort(rows[-1][(keys.numbers(rows[-1]) == DEAD) & (rows[-1] != DEAD)])
        found.append(new[np.diff(new, prepend=DEAD) != 0])  # without repeats
        keys.add(found[-1])
    return np.concatenate(found), keys.numbers(np.concatenate(rows))


def some_at_a_time(states: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """An array (m,) in pieces."""
    return np.split(states, range(STATES_AT_A_TIME, len(states), STATES_AT_A_TIME))


class _Keys:
    """Keys and their numbers, in the order in which they are added. All others have the number DEAD.

    Args:
        n_keys: keys are below it. If it is small, there is a table of all, else a sorted one of those added.
    """

    def __init__(self, n_keys: int) -> None:
        self.n = 0
        self._all = np.full(n_keys + 1, DEAD) if n_keys <= MOST_KEYS else None  # the last one is for DEAD
        self._sorted = self._number = np.array([], dtype=np.int64)

    def add(self, keys: NDArray[np.int64]) -> None:
        """Number new keys, which are sorted."""
        numbers = np.arange(self.n, self.n + len(keys))
        self.n += len(keys)
        if self._all is not None:
            self._all[keys] = numbers
        else:
            place = np.searchsorted(self._sorted, keys)
            self._sorted = np.insert(self._sorted, place, keys)
            self._number = np.insert(self._number, place, numbers)

    def numbers(self, keys: NDArray[np.int64]) -> NDArray[np.int64]:
        """Numbers of keys, of any shape."""
        if self._all is not None:
            return self._all[keys]
        place = np.searchsorted(self._sorted, keys)
        place[place == self.n] = 0
        return np.where(self._sorted[place] == keys, self._number[place], DEAD)


def require_room(n_states: int, n_ids: int) -> None:
    """Refuse tables for so many states that they would take too much time or memory.

    Raises:
        NotExactError: with the arithmetic.
    """
    n_transitions = n_states * n_ids
    if n_transitions > MOST_TRANSITIONS:
        raise NotExactError(
            f"at least {n_states:,} states × {n_ids:,} ids = {n_transitions:,} transitions; "
            f"at most {MOST_TRANSITIONS:,} are made"
        )
    n_bytes = n_transitions * BYTES_PER_TRANSITION
    if n_bytes > memory_limit():
        raise NotExactError(
            f"at least {n_states:,} states × {n_ids:,} ids × {BYTES_PER_TRANSITION} bytes = "
            f"{in_words(n_bytes)}; at most {in_words(memory_limit())} may be taken"
        )


def starts_with(text: str, vocabulary: Vocabulary) -> Automaton:
    """Names that begin with `text`."""
    following, ends, _ = _trie([text], vocabulary)
    following[ends] = np.flatnonzero(ends)
    return Automaton(following, ends)


def ends_with(text: str, vocabulary: Vocabulary) -> Automaton:
    """Names that end with `text`."""
    return Automaton(*_search([text], vocabulary))


def contains(text: str, vocabulary: Vocabulary) -> Automaton:
    """Names in which `text` occurs."""
    following, found = _search([text], vocabulary)
    following[found] = np.flatnonzero(found)
    return Automaton(following, found)


def avoids(texts: Collection[str], vocabulary: Vocabulary) -> Automaton:
    """Names in which none of `texts` occurs. Those with unknown characters occur nowhere."""
    following, found = _search(_known(texts, vocabulary), vocabulary)
    following[found] = DEAD
    following[(following != DEAD) & found[following]] = DEAD
    return Automaton(following, ~found)


def differs_from(names: Collection[str], vocabulary: Vocabulary) -> Automaton:
    """All names but `names`."""
    following, ends, _ = _trie(_known(names, vocabulary), vocabulary)
    other = len(ends)  # the state of names that have left the trie
    following = np.append(following, np.full((1, len(vocabulary)), DEAD), axis=0)
    following[following == DEAD] = other
    return Automaton(following, np.append(~ends, True))


def uses_none_of(characters: str, vocabulary: Vocabulary) -> Automaton:
    """Names without any of `characters`."""
    following = np.zeros((1, len(vocabulary)), dtype=np.int64)
    following[0, 1:][[c in characters for c in vocabulary.characters]] = DEAD
    return Automaton(following, np.array([True]))


def _known(texts: Collection[str], vocabulary: Vocabulary) -> list[str]:
    """Those of the texts that the vocabulary can write."""
    known = set(vocabulary.characters)
    return [text for text in texts if known.issuperset(text)]


def _trie(
    texts: Sequence[str], vocabulary: Vocabulary
) -> tuple[NDArray[np.int64], NDArray[np.bool_], list[NDArray[np.int64]]]:
    """The tree of all beginnings of `texts`; node 0 is the empty one.

    Returns:
        Children int64 (S, V), or DEAD; bool (S,), which nodes are whole texts; and for each depth from 1 on,
        the edges to its nodes, in their order: parent * V + id, which are places in the flat children.
    """
    n_ids = len(vocabulary)
    ids = vocabulary.encode("".join(texts))
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    starts = np.cumsum(lengths) - lengths
    node = np.zeros(len(texts), dtype=np.int64)  # of each text, at the present depth
    longer = np.arange(len(texts))  # texts that go on
    edges = []
    n_nodes = 1
    for depth in range(lengths.max(initial=0)):
        longer = longer[lengths[longer] > depth]
        new, place = np.unique(node[longer] * n_ids + ids[starts[longer] + depth], return_inverse=True)
        node[longer] = n_nodes + place
        n_nodes += len(new)
        require_room(n_nodes, n_ids)
        edges.append(new)
    children = np.full((n_nodes, n_ids), DEAD)
    children.reshape(-1)[np.concatenate([*edges, np.array([], dtype=np.int64)])] = np.arange(1, n_nodes)
    ends = np.zeros(n_nodes, dtype=np.bool_)
    ends[node] = True
    return children, ends, edges


def _search(texts: Sequence[str], vocabulary: Vocabulary) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Search for all texts at once, after Aho and Corasick 1975.

    Returns:
        Next states int64 (S, V), and bool (S,): a text has just ended here.
    """
    following, found, edges = _trie(texts, vocabulary)
    # The longest beginning of a text with which the characters of a node end, its own aside.
    shorter = np.zeros(len(found), dtype=np.int64)
    following[0][following[0] == DEAD] = 0
    for depth, new in enumerate(edges):  # what is shorter has its row already
        parents, ids = np.divmod(new, len(vocabulary))
        nodes = following[parents, ids]
        if depth > 0:
            shorter[nodes] = following[shorter[parents], ids]
        found[nodes] |= found[shorter[nodes]]
        following[nodes] = np.where(following[nodes] == DEAD, following[shorter[nodes]], following[nodes])
    return following, found
