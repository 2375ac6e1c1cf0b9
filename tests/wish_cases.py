"""Wishes, networks and names for tests against all names there are."""

import itertools
import math
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from makemore_pl.runtime.decoding import Decoding, bend, log_softmax
from makemore_pl.runtime.request import Wish
from makemore_pl.vocabulary import Vocabulary
from makemore_pl.wishes.conditional import LogProbs

ALPHABETS = ("ab", "aé美")
LONGEST = 6


def network(v: int, block_size: int, seed: int, decoding: Decoding) -> LogProbs:
    """Random logits for every context, some of them far from all others."""
    logits = np.random.default_rng(seed).normal(0, 2, (v**block_size, v))

    def log_probs(contexts: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        rows = logits[contexts @ v ** np.arange(block_size)]
        return log_softmax(bend(rows.copy(), decoding)), log_softmax(rows)

    return log_probs


def all_names(
    log_probs: LogProbs, vocabulary: Vocabulary, block_size: int, longest: int
) -> Iterator[tuple[str, float]]:
    """Every name of up to `longest` characters, and its probability as names are drawn."""
    v = len(vocabulary)
    for length in range(longest + 1):
        every = list(itertools.product(range(1, v), repeat=length))
        names = np.array(every, dtype=np.int64).reshape(len(every), length)
        padded = np.pad(names, ((0, 0), (block_size, 1)))
        total = np.zeros(len(names))
        for at in range(block_size, padded.shape[1]):
            total += log_probs(padded[:, at - block_size : at])[0][np.arange(len(names)), padded[:, at]]
        yield from ((vocabulary.decode(name), math.exp(p)) for name, p in zip(names, total, strict=True))


def texts(alphabet: str, most: int = 3) -> st.SearchStrategy[str]:
    return st.text(alphabet, max_size=most)


@st.composite
def wishes(draw: st.DrawFn, alphabet: str) -> Wish:
    """Some of the options, each absent as often as not."""

    def maybe(strategy: st.SearchStrategy[object], default: object) -> object:
        return draw(strategy) if draw(st.booleans()) else default

    text = texts(alphabet)
    expressions = st.recursive(
        st.sampled_from([*alphabet, ".", "^", "$", r"\b", r"\B", rf"[^{alphabet[0]}]", ""]),
        lambda inner: st.one_of(
            st.tuples(inner, inner).map("".join),
            st.tuples(inner, inner).map("(?:{0[0]}|{0[1]})".format),
            inner.map("(?:{})*".format),
            inner.map("(?:{}){{1,2}}?".format),
        ),
        max_leaves=5,
    )
    looks = st.tuples(st.sampled_from(["(?={})", "(?!{})", "^(?!.*{})"]), text, expressions)
    return Wish(
        temperature=maybe(st.sampled_from([0.0, 0.3, 1.7]), 1.0),
        top_k=maybe(st.integers(1, 3), 0),
        top_p=maybe(st.floats(0.2, 1), 1.0),
        prefix=maybe(texts(alphabet, 2), ""),
        suffix=maybe(texts(alphabet, 2), ""),
        contains=maybe(st.lists(texts(alphabet, 2), max_size=2), ()),
        without=maybe(texts(alphabet + "z", 1), ""),
        banned=maybe(st.lists(st.text(alphabet + "z", min_size=1, max_size=3), max_size=3), None),
        min_length=maybe(st.integers(0, LONGEST), 1),
        max_length=LONGEST,
        match=maybe(st.one_of(expressions, looks.map(lambda t: t[0].format(t[1]) + t[2])), None),
        novel=maybe(st.lists(texts(alphabet + "z", LONGEST), max_size=5), None),
    )


def chi_squared(drawn: Sequence[Hashable], probabilities: Mapping[Any, float]) -> tuple[float, int]:
    """Of what was drawn, those expected less than 10 times taken together; and its degrees of freedom."""
    n, counts = len(drawn), Counter(drawn)
    assert counts.keys() <= probabilities.keys()
    often = {what: n * p for what, p in probabilities.items() if n * p >= 10}
    rare, due = n - sum(counts[what] for what in often), n - math.fsum(often.values())
    statistic = sum((counts[what] - expected) ** 2 / expected for what, expected in often.items())
    return statistic + (rare - due) ** 2 / due, len(often)


def limit(freedom: int) -> float:
    """What chi-squared exceeds once in 10^6 times, after Wilson and Hilferty 1931."""
    return freedom * (1 - 2 / (9 * freedom) + 4.753 * math.sqrt(2 / (9 * freedom))) ** 3
