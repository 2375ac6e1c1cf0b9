"""Names of all labels together, given a wish: against all names of all labels, one by one."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from wish_cases import LONGEST, all_names, chi_squared, limit, network, wishes

from makemore_pl.errors import NotExactError
from makemore_pl.runtime.request import Wish
from makemore_pl.vocabulary import Vocabulary
from makemore_pl.wishes import mixture
from makemore_pl.wishes.conditional import Conditional, LogProbs
from makemore_pl.wishes.id_uniforms import IdUniforms
from makemore_pl.wishes.mixture import Mixture


@dataclass(frozen=True)
class Case:
    """A network for each label, and a wish."""

    wish: Wish
    vocabulary: Vocabulary
    block_size: int
    shares: dict[str, float]
    log_probs: list[LogProbs]

    def mixture(self) -> Mixture:
        automaton = self.wish.automaton(self.vocabulary)

        def given(log_probs: LogProbs) -> Conditional:
            return Conditional(log_probs, self.block_size, automaton, self.wish.min_length, LONGEST)

        return Mixture(self.shares, self.log_probs, given)

    def joint(self) -> dict[tuple[str, str], float]:
        """P(label, name) of all names that fulfil the wish."""
        return {
            (label, name): share * p
            for (label, share), log_probs in zip(self.shares.items(), self.log_probs, strict=True)
            for name, p in all_names(log_probs, self.vocabulary, self.block_size, LONGEST)
            if p > 0 and self.wish.accepts(name)
        }


def case(wish: Wish, alphabet: str, block_size: int, parts: list[float], seed: int) -> Case:
    vocabulary = Vocabulary(alphabet)
    shares = {f"l{i}": part / sum(parts) for i, part in enumerate(parts)}
    networks = [network(len(vocabulary), block_size, seed + i, wish) for i in range(len(parts))]
    return Case(wish, vocabulary, block_size, shares, networks)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    alphabet = draw(st.sampled_from(["ab", "aé美"]))
    parts = draw(st.lists(st.floats(0.01, 1), min_size=1, max_size=3))
    return case(draw(wishes(alphabet)), alphabet, draw(st.integers(1, 2)), parts, draw(st.integers(0, 9)))


@settings(max_examples=100, deadline=None)
@given(cases())
def test_probabilities_are_those_of_all_names_of_all_labels(case: Case) -> None:
    try:
        result = case.mixture()
    except NotExactError:
        return
    joint = case.joint()
    names: dict[str, float] = {}
    for (_, name), p in joint.items():
        names[name] = names.get(name, 0) + p
    total = math.fsum(joint.values())
    assert math.exp(result.log_probability) == pytest.approx(total, abs=1e-12, rel=1e-12)
    assert result.n_names() == len(names)
    if total:
        squares = math.fsum((p / total) ** 2 for p in names.values())
        assert math.exp(result.log_collision()) == pytest.approx(squares, abs=1e-12)


def draw_from(case: Case, n: int) -> list[tuple[str, str, float]]:
    """Labels, names and log-likelihoods, from the uniforms of n ids."""
    result = case.mixture()
    ids = [str(i) for i in range(n)]
    tokens, log_prob = result.draw(n, IdUniforms(ids, ""))
    labels = result.labels(IdUniforms(ids, "")(0, np.arange(n)))
    return list(zip(labels, map(case.vocabulary.decode, tokens), log_prob.tolist(), strict=True))


WISH = Wish(contains=["ab"], match="[ab]$", top_k=3, min_length=2, max_length=LONGEST)
THREE = case(WISH, "abc", 2, [1, 3, 2], 1)


def test_labels_and_names_are_drawn_together() -> None:
    """100,000 of them; fails by chance once in 10^6, and does where one label's share is off by a tenth."""
    drawn, joint = draw_from(THREE, 100_000), THREE.joint()
    total = math.fsum(joint.values())
    pairs = [(label, name) for label, name, _ in drawn]
    statistic, freedom = chi_squared(pairs, {pair: p / total for pair, p in joint.items()})
    assert freedom > 50
    assert statistic < limit(freedom)
    off = {(label, name): p * (1.1 if label == "l1" else 1) for (label, name), p in joint.items()}
    total = math.fsum(off.values())
    assert chi_squared(pairs, {pair: p / total for pair, p in off.items()})[0] > limit(freedom)
    plain = [dict(all_names(log_probs, THREE.vocabulary, 2, LONGEST)) for log_probs in unbent(THREE)]
    for label, name, log_prob in drawn[:200]:
        assert log_prob == pytest.approx(math.log(plain[int(label[1])][name]))


def unbent(case: Case) -> list[LogProbs]:
    """The networks as they are, without top-k."""

    def of(log_probs: LogProbs) -> LogProbs:
        return lambda contexts: (log_probs(contexts)[1],) * 2

    return [of(log_probs) for log_probs in case.log_probs]


def test_an_ids_name_by_the_docs() -> None:
    """The label from word 0, character i from word i + 1; names of 16 characters need a second block."""
    wish = Wish(match="^[ab]{16}$", max_length=16)
    two = case(wish, "ab", 1, [1, 1], 0)
    automaton = wish.automaton(two.vocabulary)

    def given(log_probs: LogProbs) -> Conditional:
        return Conditional(log_probs, 1, automaton, 1, 16)

    parts = list(map(given, two.log_probs))
    chances = [math.exp(part.log_probability) for part in parts]
    share = chances[1] / sum(chances)  # such that both labels are drawn equally often
    result = Mixture({"a": share, "b": 1 - share}, two.log_probs, given)
    ids = [f"user-{i}" for i in range(50)]
    tokens, _ = result.draw(50, IdUniforms(ids, "k"))
    numbers = []
    for text, row in zip(ids, tokens, strict=True):
        one = IdUniforms([text], "k")
        word, *words = [float(one(step, np.array([0]))[0]) for step in range(17)]
        numbers.append(int(word >= 0.5))
        [expected], _ = parts[numbers[-1]].draw(1, lambda step, names, words=words: np.array([words[step]]))
        assert (row == expected).all()
    assert set(numbers) == {0, 1}


ONE_LETTER = [np.array([-np.log(2), -np.log(2), -np.inf]), np.log([0.5, 0.5 - 1e-6, 1e-6])]
"""log p of the end, of a and of b, after anything: the first never draws a b, the second seldom."""


def always(log_p: NDArray[np.float64]) -> LogProbs:
    return lambda contexts: (np.repeat(log_p[None], len(contexts), axis=0),) * 2


def test_labels_without_such_names_and_chances_below_the_smallest_float() -> None:
    """Of two labels with equally many b, each is drawn by its share; one without is not, by any uniform."""
    vocabulary = Vocabulary("ab")
    automaton = Wish(suffix="b" * 60).automaton(vocabulary)
    parts = [always(ONE_LETTER[i]) for i in (0, 1, 1)]
    result = Mixture({"none": 0.2, "x": 0.2, "y": 0.6}, parts, lambda p: Conditional(p, 1, automaton, 1, 100))
    assert result.log_probability < -800
    labels = result.labels(np.array([0.0, 0.1, 0.24, 0.26, 0.999]))
    assert labels == ["x", "x", "x", "y", "y"]
    asked: set[int] = set()

    def uniforms(step: int, names: NDArray[np.int64]) -> NDArray[np.float64]:
        asked.add(step)
        return np.full(len(names), 0.4 if step == 0 else 0.999)

    tokens, _ = result.draw(3, uniforms)
    assert all(vocabulary.decode(row).endswith("b" * 60) for row in tokens)
    everything = Wish().automaton(vocabulary)
    longest = Mixture({"x": 1.0}, parts[1:2], lambda p: Conditional(p, 1, everything, 1, 9))
    asked.clear()
    longest.draw(3, uniforms)
    assert asked == set(range(longest.n_uniforms))


def test_a_name_that_one_label_alone_draws_is_counted() -> None:
    automaton = Wish().automaton(Vocabulary("ab"))
    for order, due in (((0, 0, 1), 6), ((1, 0, 0), 6), ((0, 0, 0), 2)):
        parts = [always(ONE_LETTER[i]) for i in order]
        shares = dict.fromkeys("xyz", 1 / 3)
        assert Mixture(shares, parts, lambda p: Conditional(p, 1, automaton, 1, 2)).n_names() == due


def test_too_many_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused by what the first ones take; pairs of labels count for collisions alone."""
    many = case(Wish(max_length=LONGEST), "ab", 2, [1] * 50, 0)
    one = Mixture({"a": 1}, many.log_probs[:1], lambda p: many.mixture()._parts[0])._parts[0]
    assert one.n_steps == (1 + 2 + 4) * 3 * (LONGEST + 2)  # contexts, ids, lengths and the length after
    monkeypatch.setattr(mixture, "MOST_STEPS", 50 * one.n_steps)
    result = many.mixture()
    with pytest.raises(NotExactError, match="1,275 pairs of labels × "):
        result.log_collision()
    monkeypatch.setattr(mixture, "MOST_STEPS", 49 * one.n_steps)
    with pytest.raises(NotExactError, match=r"50 labels × .* steps are more than"):
        many.mixture()
    automaton = Wish(max_length=LONGEST).automaton(many.vocabulary)
    different = Mixture(
        {"a": 0.5, "b": 0.5},
        list(map(always, ONE_LETTER)),
        lambda log_probs: Conditional(log_probs, 2, automaton, 1, LONGEST),
    )
    few, all_of_them = (part.n_steps for part in different._parts)
    assert few < all_of_them
    monkeypatch.setattr(mixture, "MOST_STEPS", 3 * all_of_them - 1)
    with pytest.raises(NotExactError, match=f"3 pairs of labels × {all_of_them:,} steps"):
        different.log_collision()
    monkeypatch.setattr(mixture, "MOST_STEPS", 3 * all_of_them)
    different.log_collision()
    monkeypatch.setenv("MAKEMORE_MAX_MEMORY", str(49 * one.n_bytes))
    with pytest.raises(NotExactError, match=r"50 labels × .* = .*; at most"):
        many.mixture()
