"""Equal names in a stream, found without a Python object for each name."""

import numpy as np
from numpy.typing import NDArray


def first_equals(
    stream: NDArray[np.integer], starts: NDArray[np.integer], lengths: NDArray[np.integer]
) -> NDArray[np.integer]:
    """For each name, the number of the first one that equals it: (names,) in the type of `starts`.

    Names begin in the stream at `starts`, (names,), and have `lengths`, (names,), of at least 1 character.
    """
    firsts = np.empty_like(starts)
    by_length = np.argsort(lengths.astype(np.uint16), kind="stable").astype(starts.dtype)
    cuts = np.flatnonzero(np.diff(lengths[by_length])) + 1
    for members in np.split(by_length, cuts):  # names of one length
        length = int(lengths[members[0]])
        # (stream, length) a view of the name that would start at each place -> (members, length)
        rows = np.lib.stride_tricks.sliding_window_view(stream, length)[starts[members]]
        firsts[members] = members[_first_rows(rows)]
    return firsts


def _first_rows(rows: NDArray[np.integer]) -> NDArray[np.int64]:
    """For each of the rows (n, length), the number of the first one that equals it: (n,)."""
    words = np.zeros((len(rows), -(-rows.shape[1] * rows.itemsize // 8)), dtype=np.uint64)
    words.view(rows.dtype)[:, : rows.shape[1]] = rows  # (n, length) -> (n, bytes / 8)
    order = np.lexsort(words.T)  # equal rows together, in their order
    is_first = np.ones(len(order), dtype=np.bool_)
    is_first[1:] = (words[order[1:]] != words[order[:-1]]).any(axis=1)
    firsts = np.empty_like(order)
    firsts[order] = order[is_first][np.cumsum(is_first) - 1]
    return firsts
