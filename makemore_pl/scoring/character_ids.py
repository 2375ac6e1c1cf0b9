"""From code points to a vocabulary's ids, one look-up for all characters of a column."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from makemore_pl.scoring.text_column import TextColumn
from makemore_pl.vocabulary import BOUNDARY, Vocabulary

CODEPOINT_BITS = 21
"""Of the largest code point."""


class ColumnIds(NamedTuple):
    """The ids of n texts of N characters together."""

    ids: NDArray[Any]  # unsigned (N,); of unknown characters, any
    is_known: NDArray[np.bool_]  # (n,): there is a text, and all of its characters are known
    unknown: NDArray[np.object_]  # (n,): a text of those that are not; None where there is no text


class CharacterIds:
    """A vocabulary as a table."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._unknown_id = len(vocabulary)
        # Up to one above the largest code point, which stands for all those above.
        size = int(vocabulary.codepoints[-1]) + 2
        self._id_of = np.full(size, self._unknown_id, dtype=np.min_scalar_type(self._unknown_id))
        self._id_of[vocabulary.codepoints] = np.arange(1, self._unknown_id)

    def __call__(self, texts: TextColumn) -> ColumnIds:
        """Look all characters up."""
        ids = self._id_of.take(texts.codepoints, mode="clip")  # (N,)
        is_known = ~texts.missing
        unknown = np.full(len(is_known), "", dtype=object)
        unknown[texts.missing] = None
        if ids.max(initial=0) == self._unknown_id:
            at = np.flatnonzero(ids == self._unknown_id)
            ids[at] = BOUNDARY
            text_of = np.searchsorted(texts.offsets, at, side="right") - 1
            is_known[text_of] = False
            # Each different character of each text once, in order.
            for pair in np.unique(text_of << CODEPOINT_BITS | texts.codepoints[at]).tolist():
                unknown[pair >> CODEPOINT_BITS] += chr(pair & (1 << CODEPOINT_BITS) - 1)
        return ColumnIds(ids, is_known, unknown)
