"""Characters and their ids. Shared by both halves of the project: NumPy only."""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from makemore_pl.errors import VocabularyError

BOUNDARY = 0
"""Id of the boundary, which starts and ends a name. It is no character: "st. john" keeps its full stop."""


class Vocabulary:
    """The characters of a list of names, sorted by code point, with ids 1 … V-1; id 0 is the boundary.

    Args:
        characters: the different characters, in any order.
    """

    def __init__(self, characters: Iterable[str]) -> None:
        self.characters = "".join(sorted(set(characters)))
        self.codepoints: NDArray[np.int32] = _codepoints(self.characters)

    @classmethod
    def from_names(cls, names: Iterable[str]) -> "Vocabulary":
        """The vocabulary of all characters in `names`."""
        return cls(set().union(*names))

    def __len__(self) -> int:
        """V: the characters and the boundary."""
        return len(self.characters) + 1

    @property
    def token_codepoints(self) -> NDArray[np.int32]:
        """Code point of each id, int32 (V,); 0 for the boundary."""
        return np.concatenate([np.zeros(1, dtype=np.int32), self.codepoints])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.characters == other.characters

    def __repr__(self) -> str:
        return f"Vocabulary({self.characters!r})"

    def encode(self, text: str) -> NDArray[np.int64]:
        """Ids of the characters of `text`, int64 (len(text),), without boundaries.

        Raises:
            VocabularyError: a character is not in the vocabulary; the message names it.
        """
        return self.encode_codepoints(_codepoints(text))

    def encode_codepoints(self, codepoints: NDArray[np.int32]) -> NDArray[np.int64]:
        """Ids of code points, int32 of any shape -> int64 of the same shape; errors as in `encode`."""
        # The characters are sorted, so an id is a position found by bisection, plus 1.
        index = np.searchsorted(self.codepoints, codepoints)
        known = self.codepoints[np.minimum(index, len(self.codepoints) - 1)] == codepoints
        if not known.all():
            unknown = "".join(sorted({chr(c) for c in codepoints[~known].flat}))
            raise VocabularyError(
                f"the model does not know {describe_characters(unknown)}; "
                f"it knows {describe_characters(self.characters)}"
            )
        return index + 1

    def decode(self, tokens: NDArray[Any] | Sequence[int]) -> str:
        """Text of one row of ids, up to the first boundary."""
        name = itertools.takewhile(lambda token: token != BOUNDARY, tokens)
        return "".join(self.characters[int(token) - 1] for token in name)


def _codepoints(text: str) -> NDArray[np.int32]:
    # Bytes of a command line that are not UTF-8 arrive as single surrogates: unknown characters like others.
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<i4").astype(np.int32)


def describe_characters(characters: str, most: int = 40) -> str:
    """`'ö' (U+00F6)` for one character, `"abc"` for several, shortened past `most`."""
    if len(characters) == 1:
        return f"{characters!r} (U+{ord(characters):04X})"
    shown = repr(characters[:most])
    return shown if len(characters) <= most else f"{shown} and {len(characters) - most} more"
