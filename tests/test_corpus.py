import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from makemore_pl.errors import DataError, VocabularyError
from makemore_pl.training.corpus import TokenStream, split_names
from makemore_pl.vocabulary import Vocabulary


def windows_one_by_one(
    names: list[str], vocabulary: Vocabulary, block_size: int
) -> list[tuple[list[int], int]]:
    """The lectures' loop."""
    examples = []
    for name in names:
        context = [0] * block_size
        for token in [*vocabulary.encode(name).tolist(), 0]:
            examples.append((context, token))
            context = [*context[1:], token]
    return examples


@given(st.lists(st.text("abcxyz.é", min_size=1, max_size=9), min_size=1, max_size=12), st.integers(1, 10))
def test_windows_are_those_of_the_loop(names: list[str], block_size: int) -> None:
    vocabulary = Vocabulary.from_names(names)
    contexts, targets = TokenStream.from_names(names, vocabulary).windows(block_size)
    expected = windows_one_by_one(names, vocabulary, block_size)
    assert contexts.tolist() == [context for context, _ in expected]
    assert targets.tolist() == [target for _, target in expected]


def test_stream_takes_one_byte_a_character_or_two() -> None:
    small = TokenStream.from_names(["ab"], Vocabulary("ab"))
    assert small.tokens.dtype == np.uint8
    many = "".join(chr(0x4E00 + i) for i in range(400))
    large = TokenStream.from_names([many], Vocabulary(many))
    assert large.tokens.dtype == np.uint16
    assert large.tokens.tolist() == [*range(1, 401), 0]


def test_unknown_character_in_a_name() -> None:
    with pytest.raises(VocabularyError):
        TokenStream.from_names(["abc"], Vocabulary("ab"))


def test_distinct_names_stand_in_one_split_only() -> None:
    names = [f"name{i % 50}" for i in range(200)]
    splits = split_names(names, dedupe=True, seed=42)
    assert [len(splits.train), len(splits.dev), len(splits.test)] == [40, 5, 5]
    assert len({*splits.train, *splits.dev, *splits.test}) == 50


def test_repetitions_are_kept_when_asked() -> None:
    splits = split_names(["a", "b"] * 10, dedupe=False, seed=42)
    assert [len(splits.train), len(splits.dev), len(splits.test)] == [16, 2, 2]


@pytest.mark.parametrize("n", [1, 7])
def test_too_few_names(n: int) -> None:
    with pytest.raises(DataError, match=rf"{n} different names?; at least 8"):
        split_names([f"n{i}" for i in range(n)], dedupe=True, seed=42)


def test_fewest_names_leave_one_to_each_split() -> None:
    splits = split_names([f"n{i}" for i in range(8)], dedupe=True, seed=42)
    assert min(len(splits.train), len(splits.dev), len(splits.test)) == 1


@pytest.mark.makemore
def test_lectures_split_exactly(makemore_names: list[str]) -> None:
    splits = split_names(makemore_names, dedupe=False, seed=42)
    vocabulary = Vocabulary.from_names(makemore_names)
    assert len(vocabulary) == 27
    sizes = [
        len(TokenStream.from_names(part, vocabulary)) for part in (splits.train, splits.dev, splits.test)
    ]
    assert sizes == [182_625, 22_655, 22_866]
    assert sum(name in set(splits.train) for name in splits.dev) == 424
