"""Names of all labels together, given a wish: a label is drawn first, and then a name of that label.

With the shares s of the labels, P(label | wish) = s · P(wish | label) / P(wish), where P(wish) is the sum of
s · P(wish | label) over the labels. All else follows from each label's own `Conditional`.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from makemore_pl.errors import NotExactError
from makemore_pl.memory import in_words, memory_limit
from makemore_pl.vocabulary import BOUNDARY
from makemore_pl.wishes.automata import DEAD
from makemore_pl.wishes.conditional import COUNTED, MOST_STEPS, Conditional, LogProbs, Uniforms


class Mixture:
    """The distribution of names of L labels, given a wish. It can do what a `Conditional` can.

    Args:
        shares: of the names of each label; none is 0.
        log_probs: the network for each label.
        given: makes the distribution given the wish, of one label's network.

    Raises:
        NotExactError: there are too many states.
    """

    def __init__(
        self,
        shares: Mapping[str, float],
        log_probs: Sequence[LogProbs],
        given: Callable[[LogProbs], Conditional],
    ) -> None:
        self._labels = list(shares)
        self._log_probs = log_probs
        self._log_shares = np.log(list(shares.values()))
        self._given = given
        self._parts: list[Conditional] = []
        for one in log_probs:
            self._parts.append(given(one))
            self._require_room()
        self.max_length = self._parts[0].max_length
        self.n_uniforms = self.max_length + 1
        log_weights = self._log_shares + [part.log_probability for part in self._parts]  # (L,)
        self.log_probability = float(np.logaddexp.reduce(log_weights))
        if self.log_probability > -math.inf:
            self._cumulative = np.exp(log_weights - self.log_probability).cumsum()  # (L,)

    @property
    def n_bytes(self) -> int:
        """Bytes of its tables."""
        return sum(part.n_bytes for part in self._parts)

    def labels(self, uniforms: NDArray[np.floating[Any]]) -> list[str]:
        """The label of each name, from its first uniform (n,)."""
        return [self._labels[number] for number in self._numbers(uniforms)]

    def draw(self, n: int, uniforms: Uniforms) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Draw names; see `Conditional.draw`. The first uniform is the label's, the others follow."""
        numbers = self._numbers(uniforms(0, np.arange(n)))
        tokens = np.full((n, self.max_length), BOUNDARY)
        log_prob = np.empty(n)
        for number, part in enumerate(self._parts):
            rows = np.flatnonzero(numbers == number)

            def later(step: int, names: NDArray[np.int64], rows: NDArray[np.int64] = rows) -> Any:
                return uniforms(step + 1, rows[names])

            drawn, log_prob[rows] = part.draw(len(rows), later)
            tokens[rows, : drawn.shape[1]] = drawn
        longest = int((tokens != BOUNDARY).sum(axis=1).max(initial=0))
        return tokens[:, :longest], log_prob

    def log_collision(self) -> float:
        """log of the probability that two names, drawn independently, are the same, whatever their labels.

        Raises:
            NotExactError: there are too many pairs of labels.
        """
        n_labels = len(self._parts)
        n_pairs = n_labels * (n_labels + 1) // 2
        n_steps = max(part.n_steps for part in self._parts)
        if n_pairs * n_steps > MOST_STEPS:
            raise NotExactError(
                f"{n_pairs:,} pairs of labels × {n_steps:,} steps are more than {MOST_STEPS:,} steps"
            )
        same = -math.inf  # log of the sum over names of P(name, wish)^2
        for i, j in itertools.combinations_with_replacement(range(n_labels), 2):
            both = self._given(_both(self._log_probs[i], self._log_probs[j])).log_probability
            same = np.logaddexp(same, both + self._log_shares[[i, j]].sum() + math.log(1 + (i != j)))
        return float(same) - 2 * self.log_probability

    def n_names(self) -> int | None:
        """Count the different names; None where there are more than `COUNTED`."""
        first, *others = self._parts
        if all(np.array_equal(first.following, other.following) for other in others):
            return first.n_names()
        # Bent, labels differ in what is never drawn: a name is followed in the states of all at once.
        states = np.zeros((len(self._parts), 1), dtype=np.int64)  # (L, a), DEAD for labels that are out
        ways = np.array([1.0])  # (a,)
        n_names = 0
        for length in range(self.max_length + 1):
            following = np.stack(
                [p.following_that_lead_on(s, length) for p, s in zip(self._parts, states, strict=True)]
            )
            open_to = (following != DEAD).any(axis=0)  # (L, a, V) -> (a, V)
            n_names += int(ways[open_to[:, BOUNDARY]].sum())
            open_to[:, BOUNDARY] = False
            if not open_to.any():
                break
            n_each = np.repeat(ways, open_to.sum(axis=1))
            states, place = np.unique(following[:, open_to], axis=1, return_inverse=True)
            ways = np.bincount(place.reshape(-1), n_each)
            if n_names + ways.sum() > COUNTED:
                return None
        return n_names

    def _numbers(self, uniforms: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
        """The number of each name's label, int64 (n,)."""
        target = uniforms[:, None] * self._cumulative[-1]
        drawn: NDArray[np.int64] = (self._cumulative <= target).sum(axis=1)
        return drawn

    def _require_room(self) -> None:
        """Refuse as many distributions as there are labels, judging by those made so far.

        Raises:
            NotExactError: with the arithmetic.
        """
        n_labels, n_made = len(self._log_probs), len(self._parts)
        n_bytes, n_steps = (
            math.ceil(sum(sizes) / n_made)
            for sizes in zip(*((part.n_bytes, part.n_steps) for part in self._parts), strict=True)
        )
        if n_labels * n_bytes > memory_limit():
            raise NotExactError(
                f"{n_labels:,} labels × {in_words(n_bytes)} = {in_words(n_labels * n_bytes)}; "
                f"at most {in_words(memory_limit())} may be taken"
            )
        if n_labels * n_steps > MOST_STEPS:
            raise NotExactError(f"{n_labels:,} labels × {n_steps:,} steps are more than {MOST_STEPS:,} steps")


def _both(a: LogProbs, b: LogProbs) -> LogProbs:
    """What two labels draw the same, independently: the product of their probabilities."""

    def log_probs(contexts: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        product = a(contexts)[0] + b(contexts)[0]
        return product, product

    return log_probs
