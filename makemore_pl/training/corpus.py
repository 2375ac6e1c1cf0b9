"""From names to examples: splits, one stream of ids, and the windows that a model learns from.

Notation: N examples (windows), T block size, V vocabulary size. Nothing here loops over characters.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from makemore_pl.errors import DataError
from makemore_pl.limits import require_memory
from makemore_pl.vocabulary import BOUNDARY, Vocabulary

MIN_NAMES = 8
"""Fewest names of which 80/10/10 leaves at least one to each split."""


@dataclass(frozen=True)
class Splits:
    """Names to train on, to choose by, and to report."""

    train: list[str]
    dev: list[str]
    test: list[str]


def split_names(names: Sequence[str], *, dedupe: bool, seed: int, source: str = "the list") -> Splits:
    """Shuffle and cut 80/10/10.

    Args:
        names: the list in its order.
        dedupe: keep each name once, so that no name stands in two splits. False, with seed 42, gives
            the split of the makemore lectures exactly.
        seed: of Python's own generator.
        source: the list's name, for the message.

    Raises:
        DataError: too few names.
    """
    shuffled = list(dict.fromkeys(names)) if dedupe else list(names)
    if len(shuffled) < MIN_NAMES:
        different = " different" if dedupe else ""
        raise DataError(
            f"{source}: {len(shuffled)}{different} name{'s' * (len(shuffled) != 1)}; "
            f"at least {MIN_NAMES} are needed for the train, dev and test splits"
        )
    random.Random(seed).shuffle(shuffled)
    n1, n2 = int(0.8 * len(shuffled)), int(0.9 * len(shuffled))
    return Splits(shuffled[:n1], shuffled[n1:n2], shuffled[n2:])


@dataclass(frozen=True)
class TokenStream:
    """Names as one stream of ids, each name followed by one boundary.

    Attributes:
        tokens: uint8 (N,), or uint16 when V > 256.
        offsets: int64 (names + 1,): where each name starts, and N.
    """

    tokens: NDArray[np.uint8] | NDArray[np.uint16]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        """N, the number of examples: every character and every boundary is predicted once."""
        return len(self.tokens)

    @classmethod
    def from_names(cls, names: Sequence[str], vocabulary: Vocabulary) -> "TokenStream":
        """Encode all names at once.

        Raises:
            VocabularyError: a name has a character outside the vocabulary.
            DataError: more different characters than two bytes can tell apart.
        """
        if len(vocabulary) > 1 << 16:
            raise DataError(f"{len(vocabulary) - 1:,} different characters; at most 65,535 are supported")
        lengths = np.fromiter(map(len, names), dtype=np.int64, count=len(names))
        offsets = np.concatenate([[0], np.cumsum(lengths + 1)])
        tokens = np.full(int(offsets[-1]), BOUNDARY, dtype=np.uint8 if len(vocabulary) <= 256 else np.uint16)
        is_character = np.ones(len(tokens), dtype=bool)
        is_character[offsets[1:] - 1] = False
        tokens[is_character] = vocabulary.encode("".join(names))
        return cls(tokens, offsets)

    def windows(self, block_size: int) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
        """Every example: contexts (N, T), padded on the left with boundaries, and targets (N,).

        Raises:
            MemoryLimitError: the contexts would take too much, with the copies that training makes of them.
        """
        each = 2 if self.tokens.dtype == np.uint8 else 10
        require_memory(
            len(self) * block_size * each,
            f"contexts: {len(self):,} examples × {block_size:,} characters × {each} bytes",
        )
        starts = np.repeat(self.offsets[:-1], np.diff(self.offsets))  # (N,) start of the name at each place
        place = np.arange(len(self)) - starts  # (N,) characters before this one in its name
        contexts = np.zeros((len(self), block_size), dtype=self.tokens.dtype)
        for back in range(1, block_size + 1):
            # The column `back` places before the target: the stream shifted, blank before the name's start.
            inside = np.flatnonzero(place >= back)
            contexts[inside, block_size - back] = self.tokens[inside - back]
        return contexts, self.tokens
