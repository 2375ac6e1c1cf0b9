"""Equal names in a stream, found without a Python object for each name."""

import numpy as np
from numpy.typing import NDArray


def first_equals(
    stream: NDArray[np.integer], starts: NDArray[np.integer], lengths: NDArray[np.integer]
) -> NDArray[np.integer]:
    """For each name, the number of the first one that equals it: (names,) in the type of `starts`.

    Args:
        stream: names.
        starts: (names,) where each begins.
        lengths: (names,) in characters, at least 1.
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
    hashes = _hash_rows(words)
    order = np.argsort(hashes)
    same_hash = hashes[order[1:]] == hashes[order[:-1]]
    same_row = (words[order[1:]] == words[order[:-1]]).all(axis=1)
    if (same_hash & ~same_row).any():  # two names of one hash, about once in 10^19 pairs: sort the names
        order = np.lexsort(words.T)
        same_row = (words[order[1:]] == words[order[:-1]]).all(axis=1)
    groups = np.flatnonzero(np.concatenate([[True], ~same_row]))
    sizes = np.diff(groups, append=len(order))
    firsts = np.empty_like(order)
    firsts[order] = np.repeat(np.minimum.reduceat(order, groups), sizes)
    return firsts


def _hash_rows(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A number for each row (n, words); where rows are one word, no two different ones share theirs."""
    hashes = np.zeros(len(words), dtype=np.uint64)
    for word in words.T:
        hashes = (hashes ^ word) * np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio, odd: one to one
        hashes ^= hashes >> np.uint64(32)
    return hashes
