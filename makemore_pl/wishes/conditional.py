"""A network's names, given a wish: drawn without rejecting any, and how likely the wish is.

A network with few contexts is a table of probabilities. Together with an automaton it is a larger table: a
state is a context and a state of the automaton. From the longest allowed name backwards, the chance that a
name in some state will be accepted is

    chance(state, length) = sum over ids of P(id | state) · chance(next state, length + 1),

where the boundary leads to the end, whose chance is 1 where the automaton accepts and the length is allowed,
else 0. Ids drawn with the terms of that sum as weights make names with exactly P(name | wish). All of it is
computed as logarithms: chances may be far below the smallest float64.

Notation: n names, S states, V vocabulary size, T block size.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from makemore_pl.errors import NotExactError
from makemore_pl.memory import in_words, memory_limit
from makemore_pl.vocabulary import BOUNDARY
from makemore_pl.wishes.automata import DEAD, Automaton, explore, some_at_a_time

LogProbs: TypeAlias = Callable[[NDArray[np.int64]], tuple[NDArray[np.float64], NDArray[np.float64]]]
"""Contexts int64 (n, T) -> log p of each id (n, V) twice: as names are drawn, and under the plain model."""
Uniforms: TypeAlias = Callable[[int, NDArray[np.int64]], NDArray[np.floating[Any]]]
"""Number of a character, and which names (a,) still grow -> their uniforms (a,) in [0, 1)."""

MOST_STEPS = 1 << 33
"""Transitions, each for each length: about a minute."""
COUNTED = 10**12
"""Up to so many, names are counted."""
ACCURACY = 1e-13
"""Of the logarithm of a chance, where chances for many lengths have become the same."""


class Conditional:
    """The distribution of names, given that an automaton accepts them and that their length is allowed.

    Args:
        log_probs: the network, see `LogProbs`.
        block_size: T.
        automaton: the wish.
        min_length: fewest characters.
        max_length: most characters. A name must have ended by then: none is cut.

    Raises:
        NotExactError: there are too many states.
    """

    def __init__(
        self, log_probs: LogProbs, block_size: int, automaton: Automaton, min_length: int, max_length: int
    ) -> None:
        self.max_length = self.n_uniforms = max_length  # characters, and at most so many draws for a name
        self.min_length = min_length
        n_ids = automaton.following.shape[1]
        width = len(automaton.accepts)
        n_keys = n_ids**block_size * width
        if n_keys >= 1 << 63:
            raise NotExactError(
                f"{n_ids:,} ids ^ {block_size} characters of context × {width:,} states of the wish "
                f"are more than can be numbered"
            )
        places = n_ids ** np.arange(block_size - 1, -1, -1)  # a context's number has the base V
        log_p, plain_log_p = [], []

        def successors(keys: NDArray[np.int64]) -> NDArray[np.int64]:
            contexts, states = np.divmod(keys, width)
            drawn, plain = log_probs(contexts[:, None] // places % n_ids)  # (m, T) -> (m, V)
            log_p.append(drawn)
            plain_log_p.append(plain)
            after = contexts % places[0] * n_ids
            following = (after[:, None] + np.arange(n_ids)) * width + automaton.following[states]
            return np.where((automaton.following[states] == DEAD) | np.isneginf(drawn), DEAD, following)

        keys, self.following = explore(0, successors, n_keys, n_ids, max_length)
        self._log_p = np.concatenate(log_p)  # (S, V)
        same = all(a is b for a, b in zip(log_p, plain_log_p, strict=True))
        self._plain_log_p = self._log_p if same else np.concatenate(plain_log_p)
        # After the S states come the end and, as the last, DEAD.
        self._end = len(keys)
        may_end = automaton.accepts[keys % width] & np.isfinite(self._log_p[:, BOUNDARY])
        self.following[:, BOUNDARY] = np.where(may_end, self._end, DEAD)
        self._reached = self._reach()
        self._log_chance = self._backwards(self._log_p)
        self.log_probability = float(self._log_chance[0][0])
        n_lengths = len(set(map(id, self._log_chance)))
        self.n_steps = n_lengths * self._log_p.size

    @property
    def n_bytes(self) -> int:
        """Bytes of its tables."""
        arrays = [self.following, self._log_p, self._plain_log_p, *self._log_chance]
        return sum({id(array): array.nbytes for array in arrays}.values())

    def log_collision(self) -> float:
        """log of the probability that two names, drawn independently, are the same: of the sum of squares."""
        return float(self._backwards(2 * self._log_p)[0][0]) - 2 * self.log_probability

    def n_names(self) -> int | None:
        """Count the different names; None where there are more than `COUNTED`."""
        ways = np.array([1.0])  # to get to some states, with as many characters
        states = np.array([0])
        n_names = 0
        for length in range(self.max_length + 1):
            following = self.following_that_lead_on(states, length)  # (a, V)
            followed = np.where(following == DEAD, 0, ways[:, None])
            n_names += int(followed[:, BOUNDARY].sum())
            after = np.bincount(following[:, 1:].ravel() + 1, followed[:, 1:].ravel())[1:]  # without DEAD
            states = np.flatnonzero(after)
            ways = after[states]
            if n_names + ways.sum() > COUNTED:  # each way leads to a name of its own
                return None
        return n_names

    def draw(self, n: int, uniforms: Uniforms) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Draw names.

        Args:
            n: how many.
            uniforms: one for each character and its end, but for the end after `max_length` characters.

        Returns:
            tokens int64 (n, length), 0 after the end; log_prob float64 (n,), nats under the plain model.
        """
        tokens = np.full((n, self.max_length + 1), BOUNDARY)
        log_prob = np.zeros(n)
        growing = np.arange(n)  # names, a of them
        states = np.zeros(n, dtype=np.int64)
        for length in range(self.max_length):
            if len(growing) == 0:
                break
            cumulative = self.next_probabilities(states, length).cumsum(axis=1)  # (a, V)
            target = uniforms(length, growing)[:, None] * cumulative[:, -1:]
            drawn = (cumulative <= target).sum(axis=1)
            tokens[growing, length] = drawn
            log_prob[growing] += self._plain_log_p[states, drawn]
            longer = drawn != BOUNDARY
            growing, states = growing[longer], self.following[states, drawn][longer]
        log_prob[growing] += self._plain_log_p[states, BOUNDARY]
        longest = int((tokens != BOUNDARY).sum(axis=1).max(initial=0))
        return tokens[:, :longest], log_prob

    def next_probabilities(self, states: NDArray[np.int64], length: int) -> NDArray[np.float64]:
        """P(id | state, wish) of names of `length` characters in some states (a,): float64 (a, V)."""
        log_weights = self._log_p[states] + self._log_chance[length + 1][self.following[states]]
        log_weights -= self._log_chance[length][states][:, None]
        return np.exp(log_weights, out=log_weights)

    def following_that_lead_on(self, states: NDArray[np.int64], length: int) -> NDArray[np.int64]:
        """Next states of names of `length` characters: (a,) -> int64 (a, V), DEAD on the way to no name."""
        following = self.following[states]
        leads_on = np.isfinite(self._log_chance[length + 1][following]) & (states != DEAD)[:, None]
        return np.where(leads_on, following, DEAD)

    def _reach(self) -> list[NDArray[np.int64]]:
        """For each length, the states that a name of that length can be in. Equal ones are one array."""
        reached = [np.array([0])]
        while len(reached) <= self.max_length:
            mask = np.zeros(self._end + 2, dtype=np.bool_)
            mask[self.following[reached[-1]]] = True
            states = np.flatnonzero(mask[: self._end])
            if np.array_equal(states, reached[-1]):
                return reached + [reached[-1]] * (self.max_length + 1 - len(reached))
            reached.append(states)
        return reached

    def _backwards(self, log_p: NDArray[np.float64]) -> list[NDArray[np.float64]]:
        """Sum p over all ways to the end.

        Args:
            log_p: float64 (S, V), -inf where there is no way.

        Returns:
            For each length from 0 to max_length + 1, the logarithm of the sum for each state, float64
            (S + 2,). Where the length that is left makes no difference any more, lengths share an array.
        """
        later = self._nothing(self.max_length + 1)
        sums = [later]
        # For too short names, nothing is ever settled: what they take is known beforehand.
        self._require_room(sum(map(len, self._reached[: self.min_length])), self.min_length)
        n_reached = n_lengths = 0
        settled = False
        for length in range(self.max_length, -1, -1):
            states = self._reached[length]
            steady = self.min_length < length < self.max_length and states is self._reached[length + 1]
            if not (steady and settled):
                n_reached += len(states)
                n_lengths += 1
                self._require_room(n_reached, n_lengths)
                now = self._nothing(length)
                for some in some_at_a_time(states):
                    now[some] = _log_sum_exp(log_p[some] + later[self.following[some]])
                # From one length to the next, the largest relative change never grows: a sum changes like a
                # mean of those after it. So all that are left change it by at most their number times this.
                settled = steady and length * _largest_change(now[states], later[states]) <= ACCURACY
                later = now
            sums.append(later)
        return sums[::-1]

    def _nothing(self, length: int) -> NDArray[np.float64]:
        """Chances for names of `length` characters, of which only that of the end before is known."""
        chances = np.full(self._end + 2, -np.inf)
        if self.min_length <= length - 1:
            chances[self._end] = 0
        return chances

    def _require_room(self, n_reached: int, n_lengths: int) -> None:
        """Refuse sums for too many lengths, and for too many states reached with them, one by one.

        Raises:
            NotExactError: with the arithmetic.
        """
        n_states, n_ids = self._log_p.shape
        if n_reached * n_ids > MOST_STEPS:
            raise NotExactError(
                f"{n_states:,} states × {n_ids:,} ids × {self.max_length + 1:,} lengths are more than "
                f"{MOST_STEPS:,} steps"
            )
        n_bytes = n_states * n_lengths * 8
        if n_bytes > memory_limit():
            raise NotExactError(
                f"at least {n_lengths:,} lengths × {n_states:,} states × 8 bytes = {in_words(n_bytes)}; "
                f"at most {in_words(memory_limit())} may be taken"
            )


def _log_sum_exp(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """log of the sum of exp(x) over each row: (m, V) -> (m,); overwrites `x`."""
    largest = x.max(axis=1)
    largest[np.isneginf(largest)] = 0  # all are -inf: so is the sum
    x -= largest[:, None]
    with np.errstate(divide="ignore"):
        sums: NDArray[np.float64] = largest + np.log(np.exp(x, out=x).sum(axis=1))
    return sums


def _largest_change(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Largest difference, where -inf is no different from -inf."""
    return float(np.abs(np.subtract(a, b, where=a != b, out=np.zeros_like(a))).max(initial=0))
