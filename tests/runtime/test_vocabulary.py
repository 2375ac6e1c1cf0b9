import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from makemore_pl.errors import VocabularyError
from makemore_pl.vocabulary import BOUNDARY, Vocabulary


def test_ids_follow_code_points_and_zero_is_the_boundary() -> None:
    vocabulary = Vocabulary.from_names(["cab", "ade"])
    assert vocabulary.characters == "abcde"
    assert len(vocabulary) == 6
    assert vocabulary.encode("ace").tolist() == [1, 3, 5]
    assert vocabulary.decode([1, 3, BOUNDARY, 5]) == "ac"


def test_vocabularies_with_the_same_characters_are_equal() -> None:
    assert Vocabulary("ab") == Vocabulary("ba")
    assert Vocabulary("ab") != Vocabulary("ac")
    assert Vocabulary("ab") != "ab"


def test_code_point_of_each_id() -> None:
    codepoints = Vocabulary("ba").token_codepoints
    assert (codepoints.tolist(), codepoints.dtype) == ([0, ord("a"), ord("b")], np.int32)


def test_full_stop_is_a_character_like_any_other() -> None:
    vocabulary = Vocabulary.from_names(["st. john"])
    ids = vocabulary.encode("st. john")
    assert BOUNDARY not in ids
    assert vocabulary.decode(ids) == "st. john"


@given(st.text(min_size=1).filter(lambda text: "\0" not in text))
def test_decode_undoes_encode(text: str) -> None:
    text = text.encode("utf-8", "ignore").decode()
    vocabulary = Vocabulary(text)
    assert vocabulary.decode(vocabulary.encode(text)) == text


@pytest.mark.parametrize("unknown", ["z", "`", "ö", "😀"])  # above, below and far from the known ones
def test_unknown_character_is_named(unknown: str) -> None:
    with pytest.raises(VocabularyError, match=f"does not know '{unknown}' .U\\+{ord(unknown):04X}"):
        Vocabulary("abc").encode("a" + unknown)


@pytest.mark.parametrize(("n", "shown"), [(40, 40), (41, 40), (50, 40)])
def test_many_characters_are_shown_in_part(n: int, shown: int) -> None:
    characters = "".join(map(chr, range(0x4E00, 0x4E00 + n)))
    with pytest.raises(VocabularyError) as error:
        Vocabulary(characters).encode("a")
    more = f" and {n - shown} more" if n > shown else ""
    assert str(error.value).endswith(f"; it knows {characters[:shown]!r}{more}")


def test_encode_codepoints_keeps_the_shape() -> None:
    codepoints = np.array([[97, 98], [99, 97]], dtype=np.int32)
    assert Vocabulary("abc").encode_codepoints(codepoints).tolist() == [[1, 2], [3, 1]]
